import { describe, expect, it } from "vitest";
import { BLOCK, CHUNK } from "../machine/machine";
import { ChunkServer, sparse } from "../testing/chunk-server";
import { Random } from "../testing/random";
import { packDelta } from "./delta";
import { decodeNode } from "./index-node";
import { KnownBlocks } from "./known";

const BLOCKS = 5000;
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

function block(random: Random, palette: number): Uint8Array {
  // Few distinct contents, so that zeros, equal blocks and unchanged blocks all happen.
  const value = random.below(palette);
  return new Uint8Array(BLOCK)
    .fill(value === 0 ? 0 : 1)
    .map((byte, i) => (i < 4 ? value * byte : byte * (i & 7)));
}

describe("packDelta", () => {
  it("reads back what was written, over many saves, like a plain array of blocks", async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const random = new Random(seed);
      const server = new ChunkServer();
      const model = new Map<number, Uint8Array>();
      const known = new KnownBlocks(async (digest) => server.chunks.get(digest));
      let root = "";
      for (let save = 0; save < 12; save++) {
        const written = new Map<number, Uint8Array>();
        const area = random.below(BLOCKS);
        for (let i = random.below(150); i > 0; i--) {
          const number = random.below(3) === 0 ? random.below(BLOCKS) : (area + random.below(200)) % BLOCKS;
          written.set(number, block(random, 40));
        }
        const cleared = [...model.keys()]
          .filter((n) => !written.has(n) && random.below(20) === 0)
          .sort((a, b) => a - b);
        const delta = await packDelta(
          server.tree(root, BLOCKS),
          { written: sparse(written), cleared: Uint32Array.from(cleared) },
          { known, local: async (digest) => (random.below(4) ? server.chunks.get(digest) : undefined) },
        );
        for (const [digest, raw] of delta.chunks) {
          expect(await server.put(raw)).toBe(digest);
          expect(raw.length).toBeLessThanOrEqual(CHUNK);
          if (delta.nodes.has(digest)) decodeNode(raw);
          else if (random.below(2)) known.add(digest, raw);
        }
        root = delta.root;
        for (const [number, data] of written) model.set(number, data);
        for (const number of cleared) model.delete(number);
      }
      const zeros = new Uint8Array(BLOCK);
      for (let number = 0; number < BLOCKS; number++) {
        const right = same(await server.readBlock(root, BLOCKS, number), model.get(number) ?? zeros);
        expect(right, `seed ${seed} block ${number}`).toBe(true);
      }
    }
  }, 20_000);

  it("gives the same root for the same content, whatever came before", async () => {
    const random = new Random(7);
    const server = new ChunkServer();
    const a = new Map([3, 900, 4099].map((n) => [n, random.bytes(BLOCK)]));
    const root = await server.putDevice(BLOCKS, sparse(a));
    const detour = await packDelta(server.tree(root, BLOCKS), {
      written: sparse(new Map([[77, random.bytes(BLOCK)]])),
    });
    for (const raw of detour.chunks.values()) await server.put(raw);
    const back = await packDelta(server.tree(detour.root, BLOCKS), {
      written: sparse(new Map()),
      cleared: Uint32Array.of(77),
    });
    expect(back.root).toBe(root);
    const gone = await packDelta(server.tree(root, BLOCKS), {
      written: sparse(new Map()),
      cleared: Uint32Array.of(3, 900, 4099),
    });
    expect(gone).toMatchObject({ root: "", chunks: new Map() });
  });

  it("costs what changed, not what there is", async () => {
    const random = new Random(8);
    const server = new ChunkServer();
    const blocks = 300_000;
    const full = new Map(Array.from({ length: 400 }, (_, i) => [i * 700, random.bytes(BLOCK)]));
    const root = await server.putDevice(blocks, sparse(full));
    const reads: string[] = [];
    const tree = server.tree(root, blocks);
    const counted = tree.nodeAt.bind(tree);
    tree.nodeAt = async (level, index) => {
      reads.push(`${level}:${index}`);
      return counted(level, index);
    };
    const delta = await packDelta(tree, { written: sparse(new Map([[150_000, random.bytes(BLOCK)]])) });
    // One chunk, one leaf, one interior node, the root.
    expect(delta.chunks.size).toBe(4);
    expect(new Set(reads.filter((read) => read.startsWith("0:"))).size).toBe(1);
    expect(delta).toMatchObject({ changedBlocks: 1, packedBytes: BLOCK, touchedLeaves: [146] });
  });

  it("packs nothing that exists: known blocks, unchanged blocks and twins", async () => {
    const random = new Random(9);
    const server = new ChunkServer();
    const library = random.bytes(4 * BLOCK);
    const known = new KnownBlocks(async (digest) => server.chunks.get(digest));
    known.add(await server.put(library), library);
    const own = random.bytes(BLOCK);
    const root = await server.putDevice(BLOCKS, sparse(new Map([[10, own]])));
    const twin = random.bytes(BLOCK);
    const delta = await packDelta(
      server.tree(root, BLOCKS),
      {
        written: sparse(
          new Map([
            [10, own],
            [11, library.subarray(BLOCK, 2 * BLOCK)],
            [12, library.subarray(2 * BLOCK, 3 * BLOCK)],
            [2000, twin],
            [2001, twin],
          ]),
        ),
      },
      { known, local: async (digest) => server.chunks.get(digest) },
    );
    expect(delta).toMatchObject({ packedBytes: BLOCK, reusedBytes: 2 * BLOCK, changedBlocks: 4 });
  });

  it("pays nothing for zeros, whether a guest writes them or a file is gone", async () => {
    const server = new ChunkServer();
    const zeros = sparse(new Map([5, 6, 2000].map((number) => [number, new Uint8Array(BLOCK)])));
    expect(await packDelta(server.tree("", BLOCKS), { written: zeros })).toMatchObject({
      root: "",
      chunks: new Map(),
      packedBytes: 0,
    });
    const root = await server.putDevice(BLOCKS, sparse(new Map([[5, new Random(3).bytes(BLOCK)]])));
    const gone = await packDelta(server.tree(root, BLOCKS), { written: zeros });
    expect(gone).toMatchObject({ root: "", chunks: new Map(), packedBytes: 0 });
  });

  it("does not take a block for another one with the same hash", async () => {
    const server = new ChunkServer();
    const honest = new Random(1).bytes(BLOCK);
    const liar = new Random(2).bytes(BLOCK);
    const digest = await server.put(honest);
    // The chunk's bytes have become others since they were hashed: as good as a collision.
    const known = new KnownBlocks(async () => liar);
    known.add(digest, honest);
    expect(await known.find(honest)).toEqual([undefined]);
  });

  it("folds a chunk when most of it has been replaced, and only then", async () => {
    const random = new Random(10);
    const server = new ChunkServer();
    const first = new Map(Array.from({ length: 64 }, (_, i) => [i, random.bytes(BLOCK)]));
    const root = await server.putDevice(BLOCKS, sparse(first));
    const [old] = [...server.chunks].find(([, raw]) => raw.length === CHUNK)!;
    const local = async (digest: string): Promise<Uint8Array | undefined> => server.chunks.get(digest);
    const replace = (count: number): Parameters<typeof packDelta>[1] => ({
      written: sparse(new Map(Array.from({ length: count }, (_, i) => [i, random.bytes(BLOCK)]))),
    });
    const reached = async (count: number, options: Parameters<typeof packDelta>[2]): Promise<boolean> => {
      const delta = await packDelta(server.tree(root, BLOCKS), replace(count), options);
      for (const raw of delta.chunks.values()) await server.put(raw);
      for (let i = count; i < 64; i++) {
        expect(same(await server.readBlock(delta.root, BLOCKS, i), first.get(i)!)).toBe(true);
      }
      return server.reach(delta.root).has(old);
    };
    // What is left must be little, and little beside what the save packs anyway.
    expect(await reached(40, { local })).toBe(true);
    expect(await reached(50, { local })).toBe(true);
    expect(await reached(58, { local })).toBe(false);
    expect(await reached(58, { local, isPublic: () => true })).toBe(true);
    expect(await reached(58, {})).toBe(true);
  });
});
