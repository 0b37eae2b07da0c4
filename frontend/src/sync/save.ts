/**
 * One save, from what is to be stored to the snapshot: negotiate, upload what is missing under the credit window, commit.
 * Whatever happens to the connection or the server on the way, it goes on until the snapshot is there or the service says no;
 * every try has the same idempotency key, so it becomes one snapshot at most.
 */

import type { SyncClient, Online } from "./client";
import { Bug, Cancelled, ConnectionLost, Expected } from "./errors";
import { NEGOTIATE_BATCH, refusal, type SnapshotInfo } from "./protocol";

export interface SaveWork {
  /** The snapshot this work started from, null for a fresh VM. */
  expectedHead: string | null;
  diskRoot: string;
  memoryRoot: string;
  message: string;
  /** Base64 PNG or WebP, at most 64 KiB; null: none. */
  thumbnail: string | null;
  idempotencyKey: string;
  /** `auto`: nobody asked for it, and the next save takes its place. */
  kind?: "save" | "auto";
  /** Raw bytes that did not have to be sent since the parent has them. */
  reusedBytes: number;
  /** Digest and raw size of every new chunk and index node, each once. */
  chunks: readonly (readonly [digest: string, rawSize: number])[];
  /** The zstd frame of one of them. Asked for only when it is about to be sent: the memory in use stays within the window. */
  frame(digest: string): Promise<Uint8Array>;
  /** The service has this chunk of ours now. */
  stored?(digest: string): void;
  /** Waited for when all chunks are there, before the commit is sent. */
  beforeCommit?(): Promise<void>;
}

/** The part of it that is about chunks. */
export type ChunkWork = Pick<SaveWork, "chunks" | "frame" | "stored">;

export interface SaveProgress {
  phase: "waiting" | "negotiating" | "uploading" | "committing";
  /** Raw bytes that the service has now, of those that it lacked. */
  doneBytes: number;
  totalBytes: number;
  /** Compressed bytes sent so far. */
  uploadedBytes: number;
}

export interface SaveResult {
  snapshot: SnapshotInfo;
  uploadedBytes: number;
  /** How often the work was taken up again after a lost connection. */
  retries: number;
}

/** Errors of a chunk or a request that pass by themselves. */
const PASSING = new Set(["store_unavailable", "too_fast", "unavailable"]);
const MOST_REFUSALS = 5;
const LARGEST_CHUNK = 256 << 10;

/**
 * Carries out a save. `signal` cancels it until the commit is sent; from then on it is seen through, since it may have been
 * carried out. Rejects with `Expected` (`head_moved`, `lease_lost`, `quota_exceeded`, …) or `Cancelled`.
 */
export async function save(
  client: SyncClient,
  work: SaveWork,
  onProgress: (progress: SaveProgress) => void = () => undefined,
  signal?: AbortSignal,
): Promise<SaveResult> {
  const sizes = new Map(work.chunks);
  const progress: SaveProgress = { phase: "waiting", doneBytes: 0, totalBytes: 0, uploadedBytes: 0 };
  const report = (phase: SaveProgress["phase"]): void => onProgress({ ...progress, phase });
  const again = new Map<string, number>();
  const stored = new Set<string>();
  let retries = 0;
  let refusals = 0;
  let committing = false;
  const aborted = new Promise<never>((_resolve, reject) => {
    if (signal?.aborted) reject(new Cancelled());
    signal?.addEventListener("abort", () => committing || reject(new Cancelled()), { once: true });
  });
  aborted.catch(() => undefined);
  const unlessAborted = <T>(work: Promise<T>): Promise<T> =>
    committing ? work : Promise.race([work, aborted]);
  for (;;) {
    report("waiting");
    const online = await unlessAborted(client.whenOnline());
    try {
      report("negotiating");
      const asked = [...work.chunks, ...again];
      const { missing, direct } = await unlessAborted(negotiate(client, online, asked));
      for (const digest of missing) {
        if (!again.has(digest) && !sizes.has(digest))
          throw new Bug(`the service asks for a chunk that is not ours: ${digest}`);
        stored.delete(digest);
      }
      progress.doneBytes = 0;
      progress.totalBytes = 0;
      for (const digest of [...missing, ...stored]) progress.totalBytes += sizes.get(digest) ?? 0;
      for (const digest of stored) progress.doneBytes += sizes.get(digest) ?? 0;
      report("uploading");
      const during = committing ? undefined : signal;
      const on = {
        sent: (bytes: number) => void (progress.uploadedBytes += bytes),
        stored: (digest: string) => {
          stored.add(digest);
          work.stored?.(digest);
          progress.doneBytes += sizes.get(digest) ?? 0;
          report("uploading");
        },
      };
      await send(client, online, missing, direct, work, during, on);
      await unlessAborted(work.beforeCommit?.() ?? Promise.resolve());
      report("committing");
      committing = true;
      const snapshot = await commit(client, online, work);
      return { snapshot, uploadedBytes: progress.uploadedBytes, retries };
    } catch (error) {
      if (!(error instanceof Expected)) throw error;
      if (error instanceof ConnectionLost) {
        retries++;
        continue;
      }
      if (error.code === "lease_lost") {
        await client.renewOrLose(online);
        // Still ours (it had only run out): the next round goes on with the epoch of now. Otherwise whenOnline() says so.
        if (++refusals > MOST_REFUSALS) throw error;
        continue;
      }
      if (error.code === "missing_chunks") {
        // Chunks of earlier saves may be gone, or damaged: those that are at hand here are sent again.
        for (const digest of lacking(error)) if (!sizes.has(digest)) again.set(digest, LARGEST_CHUNK);
      } else if (!PASSING.has(error.code)) throw error;
      if (++refusals > MOST_REFUSALS) throw error;
      if (PASSING.has(error.code)) await pause(client.timing.backoffFirstMs * 2 ** refusals);
    }
  }
}

function lacking(error: Expected): string[] {
  const { digests } = error.details;
  return Array.isArray(digests) ? digests.map(String) : [];
}

/**
 * Brings chunks to the service that a save to come will name: nothing is committed. One try; rejects as `save` does, and with
 * `ConnectionLost`. Resolves with the compressed bytes that were sent.
 */
export async function store(client: SyncClient, work: ChunkWork, signal?: AbortSignal): Promise<number> {
  const online = await client.whenOnline();
  if (signal?.aborted) throw new Cancelled();
  const { missing, direct } = await negotiate(client, online, work.chunks);
  let uploaded = 0;
  const on = {
    sent: (bytes: number) => void (uploaded += bytes),
    stored: (digest: string) => work.stored?.(digest),
  };
  await send(client, online, missing, direct, work, signal, on);
  return uploaded;
}

/** Sends `missing`: straight into the object store what may go there, the rest through the socket. */
async function send(
  client: SyncClient,
  online: Online,
  missing: string[],
  direct: boolean,
  work: ChunkWork,
  signal: AbortSignal | undefined,
  on: { sent(bytes: number): void; stored(digest: string): void },
): Promise<void> {
  const frame = (digest: string): Promise<Uint8Array> => work.frame(digest);
  const left = direct
    ? await client.direct.upload(client, online, missing, { frame, signal, ...on })
    : missing;
  await upload(client, online, left, work, signal, on);
}

/** What the service lacks, and whether it may be put straight into the object store. */
async function negotiate(
  client: SyncClient,
  online: Online,
  chunks: SaveWork["chunks"],
): Promise<{ missing: string[]; direct: boolean }> {
  const missing: string[] = [];
  let direct = false;
  for (let at = 0; at < chunks.length; at += NEGOTIATE_BATCH) {
    const batch = chunks.slice(at, at + NEGOTIATE_BATCH);
    const body = { epoch: online.epoch, chunks: batch };
    const answer = await online.connection.request("negotiate", body, client.timing.requestMs);
    if (!Array.isArray(answer["missing"])) throw new Bug("negotiate was answered without `missing`");
    for (const digest of answer["missing"]) missing.push(String(digest));
    direct ||= answer["direct"] === true;
  }
  return { missing, direct };
}

async function commit(client: SyncClient, online: Online, work: SaveWork): Promise<SnapshotInfo> {
  const body = {
    epoch: online.epoch,
    expected_head: work.expectedHead,
    disk_root: work.diskRoot,
    memory_root: work.memoryRoot,
    message: work.message,
    thumbnail: work.thumbnail,
    idempotency_key: work.idempotencyKey,
    reused_bytes: work.reusedBytes,
    kind: work.kind ?? "save",
  };
  const answer = await online.connection.request("commit", body, client.timing.commitMs);
  const snapshot = answer["snapshot"] as SnapshotInfo | undefined;
  if (!snapshot || typeof snapshot.id !== "string") throw new Bug("commit was answered without a snapshot");
  return snapshot;
}

/** Sends `missing` on one connection, never more at once than it has credit for. */
async function upload(
  client: SyncClient,
  online: Online,
  missing: string[],
  work: ChunkWork,
  signal: AbortSignal | undefined,
  on: { sent(bytes: number): void; stored(digest: string): void },
): Promise<void> {
  const { connection } = online;
  let wake: () => void = () => undefined;
  let failure: Error | undefined;
  const fail = (error: Error): void => {
    failure ??= error;
    wake();
  };
  client.onChunk = ({ digest, error }) => {
    if (error) fail(refusal(error));
    else on.stored(digest);
    wake();
  };
  void connection.closed.then(() => fail(new ConnectionLost("closed during the upload")));
  const abort = (): void => fail(new Cancelled());
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort);
  try {
    let next = 0;
    // After a failure nothing more is sent, but what is under way is waited for: the next try starts with a clean window.
    while (connection.chunksUnderWay > 0 || (!failure && next < missing.length)) {
      if (!failure && next < missing.length && connection.credit > 0) {
        const digest = missing[next++] as string;
        const frame = await work.frame(digest);
        if (failure) continue; // it happened while the frame was made
        connection.sendChunk(digest, frame);
        on.sent(frame.length);
        continue;
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(
          () => connection.abandon("no chunk was stored for too long"),
          client.timing.stallMs,
        );
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    if (failure) throw failure;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
