/**
 * Uploads that go past the socket: frames are put straight into the object store where the service says, and become chunks when it has
 * verified them. What does not get there this way is left for the socket.
 */

import type { Online, SyncClient } from "./client";
import { Bug, Cancelled, Expected } from "./errors";
import { PLACE_BATCH } from "./protocol";

/** Does a PUT; resolves with the HTTP status, rejects when there was no answer. */
export type PutFrame = (
  url: string,
  headers: Record<string, string>,
  body: Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
) => Promise<number>;

/** A browser's fetch. */
export const putWithFetch: PutFrame = async (url, headers, body, signal) => {
  const init: RequestInit = { method: "PUT", headers, body, signal, credentials: "omit" };
  const response = await fetch(url, { ...init, referrerPolicy: "no-referrer" });
  void response.body?.cancel().catch(() => undefined);
  return response.status;
};

/** PUTs under way at once: what a browser opens to a host over HTTP/1.1. */
const CONCURRENT = 6;
/** Batches at once: while one is put and verified, the next is compressed. */
const BATCHES = 2;
/** Tries of a PUT: network errors, 429 and 5xx pass by themselves, or the socket is there instead. */
const ATTEMPTS = 3;
const PUT_TIMEOUT = 30_000;

export interface DirectWork {
  frame(digest: string): Promise<Uint8Array>;
  signal: AbortSignal | undefined;
  sent(bytes: number): void;
  stored(digest: string): void;
}

interface Placed {
  url: string;
  headers: Record<string, string>;
}

type Frame = readonly [digest: string, frame: Uint8Array<ArrayBuffer>, sha256: string];

/** Puts chunks of one save; keeps in mind over saves whether that works at all from here. */
export class DirectUploads {
  /** No PUT has ever been answered: a network or a bucket that does not let us. */
  private barred = false;
  private everAnswered = false;

  constructor(
    private readonly put: PutFrame,
    private readonly pauseMs: number,
  ) {}

  /** Resolves with what is left for the socket. Rejects with `Expected`, also when the connection is lost, and `Cancelled`. */
  async upload(
    client: SyncClient,
    online: Online,
    missing: readonly string[],
    work: DirectWork,
  ): Promise<string[]> {
    const left: string[] = [];
    const gate = new Slots(CONCURRENT);
    const stop = new AbortController();
    const abort = (): void => stop.abort(new Cancelled());
    if (work.signal?.aborted) abort();
    work.signal?.addEventListener("abort", abort);
    let next = 0;
    let full = false;
    const worker = async (): Promise<void> => {
      while (next < missing.length) {
        const batch = missing.slice(next, next + PLACE_BATCH);
        next += PLACE_BATCH;
        if (this.barred || full) {
          left.push(...batch);
          continue;
        }
        try {
          left.push(...(await this.uploadBatch(client, online, batch, work, gate, stop.signal)));
        } catch (error) {
          if (!(error instanceof Expected) || error.code !== "quota_exceeded") throw error;
          // What was signed and never put counts there for a while; the socket knows whether there is really no room.
          full = true;
          left.push(...batch);
        }
      }
    };
    try {
      await Promise.all(Array.from({ length: BATCHES }, worker));
    } catch (error) {
      stop.abort(error);
      throw error;
    } finally {
      work.signal?.removeEventListener("abort", abort);
    }
    return left;
  }

  private async uploadBatch(
    client: SyncClient,
    { connection, epoch }: Online,
    batch: readonly string[],
    work: DirectWork,
    gate: Slots,
    signal: AbortSignal,
  ): Promise<string[]> {
    const frames: Frame[] = [];
    for (const digest of batch) {
      signal.throwIfAborted();
      const frame = (await work.frame(digest)) as Uint8Array<ArrayBuffer>;
      frames.push([digest, frame, hex(await crypto.subtle.digest("SHA-256", frame))]);
    }
    const names = ([digest, frame, sha]: Frame): [string, number, string] => [digest, frame.length, sha];
    const body = { epoch, frames: frames.map(names) };
    const answer = await connection.request("place", body, client.timing.requestMs);
    const places = answer["put"] as Record<string, Placed> | undefined;
    if (typeof places !== "object") throw new Bug("place was answered without `put`");
    const put: Frame[] = [];
    await Promise.all(
      frames.map(async (frame) => {
        const place = places[frame[0]];
        if (!place) return;
        const arrived = await gate.run(() => this.putOne(place, frame[1], work.sent, signal));
        if (arrived) put.push(frame);
      }),
    );
    signal.throwIfAborted();
    const done = new Set<string>();
    if (put.length > 0) {
      const told = { epoch, frames: put.map(names) };
      const taken = await connection.request("uploaded", told, client.timing.commitMs);
      for (const digest of taken["stored"] as string[]) {
        done.add(digest);
        work.stored(digest);
      }
    }
    // Also what was not placed: another tab may have brought it meanwhile, and the socket takes it in any case.
    return batch.filter((digest) => !done.has(digest));
  }

  /** Whether the frame is in the store now. */
  private async putOne(
    { url, headers }: Placed,
    frame: Uint8Array<ArrayBuffer>,
    sent: (bytes: number) => void,
    signal: AbortSignal,
  ): Promise<boolean> {
    for (let attempt = 0; attempt < ATTEMPTS && !this.barred; attempt++) {
      if (attempt > 0) await pause(this.pauseMs * 2 ** attempt * (0.5 + Math.random() / 2));
      if (signal.aborted) return false;
      try {
        sent(frame.length);
        const limit = AbortSignal.any([signal, AbortSignal.timeout(PUT_TIMEOUT)]);
        const status = await this.put(url, headers, frame, limit);
        this.everAnswered = true;
        // 412: it is there already, from a try whose answer was lost. The name says what it must be.
        if (status < 300 || status === 412) return true;
        if (status !== 408 && status !== 409 && status !== 429 && status < 500) return false;
      } catch {
        // No answer: the network, or the bucket does not allow our origin, which looks the same from here.
      }
    }
    if (!this.everAnswered) this.barred = true;
    return false;
  }
}

/** At most so many at once; the others wait in order. */
class Slots {
  private readonly queue: (() => void)[] = [];

  constructor(private free: number) {}

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free--;
    else await new Promise<void>((resolve) => this.queue.push(resolve));
    try {
      return await task();
    } finally {
      const next = this.queue.shift();
      if (next) next();
      else this.free++;
    }
  }
}

function hex(bytes: ArrayBuffer): string {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
