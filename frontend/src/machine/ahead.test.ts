import { beforeEach, describe, expect, it } from "vitest";
import { KnownBlocks, noRest } from "../disk/known";
import type { ChunkSource } from "../disk/source";
import { Random } from "../testing/random";
import { SentAhead } from "./ahead";
import { BLOCK, type SparseBlocks } from "./machine";

let cache: Map<string, Uint8Array>;
let known: KnownBlocks;
let ahead: SentAhead;

beforeEach(() => {
  cache = new Map();
  known = new KnownBlocks(async (digest) => cache.get(digest));
  const source = { put: (digest: string, raw: Uint8Array) => cache.set(digest, raw) };
  ahead = new SentAhead(source as unknown as ChunkSource, known);
});

/** Blocks of random bytes; `twins` of them are the same. */
function blocks(count: number, seed: number, twins = 0): SparseBlocks {
  const data = new Random(seed).bytes(count * BLOCK);
  for (let i = 1; i < twins; i++) data.copyWithin(i * BLOCK, 0, BLOCK);
  return { numbers: Uint32Array.from({ length: count }, (_, i) => i * 3), data };
}

const none = blocks(0, 0);
const nothing = { disk: new Set<number>(), memory: new Set<number>() };

async function found(what: SparseBlocks): Promise<number> {
  return (await known.find(what.data)).filter(Boolean).length;
}

describe("what is sent ahead", () => {
  it("is found by the save behind it, as far as it arrived", async () => {
    const memory = blocks(100, 1);
    const disk = blocks(100, 2);
    const chunks = (await ahead.pack(1, { disk, memory }, noRest))!;
    expect([...chunks.values()].map((raw) => raw.length / BLOCK)).toEqual([64, 64, 64, 8]);
    expect(await found(memory)).toBe(0);
    const [first, ...rest] = [...chunks.keys()];
    expect(ahead.chunk(first!)).toBe(chunks.get(first!));
    ahead.end(1, rest);
    expect((await found(disk)) + (await found(memory))).toBe(136);
    expect(ahead.chunk(first!)).toBeUndefined();
    expect([...ahead.among([first!, rest[0]!]).keys()]).toEqual([rest[0]]);
  });

  it("is nothing when little is new: twins and what is known count once and not at all", async () => {
    expect(await ahead.pack(1, { disk: none, memory: blocks(63, 1) }, noRest)).toBeUndefined();
    const many = (await ahead.pack(2, { disk: none, memory: blocks(200, 2) }, noRest))!;
    ahead.end(2, [...many.keys()]);
    expect(await ahead.pack(3, { disk: none, memory: blocks(200, 2) }, noRest)).toBeUndefined();
    const twins = (await ahead.pack(4, { disk: none, memory: blocks(128, 3, 65) }, noRest))!;
    expect([...twins.values()].reduce((sum, raw) => sum + raw.length / BLOCK, 0)).toBe(64);
  });

  it("is proposed no more when a snapshot was made without it", async () => {
    const one = blocks(64, 1);
    const other = blocks(64, 2);
    const chunks = (await ahead.pack(1, { disk: one, memory: other }, noRest))!;
    ahead.end(1, [...chunks.keys()]);
    const [named] = [...chunks.keys()];
    ahead.committed(new Set([named!]), nothing);
    expect([await found(one), await found(other)]).toEqual([64, 0]);
    // It may be sent anew.
    expect(await ahead.pack(2, { disk: none, memory: other }, noRest)).toBeDefined();
  });

  it("is not what the last save wrote too: that would have changed again by the next one", async () => {
    const all = Array.from({ length: 100 }, (_, i) => i * 3);
    ahead.committed(new Set(), { disk: new Set(all), memory: new Set(all.slice(0, 30)) });
    const chunks = (await ahead.pack(1, { disk: blocks(100, 1), memory: blocks(100, 2) }, noRest))!;
    expect([...chunks.values()].map((raw) => raw.length / BLOCK)).toEqual([64, 6]);
    ahead.committed(new Set(), nothing);
    expect((await ahead.pack(2, { disk: blocks(100, 1), memory: none }, noRest))!.size).toBe(2);
  });

  it("is bounded: without a commit no more than 64 MiB", async () => {
    for (let round = 1; round <= 5; round++) {
      const chunks = await ahead.pack(round, { disk: none, memory: blocks(4096, round) }, noRest);
      expect(chunks === undefined).toBe(round === 5);
      ahead.end(round, [...(chunks?.keys() ?? [])]);
    }
  });

  it("of an older round changes nothing", async () => {
    const chunks = (await ahead.pack(1, { disk: none, memory: blocks(64, 1) }, noRest))!;
    await ahead.pack(2, { disk: none, memory: blocks(64, 2) }, noRest);
    ahead.end(1, [...chunks.keys()]);
    expect(await found(blocks(64, 1))).toBe(0);
  });
});
