import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { BLOCK } from "../machine/machine";
import { ChunkServer, sparse, type Answer } from "../testing/chunk-server";
import { Random } from "../testing/random";
import { Locator, type Place } from "./locator";
import { ChunkSource } from "./source";
import type { ChunkCache } from "./cache";

const BLOCKS = 2048;
const random = new Random(17);

/** A private memory of two leaves of 16 chunks each, behind a CDN, with a pack of each leaf. */
async function setUp(options: { cache?: ChunkCache; packed?: number[] } = {}) {
  const server = new ChunkServer();
  const blocks = new Map(Array.from({ length: BLOCKS }, (_, i) => [i, random.bytes(BLOCK)]));
  const root = await server.putDevice(BLOCKS, sparse(blocks));
  const wanted = new Map<string, Place>();
  const ofLeaf: string[][] = [];
  const packs: string[] = [];
  for (const leaf of [0, 1]) {
    const digests = (await server.tree(root, BLOCKS).leaf(leaf)).map(({ digest }) => digest);
    ofLeaf.push(digests);
    for (const digest of digests) {
      server.private.add(digest);
      wanted.set(digest, { device: "memory", leaf });
    }
    const pack = await server.putPack(digests);
    server.private.add(pack);
    packs.push(pack);
    if (options.packed?.includes(leaf) ?? true) server.packs.set(leaf, pack);
  }
  const time = { now: 0 };
  const stall = { at: (_url: string, _init: RequestInit): Response | undefined => undefined };
  const locator = new Locator({
    baseUrl: "https://cdn.example/chunks/",
    locate: (_, leaves) => server.locate(root, BLOCKS, leaves),
    publicDevices: [],
    leafCounts: { disk: 0, memory: 2 },
    now: () => time.now,
  });
  await locator.prepare("memory");
  const source = new ChunkSource({
    locator,
    fetch: async (url, init) => stall.at(url, init) ?? server.fetch(url, init),
    cache: options.cache,
    memoryBytes: 1 << 26,
    clock: { sleep: async () => undefined, random: () => 0.5 },
  });
  const progress = vi.fn();
  const load = () => source.getMany(wanted, "memory", "memory-vm", progress);
  const loadRest = (): Promise<unknown> =>
    Promise.all([...wanted].map(([digest, place]) => source.get(digest, "memory", place)));
  const loadAll = async (): Promise<void> => {
    await load();
    await loadRest();
  };
  const here = () => [...wanted.keys()].filter((digest) => source.peek(digest)).length;
  const whole = () => [...wanted.keys()].every((d) => Buffer.compare(source.peek(d)!, server.chunk(d)) === 0);
  const asked = () => server.requests.map(({ digest }) => digest);
  return {
    server,
    stall,
    locator,
    source,
    wanted,
    ofLeaf,
    packs,
    load,
    loadAll,
    loadRest,
    here,
    whole,
    asked,
    progress,
    time,
  };
}

/** What the CDN answers for one pack. */
function answerFor(server: ChunkServer, pack: string, answer: () => Answer): void {
  server.interfere = (digest) => (digest === pack ? answer() : undefined);
}

describe("packs of leaves", () => {
  it("test_it_works: bring all that is wanted, a request for each leaf", async () => {
    const { load, here, wanted, asked, packs, whole, progress } = await setUp();
    await load();
    expect(here()).toBe(wanted.size);
    expect(whole()).toBe(true);
    expect(asked().sort()).toEqual([...packs].sort());
    expect(progress).toHaveBeenCalledTimes(wanted.size);
  });

  it("leave the chunks of a leaf without one to single requests", async () => {
    const { loadAll, whole, asked, packs, ofLeaf } = await setUp({ packed: [1] });
    await loadAll();
    expect(whole()).toBe(true);
    expect(asked().sort()).toEqual([packs[1]!, ...ofLeaf[0]!].sort());
  });

  it("are not asked for when half of the leaf is here already", async () => {
    const { source, loadAll, whole, asked, packs, ofLeaf, server } = await setUp();
    for (const digest of ofLeaf[0]!.slice(0, 8)) source.put(digest, server.chunk(digest));
    await loadAll();
    expect(whole()).toBe(true);
    expect(asked().sort()).toEqual([packs[1]!, ...ofLeaf[0]!.slice(8)].sort());
  });

  it("may have a chunk in common, which counts once", async () => {
    const { server, locator, loadAll, whole, packs, ofLeaf, progress, wanted, asked } = await setUp();
    const both = await server.putPack([...ofLeaf[1]!, ofLeaf[0]![15]!]);
    server.private.add(both);
    server.packs.set(1, both);
    await locator.prepare("memory");
    await loadAll();
    expect(whole()).toBe(true);
    expect(asked().sort()).toEqual([packs[0]!, both].sort());
    expect(progress).toHaveBeenCalledTimes(wanted.size);
  });

  it("are not kept as such: the shelf has what they brought", async () => {
    const kept: string[] = [];
    const cache: ChunkCache = {
      get: async () => undefined,
      open: async () => undefined,
      put: async (key) => void kept.push(key),
      delete: async () => undefined,
    };
    const { load } = await setUp({ cache });
    await load();
    expect(kept).toEqual(["memory-vm"]);
  });

  it.each<[string, (pack: Uint8Array<ArrayBuffer>) => Answer, number]>([
    ["is gone", () => new Response("no", { status: 404 }), 0],
    ["fails", () => new Response("no", { status: 503 }), 0],
    ["cannot be reached", () => "unreachable", 0],
    ["is cut short", (pack) => new Response(pack.slice(0, pack.length / 2)), 7],
    ["is something else", () => new Response(new Uint8Array(4000)), 0],
    ["promises a huge entry", (pack) => new Response(pack.slice().fill(255, 40, 44)), 0],
    ["has a chunk that is not what its digest says", (pack) => new Response(pack.slice().fill(7, -9)), 15],
    ["is empty", () => new Response(null), 0],
  ])("are done without where one %s, and nothing bad is kept", async (_, answer, usable) => {
    const { server, load, loadRest, here, whole, asked, packs, ofLeaf } = await setUp();
    const pack = packs[0]!;
    answerFor(server, pack, () => answer(new Uint8Array(server.chunk(pack))));
    await load();
    expect(here()).toBe(usable + 16);
    await loadRest();
    expect(whole()).toBe(true);
    // Once, and then the chunks that it did not bring.
    expect(asked().filter((digest) => digest === pack)).toHaveLength(1);
    expect(asked().filter((digest) => ofLeaf[0]!.includes(digest))).toHaveLength(16 - usable);
  });

  it("are done without when somebody else's bytes come under their names", async () => {
    const { server, loadAll, whole, packs } = await setUp();
    const foreign = await server.putPack([await server.put(random.bytes(BLOCK))]);
    answerFor(server, packs[0]!, () => new Response(new Uint8Array(server.chunk(foreign))));
    await loadAll();
    expect(whole()).toBe(true);
  });

  it("are not asked for once their signature is over", async () => {
    const { time, loadAll, whole, asked, packs } = await setUp();
    time.now = 300_000;
    await loadAll();
    expect(whole()).toBe(true);
    expect(asked().filter((digest) => packs.includes(digest))).toEqual([]);
  });

  it("are forgotten when a save replaces the leaf", async () => {
    const { locator } = await setUp();
    expect(locator.pack({ device: "memory", leaf: 0 })).toBeDefined();
    locator.rebase({ disk: [], memory: [0] });
    expect(locator.pack({ device: "memory", leaf: 0 })).toBeUndefined();
    expect(locator.pack({ device: "memory", leaf: 1 })).toBeDefined();
  });
});

describe("a pack that stalls", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it.each(["before it begins", "half-way"])("%s is given up, and what came of it is used", async (when) => {
    const { server, stall, load, loadRest, here, whole, packs } = await setUp();
    const pack = packs[0]!;
    if (when === "before it begins") answerFor(server, pack, () => "silence");
    else {
      stall.at = (url, init) => {
        if (!url.includes(pack)) return undefined;
        const raw = server.chunk(pack);
        const start = (controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>): void => {
          controller.enqueue(raw.slice(0, raw.length / 2));
          init.signal?.addEventListener("abort", () => controller.error(new Error("aborted")));
        };
        return new Response(new ReadableStream({ start }));
      };
    }
    const loading = load();
    await vi.advanceTimersByTimeAsync(20_000);
    await loading;
    expect(here()).toBe(when === "half-way" ? 16 + 7 : 16);
    await loadRest();
    expect(whole()).toBe(true);
  });
});
