/** A server for the tests that keeps to docs/design/protocol.md, and misbehaves as told: slow, forgetful, repeating, dying. */

import type { OpenSocket, SocketEvents } from "./connection";
import type { PutFrame } from "./direct";

export interface Misbehaviour {
  /** Nobody answers the door: every new connection fails. */
  down?: boolean;
  /** A connection is opened but nothing is ever said on it. */
  mute?: boolean;
  /** Cuts the connection after so many chunks on it were stored. */
  dropAfterChunks?: number | undefined;
  /** Carries the commit out, then cuts the connection instead of answering. Counts down. */
  dropAfterCommit?: number;
  /** Everything is said so many ms late. */
  lateMs?: number;
  /** Everything is said twice. */
  twice?: boolean;
  /** Stores chunks without ever saying so: their credit is gone. Counts down. */
  swallowStored?: number;
  /** Answers a chunk with this error. Counts down with `refuseTimes`. */
  refuse?: { code: string; message: string };
  refuseTimes?: number;
  /** How a question for the lease is answered while somebody has it. */
  askAnswers?: string[];
  /** Answers every `negotiate` that finds something missing with this error. */
  refuseNegotiate?: string;
  /** As many machines of the tenant run as may. */
  noRoom?: boolean;
  /** Signs nothing for want of room. */
  noPlace?: boolean;
  /** Chunks of earlier saves that a commit needs and that are gone. */
  damaged?: string[];
  /** Says that these are missing although they were stored. Counts down. */
  forgetOnce?: string[];
}

interface Connection {
  events: SocketEvents;
  open: boolean;
  stored: number;
  unanswered: number;
  seq: number;
}

type Body = Record<string, unknown> & { id: number; type: string };

/** An object store that takes PUTs, as told. */
export class FakeObjectStore {
  readonly objects = new Map<string, Uint8Array>();
  puts = 0;
  mostUnderWay = 0;
  /** What each PUT is answered with, by its number; `false`: it is not answered. 200 by default, then it is kept. */
  answer: (put: number) => number | false | Promise<number | false> = () => 200;
  private underWay = 0;

  readonly put: PutFrame = async (url, headers, body, signal) => {
    this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay);
    try {
      const status = await this.answer(++this.puts);
      await new Promise((resolve) => setTimeout(resolve, 1));
      signal.throwIfAborted();
      if (status === false) throw new TypeError("Failed to fetch");
      if (!url.endsWith(headers["x-amz-checksum-sha256"] ?? "none")) return 403;
      if (status === 200 && this.objects.has(url)) return 412;
      if (status < 300) this.objects.set(url, body);
      return status;
    } finally {
      this.underWay--;
    }
  };
}

export class FakeServer {
  mood: Misbehaviour = {};
  credit = 4;
  head: string | null = null;
  epoch = 0;
  lease: { session: string; holder: string } | undefined;
  readonly stored = new Map<string, Uint8Array>();
  /** Where the client may put frames itself; undefined: nowhere. */
  store: FakeObjectStore | undefined;
  readonly commits: Record<string, unknown>[] = [];
  readonly byKey = new Map<string, string>();
  /** The most chunk frames that were ever under way at once. */
  mostUnderWay = 0;
  chunkFrames = 0;
  connectionCount = 0;
  released = 0;
  asked = 0;
  yields = 0;
  /** What watchers and holders sent about watching. */
  readonly watching: unknown[] = [];
  readonly frames: Uint8Array[] = [];
  renewals = 0;
  private readonly connections = new Set<Connection>();

  readonly open: OpenSocket = (_url, events) => {
    const connection: Connection = { events, open: false, stored: 0, unanswered: 0, seq: 0 };
    this.connectionCount++;
    setTimeout(() => {
      if (this.mood.down) {
        events.close(1006, "");
        return;
      }
      connection.open = true;
      this.connections.add(connection);
      events.open();
    }, 1);
    return {
      send: (data) => {
        if (!connection.open) throw new Error("not open");
        if (typeof data === "string") this.request(connection, JSON.parse(data) as Body);
        else this.chunk(connection, data);
      },
      close: () => this.forget(connection),
    };
  };

  /** Cuts all connections, as a killed server does. */
  kill(code = 1006): void {
    for (const connection of [...this.connections]) this.drop(connection, code);
  }

  /** Somebody else takes the lease. */
  takeAway(holder: string): void {
    this.lease = { session: "somebody-else", holder };
    this.epoch++;
  }

  hint(kind: string, skip = 0): void {
    for (const connection of this.connections) {
      connection.seq += 1 + skip;
      this.say(connection, { type: "hint", seq: connection.seq, kind });
    }
  }

  /** Tells everybody something nobody asked for. */
  tell(message: Record<string, unknown>): void {
    for (const connection of this.connections) this.say(connection, message);
  }

  /** Relays a frame of a screen to everybody. */
  show(frame: Uint8Array): void {
    for (const connection of this.connections) connection.events.message(frame.slice().buffer);
  }

  private request(connection: Connection, body: Body): void {
    if (this.mood.mute) return;
    const answer = (more: Record<string, unknown>): void =>
      this.say(connection, { id: body.id, ok: true, ...more });
    const refuse = (code: string, more: Record<string, unknown> = {}): void =>
      this.say(connection, { id: body.id, ok: false, error: { code, message: `refused: ${code}`, ...more } });
    if ("epoch" in body && body["epoch"] !== this.epoch) return refuse("lease_lost");
    switch (body.type) {
      case "lease": {
        const session = String(body["session"]);
        if (this.mood.noRoom) return refuse("session_quota_exceeded", { sessions: 2, max_sessions: 2 });
        if (this.lease && this.lease.session !== session && body["take_over"] !== true) {
          const since = "2026-01-01T00:00:00Z";
          return refuse("lease_held", { holder: this.lease.holder, since, yours: false });
        }
        if (this.lease?.session !== session) this.epoch++;
        this.lease = { session, holder: "me" };
        return answer({ epoch: this.epoch, expires_in: 30, head: this.head, credit: this.credit });
      }
      case "renew":
        this.renewals++;
        return answer({ expires_in: 30 });
      case "release":
        this.released++;
        this.lease = undefined;
        return answer({});
      case "ask": {
        this.asked++;
        if (!this.lease || this.lease.session === body["session"]) return answer({ state: "free" });
        return answer({ state: this.mood.askAnswers?.shift() ?? "silent" });
      }
      case "yield":
        this.yields++;
        return answer({});
      case "watch":
      case "seen":
        this.watching.push({ ...body });
        return answer({});
      case "negotiate": {
        const asked = (body["chunks"] as [string, number][]).map(([digest]) => digest);
        const missing = asked.filter((digest) => !this.stored.has(digest));
        for (const digest of this.mood.forgetOnce ?? []) this.stored.delete(digest);
        delete this.mood.forgetOnce;
        if (missing.length > 0 && this.mood.refuseNegotiate) return refuse(this.mood.refuseNegotiate);
        return answer({ missing, direct: this.store !== undefined });
      }
      case "place": {
        if (this.mood.noPlace) return refuse("quota_exceeded");
        const frames = body["frames"] as [string, number, string][];
        const absent = frames.filter(([digest]) => this.store && !this.stored.has(digest));
        const placed = absent.map(([digest, , sha]) => [
          digest,
          { url: `https://s3/up/${digest}.${sha}`, headers: { "x-amz-checksum-sha256": sha } },
        ]);
        return answer({ put: Object.fromEntries(placed) });
      }
      case "uploaded": {
        const stored: string[] = [];
        const refused: Record<string, unknown> = {};
        for (const [digest, , sha] of body["frames"] as [string, number, string][]) {
          const frame = this.store?.objects.get(`https://s3/up/${digest}.${sha}`);
          if (this.mood.refuse) refused[digest] = this.mood.refuse;
          else if (frame) {
            this.stored.set(digest, frame);
            stored.push(digest);
          } else refused[digest] = { code: "upload_missing", message: "" };
        }
        return answer({ stored, refused });
      }
      case "commit":
        return this.commit(connection, body, answer, refuse);
      default:
        return refuse("bad_request");
    }
  }

  private commit(
    connection: Connection,
    body: Body,
    answer: (more: Record<string, unknown>) => void,
    refuse: (code: string, more?: Record<string, unknown>) => void,
  ): void {
    const key = String(body["idempotency_key"]);
    const before = this.byKey.get(key);
    const snapshot = (id: string): Record<string, unknown> => ({
      snapshot: { id, message: "", created_at: "" },
    });
    if (before) return answer(snapshot(before));
    const wanted = [body["disk_root"], body["memory_root"]].map(String);
    wanted.push(...(this.mood.damaged ?? []));
    const lacking = wanted.filter((digest) => !this.stored.has(digest));
    if (lacking.length > 0) return refuse("missing_chunks", { digests: lacking });
    if (body["expected_head"] !== this.head) return refuse("head_moved", { head: this.head });
    const id = `snapshot-${this.commits.length + 1}`;
    this.commits.push(body);
    this.byKey.set(key, id);
    this.head = id;
    if (this.mood.dropAfterCommit) {
      this.mood.dropAfterCommit--;
      return this.drop(connection, 1006);
    }
    answer(snapshot(id));
  }

  private chunk(connection: Connection, data: Uint8Array): void {
    if (data[0] === 2) return void this.frames.push(data.slice());
    this.chunkFrames++;
    connection.unanswered++;
    this.mostUnderWay = Math.max(this.mostUnderWay, connection.unanswered);
    const digest = Array.from(data.subarray(1, 33), (b) => b.toString(16).padStart(2, "0")).join("");
    setTimeout(() => {
      if (!connection.open) return;
      if (this.mood.refuse && (this.mood.refuseTimes ?? Infinity) > 0) {
        if (this.mood.refuseTimes !== undefined) this.mood.refuseTimes--;
        connection.unanswered--;
        return this.say(connection, { type: "refused", digest, error: this.mood.refuse, credit: 1 });
      }
      this.stored.set(digest, data.slice(33));
      connection.stored++;
      if (this.mood.dropAfterChunks !== undefined && connection.stored > this.mood.dropAfterChunks) {
        return this.drop(connection, 1006);
      }
      if (this.mood.swallowStored) {
        this.mood.swallowStored--;
        return;
      }
      connection.unanswered--;
      this.say(connection, { type: "stored", digest, credit: 1 });
    }, 1);
  }

  private say(connection: Connection, message: Record<string, unknown>): void {
    const text = JSON.stringify(message);
    const times = this.mood.twice ? 2 : 1;
    for (let i = 0; i < times; i++) {
      const deliver = (): void => {
        if (connection.open) connection.events.message(text);
      };
      if (this.mood.lateMs) setTimeout(deliver, this.mood.lateMs);
      else queueMicrotask(deliver);
    }
  }

  private drop(connection: Connection, code: number): void {
    if (!connection.open) return;
    this.forget(connection);
    connection.events.close(code, "");
  }

  private forget(connection: Connection): void {
    connection.open = false;
    this.connections.delete(connection);
  }
}
