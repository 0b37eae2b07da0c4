import { afterEach, describe, expect, it } from "vitest";
import { SyncClient, type Timing } from "./client";
import { Cancelled, Expected } from "./errors";
import { FakeServer } from "./fake-server";
import { save, store, type SaveProgress, type SaveWork } from "./save";

const FAST: Timing = {
  openMs: 200,
  requestMs: 120,
  commitMs: 200,
  renewMs: 1000,
  stallMs: 80,
  backoffFirstMs: 4,
  backoffMostMs: 16,
  heldMs: 50,
  fullMs: 50,
  askMs: 5,
  yieldMs: 20,
};
const clients: SyncClient[] = [];

afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

function connect(server: FakeServer): SyncClient {
  const client = new SyncClient({ url: "ws://x/", session: "mine", openSocket: server.open, timing: FAST });
  clients.push(client);
  return client;
}

function digest(n: number): string {
  return n.toString(16).padStart(64, "0");
}

/** Work of `count` chunks; the last two are the roots. Records how many frames were made and never released. */
function work(count: number, more: Partial<SaveWork> = {}): SaveWork & { framesMade: number } {
  const made = {
    expectedHead: null,
    diskRoot: digest(count - 1),
    memoryRoot: digest(count),
    message: "m",
    thumbnail: null,
    idempotencyKey: crypto.randomUUID() as string,
    reusedBytes: 0,
    chunks: Array.from({ length: count }, (_, i) => [digest(i + 1), 4096] as const),
    framesMade: 0,
    frame: async (hex: string) => {
      made.framesMade++;
      return new TextEncoder().encode(`frame of ${hex}`);
    },
    ...more,
  };
  return made;
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe("a save", () => {
  it("uploads what is missing and commits", async () => {
    const server = new FakeServer();
    server.stored.set(digest(1), new Uint8Array());
    const seen: SaveProgress[] = [];
    const result = await save(connect(server), work(10), (progress) => seen.push(progress));
    expect(result.snapshot.id).toBe("snapshot-1");
    expect(server.chunkFrames).toBe(9);
    expect(new TextDecoder().decode(server.stored.get(digest(2)))).toBe(`frame of ${digest(2)}`);
    expect(result.uploadedBytes).toBe(9 * (9 + 64));
    expect(seen.at(-1)).toMatchObject({ phase: "committing", doneBytes: 9 * 4096, totalBytes: 9 * 4096 });
  });

  it("never has more frames under way than the lease granted", async () => {
    const server = new FakeServer();
    server.credit = 3;
    server.mood.lateMs = 3;
    await save(connect(server), work(40));
    expect(server.mostUnderWay).toBe(3);
  });

  it("negotiates many chunks in batches", async () => {
    const server = new FakeServer();
    server.credit = 16;
    const many = work(9000);
    for (const [hex] of many.chunks.slice(0, 8990)) server.stored.set(hex, new Uint8Array());
    await save(connect(server), many);
    expect(server.chunkFrames).toBe(10);
  });

  it.each([
    ["cut in the middle, again and again", { dropAfterChunks: 6 }],
    ["that loses the answer of the commit", { dropAfterCommit: 3 }],
    ["that says everything twice", { twice: true }],
    ["that answers late", { lateMs: 30 }],
    ["that loses credit", { swallowStored: 4 }],
    ["that stored chunks and lost them", { forgetOnce: [digest(3), digest(30)] }],
    [
      "whose store is away for a moment",
      { refuse: { code: "store_unavailable", message: "" }, refuseTimes: 5 },
    ],
  ])("ends as one snapshot with a server %s", async (_name, mood) => {
    const server = new FakeServer();
    server.mood = { ...mood };
    const result = await save(connect(server), work(30));
    expect(result.snapshot.id).toBe("snapshot-1");
    expect(server.commits).toHaveLength(1);
    expect(server.stored.size).toBe(30);
    expect(server.mostUnderWay).toBeLessThanOrEqual(server.credit);
  });

  it("completes by itself when the server is killed in the middle and comes back", async () => {
    const server = new FakeServer();
    const client = connect(server);
    const phases = new Set<string>();
    let killed = false;
    const saving = save(client, work(30), (progress) => {
      phases.add(progress.phase);
      if (progress.doneBytes > 10 * 4096 && !killed) {
        killed = true;
        server.mood.down = true;
        server.kill();
        setTimeout(() => (server.mood.down = false), 100);
      }
    });
    const result = await saving;
    expect(killed).toBe(true);
    expect(result.retries).toBeGreaterThanOrEqual(1);
    expect(server.commits).toHaveLength(1);
    // What was stored before is not sent again, but for what was under way.
    expect(server.chunkFrames).toBeLessThanOrEqual(30 + server.credit);
    expect(phases).toContain("waiting");
    expect(client.state).toMatchObject({ kind: "online", epoch: 1 });
  });

  it("is refused as head_moved when somebody else saved, and changes nothing", async () => {
    const server = new FakeServer();
    server.head = "theirs";
    const error = await failure(save(connect(server), work(4, { expectedHead: "mine" })));
    expect(error).toBeInstanceOf(Expected);
    expect(error).toMatchObject({ code: "head_moved", details: { head: "theirs" } });
    expect(server.commits).toHaveLength(0);
  });

  it("fails with lease_lost when the lease is taken over meanwhile", async () => {
    const server = new FakeServer();
    const client = connect(server);
    await client.whenOnline();
    server.takeAway("Ada");
    expect(await failure(save(client, work(4)))).toMatchObject({ code: "lease_lost" });
    expect(client.state).toMatchObject({ kind: "lost", by: { holder: "Ada" } });
    expect(server.commits).toHaveLength(0);
  });

  it("goes on with a new epoch when the lease had only run out", async () => {
    const server = new FakeServer();
    const client = connect(server);
    await client.whenOnline();
    server.lease = undefined;
    server.epoch = 7;
    await save(client, work(4));
    expect(server.commits[0]).toMatchObject({ epoch: 8 });
  });

  it("tells a refusal that does not pass by itself", async () => {
    const server = new FakeServer();
    server.mood.refuse = { code: "quota_exceeded", message: "The quota is used up." };
    expect(await failure(save(connect(server), work(8)))).toMatchObject({
      code: "quota_exceeded",
      message: "The quota is used up.",
    });
  });

  it("gives up a refusal that should pass but does not", async () => {
    const server = new FakeServer();
    server.mood.refuse = { code: "store_unavailable", message: "away" };
    expect(await failure(save(connect(server), work(3)))).toMatchObject({ code: "store_unavailable" });
  });

  it("can be cancelled while it waits for the network, and the next one works", async () => {
    const server = new FakeServer();
    const client = connect(server);
    await client.whenOnline();
    server.mood.down = true;
    server.kill();
    const cancel = new AbortController();
    const saving = failure(save(client, work(4), undefined, cancel.signal));
    setTimeout(() => cancel.abort(), 20);
    expect(await saving).toBeInstanceOf(Cancelled);
    server.mood.down = false;
    await save(client, work(4));
    expect(server.commits).toHaveLength(1);
  });

  it("cannot be cancelled any more once the commit was sent", async () => {
    const server = new FakeServer();
    server.mood.dropAfterCommit = 1;
    const cancel = new AbortController();
    const result = await save(
      connect(server),
      work(4),
      (progress) => progress.phase === "committing" && setTimeout(() => cancel.abort(), 0),
      cancel.signal,
    );
    expect(result.snapshot.id).toBe("snapshot-1");
  });

  it("asks for a frame only when it may be sent", async () => {
    const server = new FakeServer();
    server.credit = 2;
    server.mood.swallowStored = Infinity;
    const cancel = new AbortController();
    const endless = work(50);
    const saving = failure(save(connect(server), endless, undefined, cancel.signal));
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(endless.framesMade).toBeLessThanOrEqual(2);
    cancel.abort();
    expect(await saving).toBeInstanceOf(Error);
  });

  it("brings a chunk of an earlier save again when that is gone from the service", async () => {
    const server = new FakeServer();
    server.mood.damaged = [digest(77)];
    const client = connect(server);
    const stored: string[] = [];
    await save(client, work(4, { stored: (hex) => void stored.push(hex) }));
    expect(server.stored.has(digest(77))).toBe(true);
    expect(stored).toContain(digest(77));
    expect(server.commits).toHaveLength(1);
  });

  it("says what is missing when that is not at hand", async () => {
    const server = new FakeServer();
    server.mood.damaged = [digest(77)];
    const mine = work(4);
    const frame = async (hex: string): Promise<Uint8Array> => {
      if (hex === digest(77)) throw new Expected("chunk_gone", "not at hand");
      return mine.frame(hex);
    };
    expect(await failure(save(connect(server), { ...mine, frame }))).toMatchObject({ code: "chunk_gone" });
    expect(server.commits).toHaveLength(0);
  });
});

describe("chunks sent ahead", () => {
  it("are stored and committed nowhere, and a save behind them sends only the rest", async () => {
    const server = new FakeServer();
    const client = connect(server);
    const ahead = work(6);
    expect(await store(client, ahead)).toBeGreaterThan(0);
    expect(server.stored.size).toBe(6);
    expect(server.commits).toHaveLength(0);
    server.chunkFrames = 0;
    await save(client, work(8));
    expect(server.chunkFrames).toBe(2);
  });

  it("stop where the connection is lost, and make room when they are cancelled", async () => {
    const server = new FakeServer();
    server.mood.dropAfterChunks = 2;
    expect(await failure(store(connect(server), work(6)))).toMatchObject({ code: "connection_lost" });
    expect(await failure(store(connect(server), work(6), AbortSignal.abort()))).toBeInstanceOf(Cancelled);
  });
});
