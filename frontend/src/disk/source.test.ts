import { describe, expect, it } from "vitest";
import { BLOCK, CHUNK } from "../machine/machine";
import { ChunkServer, sparse } from "../testing/chunk-server";
import { Random } from "../testing/random";
import { DiskError } from "./errors";
import { Locator } from "./locator";
import { MAX_ATTEMPTS, REFUSED_ATTEMPTS, type Clock } from "./retry";
import { ChunkSource } from "./source";
import type { ChunkCache } from "./cache";

class Cache implements ChunkCache {
  readonly entries = new Map<string, Uint8Array>();

  async get(digest: string): Promise<Uint8Array | undefined> {
    return this.entries.get(digest)?.slice();
  }

  async open(digest: string): Promise<ReadableStream<Uint8Array> | undefined> {
    const raw = this.entries.get(digest);
    return raw && (new Response(raw.slice()).body ?? undefined);
  }

  async put(digest: string, raw: Uint8Array | Uint8Array[]): Promise<void> {
    this.entries.set(digest, new Uint8Array(Buffer.concat(Array.isArray(raw) ? raw : [raw])));
  }

  async delete(digest: string): Promise<void> {
    this.entries.delete(digest);
  }
}

function setUp(
  options: { cache?: ChunkCache; memoryBytes?: number; root?: string; isPrivate?: boolean } = {},
) {
  const server = new ChunkServer();
  const slept: number[] = [];
  const clock: Clock = { sleep: async (ms) => void slept.push(ms), random: () => 0.5 };
  const time = { now: 0 };
  const locator = new Locator({
    baseUrl: "/chunks/",
    locate: (_, leaves) => server.locate(options.root ?? root.value, 2000, leaves),
    publicDevices: options.isPrivate ? [] : ["disk", "memory"],
    leafCounts: { disk: 2, memory: 2 },
    now: () => time.now,
  });
  const root = { value: "" };
  const heard: { digest: string; isPublic: boolean }[] = [];
  const source = new ChunkSource({
    locator,
    fetch: server.fetch,
    cache: options.cache,
    memoryBytes: options.memoryBytes ?? 1 << 24,
    clock,
    onChunk: (digest, _, isPublic) => heard.push({ digest, isPublic }),
  });
  return { server, source, slept, locator, root, heard, time };
}

const random = new Random(3);
const PLACE = { device: "disk", leaf: 0 } as const;

describe("ChunkSource", () => {
  it("test_it_works: fetches once, then has it", async () => {
    const { server, source } = setUp();
    const raw = random.bytes(BLOCK);
    const digest = await server.put(raw);
    expect(await source.get(digest, "disk")).toEqual(raw);
    expect(await source.get(digest, "disk")).toEqual(raw);
    expect(source.peek(digest)).toEqual(raw);
    expect(source.traffic.disk).toMatchObject({ requests: 1, bytes: BLOCK, failures: 0 });
  });

  it("shares one request among those who want a chunk at the same time", async () => {
    const { server, source } = setUp();
    const digest = await server.put(random.bytes(BLOCK));
    await Promise.all(Array.from({ length: 20 }, () => source.get(digest, "disk")));
    expect(server.requests).toHaveLength(1);
  });

  it("gets over failures that pass, waiting longer each time", async () => {
    const { server, source, slept } = setUp();
    const raw = random.bytes(BLOCK);
    const digest = await server.put(raw);
    const trouble = [
      "unreachable",
      new Response("", { status: 503 }),
      new Response("", { status: 429 }),
    ] as const;
    server.interfere = (_, times) => trouble[times];
    expect(await source.get(digest, "disk")).toEqual(raw);
    expect(slept).toHaveLength(3);
    expect(slept).toEqual([...slept].sort((a, b) => a - b));
  });

  it.each([
    ["a server that answers 500", new Response("", { status: 500 }), MAX_ATTEMPTS, /answered 500/],
    ["a server that cannot be reached", "unreachable" as const, MAX_ATTEMPTS, /could not be reached/],
    ["a chunk that is missing", new Response("", { status: 404 }), REFUSED_ATTEMPTS, /answered 404/],
  ])("gives up on %s with a clear error, and can be asked again", async (_, answer, attempts, message) => {
    const { server, source } = setUp();
    const raw = random.bytes(BLOCK);
    const digest = await server.put(raw);
    server.interfere = () => (answer instanceof Response ? answer.clone() : answer);
    const error = await source.get(digest, "disk").catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DiskError);
    expect((error as DiskError).message).toMatch(message);
    expect((error as DiskError).message).toContain(digest.slice(0, 12));
    expect(server.requests).toHaveLength(attempts);
    server.interfere = () => undefined;
    expect(await source.get(digest, "disk")).toEqual(raw);
  });

  it("fetches once more past the caches when the bytes are wrong", async () => {
    const cache = new Cache();
    const { server, source } = setUp({ cache });
    const raw = random.bytes(BLOCK);
    const digest = await server.put(raw);
    server.interfere = (_, __, mode) => (mode === "reload" ? undefined : new Response(random.bytes(BLOCK)));
    expect(await source.get(digest, "disk")).toEqual(raw);
    expect(server.requests.map((request) => request.cache)).toEqual(["default", "reload"]);
    expect(cache.entries.get(digest)).toEqual(raw);
  });

  it.each([
    ["wrong", () => new Response(random.bytes(BLOCK))],
    ["empty", () => new Response(new Uint8Array(0))],
    ["too many", () => new Response(random.bytes(CHUNK + BLOCK))],
  ])("never gives out bytes that stay %s", async (_, answer) => {
    const cache = new Cache();
    const { server, source, heard } = setUp({ cache });
    const digest = await server.put(random.bytes(BLOCK));
    server.interfere = answer;
    await expect(source.get(digest, "disk")).rejects.toThrow(/not what was stored/);
    expect([source.peek(digest), cache.entries.size, heard.length]).toEqual([undefined, 0, 0]);
  });

  it("checks what the cache gives, and replaces it when it is bad", async () => {
    const cache = new Cache();
    const first = setUp({ cache });
    const raw = random.bytes(BLOCK);
    const digest = await first.server.put(raw);
    await first.source.get(digest, "disk");

    const second = setUp({ cache });
    expect(await second.source.get(digest, "disk")).toEqual(raw);
    expect(second.server.requests).toHaveLength(0);
    expect(second.heard).toEqual([{ digest, isPublic: true }]);

    cache.entries.get(digest)![9]! ^= 1;
    const third = setUp({ cache });
    await third.server.put(raw);
    expect(await third.source.get(digest, "disk")).toEqual(raw);
    expect(third.server.requests).toHaveLength(1);
  });

  it("keeps to its bound of memory, least recently used first", async () => {
    const { server, source } = setUp({ memoryBytes: 3 * BLOCK });
    const digests = await Promise.all([1, 2, 3, 4].map(() => server.put(random.bytes(BLOCK))));
    for (const digest of digests.slice(0, 3)) await source.get(digest, "disk");
    source.peek(digests[0]!);
    await source.get(digests[3]!, "disk");
    expect(digests.map((digest) => source.peek(digest) !== undefined)).toEqual([true, false, true, true]);
    expect(source.size).toEqual({ chunks: 3, bytes: 3 * BLOCK });
  });

  it("asks the server where private chunks are, and again when the address has ended", async () => {
    const { server, source, root, heard } = setUp({ isPrivate: true });
    const blocks = new Map([0, 700, 1500].map((n) => [n, random.bytes(BLOCK)]));
    const delta = await server.putDevice(2000, {
      numbers: Uint32Array.from(blocks.keys()),
      data: new Uint8Array(Buffer.concat([...blocks.values()])),
    });
    root.value = delta;
    const [chunk] = [...server.chunks].find(([, raw]) => raw.length === 3 * BLOCK)!;
    server.private.add(chunk);
    await source.get(chunk, "disk", PLACE);
    expect([server.locates, heard]).toEqual([1, [{ digest: chunk, isPublic: false }]]);

    const other = setUp({ isPrivate: true, root: delta, memoryBytes: 1 });
    for (const raw of server.chunks.values()) await other.server.put(raw);
    other.server.private.add(chunk);
    await other.source.get(chunk, "disk", PLACE);
    other.server.signature = 2;
    await other.source.get(chunk, "disk", PLACE);
    expect(other.server.locates).toBe(2);
    // An address is renewed before its end, without a refusal.
    other.time.now = 295_000;
    other.server.signature = 3;
    const before = other.server.requests.length;
    await other.source.get(chunk, "disk", PLACE);
    expect([other.server.locates, other.server.requests.length]).toEqual([3, before + 1]);
  });

  it("treats a server that does not say where a chunk is as a failed read", async () => {
    const { source } = setUp({ isPrivate: true, root: "00".repeat(32) });
    await expect(source.get("ab".repeat(32), "disk", PLACE)).rejects.toThrow(/did not say where/);
  });
});

describe("packs", () => {
  it("brings many chunks in one request, and in none the next time", async () => {
    const cache = new Cache();
    const { server, source } = setUp({ cache });
    const digests = await Promise.all([5, CHUNK, BLOCK].map((length) => server.put(random.bytes(length))));
    const pack = await server.putPack(digests);
    await source.loadPack(pack, "warm_pack");
    for (const digest of digests) expect(source.peek(digest)).toEqual(server.chunk(digest));
    expect(server.requests).toHaveLength(1);

    const later = setUp({ cache });
    await later.source.loadPack(pack, "warm_pack");
    for (const digest of digests) expect(later.source.peek(digest)).toEqual(server.chunk(digest));
    expect(later.server.requests).toHaveLength(0);
  });

  it("leaves out an entry that is not what it says", async () => {
    const { server, source } = setUp();
    const digests = await Promise.all([1, 2, 3].map(() => server.put(random.bytes(BLOCK))));
    const pack = await server.putPack(digests);
    const bytes = server.chunk(pack).slice();
    bytes[bytes.length - BLOCK - 1]! ^= 1;
    server.interfere = (digest) => (digest === pack ? new Response(bytes) : undefined);
    await source.loadPack(pack, "warm_pack");
    expect(digests.map((digest) => source.peek(digest) !== undefined)).toEqual([true, false, true]);
    expect(await source.get(digests[1]!, "memory")).toEqual(server.chunk(digests[1]!));
  });

  it.each([
    ["is cut short", (pack: Uint8Array) => pack.subarray(0, pack.length - 9)],
    ["is something else", () => new Uint8Array(4000)],
    ["promises a huge entry", (pack: Uint8Array) => pack.slice().fill(255, 40, 44)],
  ])("rejects one that %s, and keeps what was good", async (_, spoil) => {
    const { server, source } = setUp();
    const digests = await Promise.all([1, 2].map(() => server.put(random.bytes(BLOCK))));
    const pack = await server.putPack(digests);
    const spoilt = spoil(server.chunk(pack));
    server.interfere = (digest) => (digest === pack ? new Response(new Uint8Array(spoilt)) : undefined);
    await expect(source.loadPack(pack, "warm_pack")).rejects.toThrow(DiskError);
    expect(await source.get(digests[1]!, "memory")).toEqual(server.chunk(digests[1]!));
  });
});

describe("many chunks at once", () => {
  const SHELF = "memory-vm";

  async function device(options: { cache?: Cache; isPrivate?: boolean } = {}) {
    const all = setUp(options);
    const blocks = new Map(Array.from({ length: 100 * 16 }, (_, i) => [i, random.bytes(BLOCK)]));
    all.root.value = await all.server.putDevice(2000, sparse(blocks));
    const wanted = new Map<string, typeof PLACE>();
    for (const { digest } of await all.server.tree(all.root.value, 2000).leaf(0)) wanted.set(digest, PLACE);
    const load = () => all.source.getMany(wanted, "memory", SHELF);
    const here = () => [...wanted.keys()].filter((digest) => all.source.peek(digest)).length;
    return { ...all, wanted, load, here };
  }

  it("come in bundles, and stand together on a shelf for the next time", async () => {
    const cache = new Cache();
    const { server, source, wanted, load, here, root } = await device({ cache });
    await load();
    expect(here()).toBe(wanted.size);
    expect(server.requests).toHaveLength(0);
    expect(server.bundles).toBeLessThanOrEqual(3);
    expect(source.traffic.memory.requests).toBe(server.bundles);
    expect([...cache.entries.keys()]).toEqual([SHELF]);
    const later = setUp({ cache });
    later.root.value = root.value;
    await later.source.getMany(wanted, "memory", SHELF);
    expect([...wanted.keys()].every((digest) => later.source.peek(digest))).toBe(true);
    expect(later.source.traffic.memory).toMatchObject({ requests: 0, cachedRequests: 1 });
  });

  it("are kept only when they are what was asked for; the others are had singly", async () => {
    const { server, source, wanted, load, here } = await device();
    const [bad, gone] = [...wanted.keys()] as [string, string];
    server.spoil = (digest, raw) =>
      digest === bad ? raw.map((byte) => byte ^ 1) : digest === gone ? undefined : raw;
    await load();
    expect(here()).toBe(wanted.size - 2);
    for (const digest of [bad, gone]) {
      expect(await source.get(digest, "memory", PLACE)).toEqual(server.chunk(digest));
    }
  });

  it("are left to single requests where there are no bundles, and where one breaks off", async () => {
    const { server, source, wanted, load, here } = await device();
    server.bundling = "refused";
    await load();
    expect(here()).toBe(0);
    server.bundling = "cut";
    await load();
    expect(here()).toBeGreaterThan(0);
    expect(here()).toBeLessThan(wanted.size);
    await Promise.all([...wanted].map(([digest]) => source.get(digest, "memory", PLACE)));
    expect(here()).toBe(wanted.size);
  });

  it("are asked for under their signed names when they are private, and never called public", async () => {
    const { server, wanted, load, here, heard } = await device({ isPrivate: true });
    const [secret] = [...wanted.keys()] as [string];
    server.private.add(secret);
    await load();
    expect(here()).toBe(wanted.size);
    expect(heard.filter(({ isPublic }) => !isPublic).map(({ digest }) => digest)).toEqual([secret]);
  });

  it("survive a shelf that is damaged", async () => {
    const cache = new Cache();
    const { wanted, load, here } = await device({ cache });
    cache.entries.set(SHELF, random.bytes(5000));
    await load();
    expect(here()).toBe(wanted.size);
  });

  it("are written into the cache when the time has come", async () => {
    const cache = new Cache();
    const { source, load } = await device({ cache });
    source.holdWrites();
    await load();
    expect(cache.entries.size).toBe(0);
    await source.releaseWrites();
    expect(cache.entries.size).toBe(1);
  });
});
