import { afterEach, describe, expect, it } from "vitest";
import { SyncClient } from "./client";
import type { PutFrame } from "./direct";
import { Cancelled } from "./errors";
import { FakeObjectStore, FakeServer } from "./fake-server";
import { save, type SaveWork } from "./save";

const clients: SyncClient[] = [];

afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

function world(wrap = (put: PutFrame): PutFrame => put): {
  server: FakeServer;
  store: FakeObjectStore;
  client: SyncClient;
} {
  const server = new FakeServer();
  const store = new FakeObjectStore();
  server.store = store;
  const client = new SyncClient({
    url: "ws://x/",
    session: "mine",
    openSocket: server.open,
    putFrame: wrap(store.put),
    timing: { requestMs: 200, commitMs: 300, stallMs: 80, backoffFirstMs: 2, backoffMostMs: 8 },
  });
  clients.push(client);
  return { server, store, client };
}

function work(count: number): SaveWork {
  const digest = (n: number): string => n.toString(16).padStart(64, "0");
  return {
    expectedHead: null,
    diskRoot: digest(count - 1),
    memoryRoot: digest(count),
    message: "m",
    thumbnail: null,
    idempotencyKey: crypto.randomUUID(),
    reusedBytes: 0,
    chunks: Array.from({ length: count }, (_, i) => [digest(i + 1), 4096] as const),
    frame: async (hex) => new TextEncoder().encode(`frame of ${hex}`),
  };
}

describe("uploads past the socket", () => {
  it("bring everything when the service has an object store", async () => {
    const { server, store, client } = world();
    const result = await save(client, work(100));
    expect(result.snapshot.id).toBe("snapshot-1");
    expect(server.chunkFrames).toBe(0);
    expect(store.puts).toBe(100);
    expect(store.mostUnderWay).toBe(6);
    expect(result.uploadedBytes).toBe(100 * (9 + 64));
  });

  it.each([
    ["is busy for a moment", (put: number) => (put < 12 ? 503 : 200)],
    ["drops connections now and then", (put: number) => (put % 5 === 3 ? false : 200)],
    ["breaks and answers late", async (put: number) => (put % 3 === 0 ? 500 : 200)],
  ] as const)("try again when the store %s", async (_name, answer) => {
    const { server, store, client } = world();
    store.answer = answer;
    await save(client, work(40));
    expect(server.commits).toHaveLength(1);
    expect(server.stored.size).toBe(40);
    expect(server.chunkFrames).toBeLessThan(10);
  });

  it("go through the socket when the network or the bucket does not let them", async () => {
    const { server, store, client } = world();
    store.answer = () => false;
    await save(client, work(40));
    expect(server.chunkFrames).toBe(40);
    const before = store.puts;
    expect(before).toBeLessThanOrEqual(18);
    server.stored.clear();
    await save(client, { ...work(40), expectedHead: "snapshot-1" });
    expect(server.chunkFrames).toBe(80);
    expect(store.puts, "it is not tried again").toBe(before);
  });

  it.each([403, 400])("leave to the socket what the store refuses with %i", async (status) => {
    const { server, store, client } = world();
    store.answer = (put) => (put === 7 ? status : 200);
    await save(client, work(20));
    expect(server.chunkFrames).toBe(1);
  });

  it("leave to the socket what did not verify", async () => {
    const { server, client } = world();
    server.mood.refuse = { code: "bad_chunk", message: "damaged" };
    server.mood.refuseTimes = 0;
    await save(client, work(20));
    expect(server.chunkFrames).toBe(20);
  });

  it("take an object that is there already for stored", async () => {
    let lost = 0;
    const { server, store, client } = world((put) => async (...args) => {
      const status = await put(...args);
      if (lost++ === 0) throw new TypeError("the PUT arrived, and its answer is lost");
      return status;
    });
    await save(client, work(5));
    expect(server.chunkFrames).toBe(0);
    expect(store.objects.size).toBe(5);
  });

  it("tell that the quota is used up", async () => {
    const { server, client } = world();
    server.mood.refuse = { code: "quota_exceeded", message: "full" };
    await expect(save(client, work(20))).rejects.toMatchObject({ code: "quota_exceeded" });
    expect(server.commits).toHaveLength(0);
  });

  it("leave it to the socket to say whether there is room", async () => {
    const { server, store, client } = world();
    server.mood.noPlace = true;
    await save(client, work(100));
    expect(server.chunkFrames).toBe(100);
    expect(store.puts).toBe(0);
  });

  it("survive a lost connection", async () => {
    const { server, store, client } = world();
    store.answer = (put) => {
      if (put === 30) server.kill();
      return 200;
    };
    const result = await save(client, work(60));
    expect(result.retries).toBe(1);
    expect(server.commits).toHaveLength(1);
    expect(server.chunkFrames).toBe(0);
  });

  it("stop when the save is cancelled", async () => {
    const { store, client } = world();
    const cancel = new AbortController();
    store.answer = async (put) => {
      if (put === 10) cancel.abort();
      return 200;
    };
    await expect(save(client, work(200), undefined, cancel.signal)).rejects.toBeInstanceOf(Cancelled);
    const before = store.puts;
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(store.puts).toBe(before);
    expect(before).toBeLessThan(30);
  });
});
