import { describe, expect, it } from "vitest";
import { BLOCK } from "../machine/machine";
import { ChunkServer, sparse } from "../testing/chunk-server";
import { Random } from "../testing/random";
import { packDelta } from "./delta";
import { DiskError } from "./errors";
import { Locator } from "./locator";
import { RemoteDisk } from "./remote-disk";
import { ChunkSource } from "./source";
import { IndexTree } from "./tree";

const BLOCKS = 3000;

async function open(server: ChunkServer, root: string, memoryBytes = 1 << 24, readsAhead = true) {
  const locator = new Locator({
    baseUrl: "/chunks/",
    locate: () => Promise.reject(new Error("all is public")),
    publicDevices: ["disk", "memory"],
    leafCounts: { disk: 3, memory: 3 },
  });
  const clock = { sleep: async () => undefined, random: () => 0 };
  const source = new ChunkSource({ locator, fetch: server.fetch, memoryBytes, clock });
  const tree = new IndexTree(root, BLOCKS, (digest) => source.get(digest, "index"));
  const disk = new RemoteDisk(tree, source, "disk");
  if (readsAhead) disk.readAhead();
  return { disk, source, tree };
}

describe("RemoteDisk", () => {
  it("behaves like a plain array of blocks, through writes, saves and commits", async () => {
    for (let seed = 1; seed <= 4; seed++) {
      const random = new Random(seed);
      const server = new ChunkServer();
      const model = new Map(Array.from({ length: 300 }, () => [random.below(BLOCKS), random.bytes(BLOCK)]));
      // Little memory: chunks come and go.
      const { disk, tree } = await open(server, await server.putDevice(BLOCKS, sparse(model)), 20 * BLOCK);
      let parent = tree;
      for (let step = 0; step < 120; step++) {
        const first = random.below(BLOCKS - 80);
        const count = 1 + random.below(80);
        const action = random.below(10);
        if (action < 4) {
          const data = random.bytes(BLOCK);
          disk.write(first, data);
          model.set(first, data);
        } else if (action < 9) {
          const expected = Array.from(
            { length: count },
            (_, i) => model.get(first + i) ?? new Uint8Array(BLOCK),
          );
          const now = disk.readNow(first, count);
          const read = now ?? (await disk.read(first, count));
          expect(Buffer.compare(read, Buffer.concat(expected)), `seed ${seed} step ${step}`).toBe(0);
        } else {
          const frozen = disk.freeze();
          const late = random.bytes(BLOCK);
          disk.write(first, late);
          model.set(first, late);
          if (random.below(3) === 0) continue; // the save failed
          const delta = await packDelta(parent, { written: frozen });
          for (const raw of delta.chunks.values()) await server.put(raw);
          parent = parent.successor(delta.root, delta.nodes);
          disk.rebase(parent);
          expect(disk.dirtyBlocks).toBe(1);
        }
      }
    }
  });

  it("reads nothing for zeros and for what was written", async () => {
    const server = new ChunkServer();
    const { disk } = await open(server, "");
    const data = new Random(1).bytes(BLOCK);
    disk.write(7, data);
    expect(disk.readNow(7, 1)).toEqual(data);
    expect(disk.readNow(8, 1)).toEqual(new Uint8Array(BLOCK));
    expect(server.requests).toHaveLength(0);
  });

  it("rejects when a chunk cannot be had, and has it when it is back", async () => {
    const server = new ChunkServer();
    const data = new Random(2).bytes(BLOCK);
    const { disk } = await open(server, await server.putDevice(BLOCKS, sparse(new Map([[5, data]]))));
    server.interfere = () => "unreachable";
    expect(disk.readNow(5, 1)).toBeUndefined();
    await expect(disk.read(5, 1)).rejects.toThrow(DiskError);
    server.interfere = () => undefined;
    expect(await disk.read(5, 1)).toEqual(data);
  });

  it("has what a save of its writes needs before the network goes", async () => {
    const server = new ChunkServer();
    const random = new Random(5);
    const base = random.bytes(BLOCK);
    const { disk, tree } = await open(
      server,
      await server.putDevice(BLOCKS, sparse(new Map([[2500, base]]))),
    );
    disk.write(2501, random.bytes(BLOCK));
    await expect.poll(() => tree.leafNow(2)).toBeDefined();
    server.interfere = () => "unreachable";
    const delta = await packDelta(tree, { written: disk.freeze() });
    expect(delta.changedBlocks).toBe(1);
  });

  it("loses nothing when a save is committed while a read is under way", async () => {
    const server = new ChunkServer();
    const random = new Random(3);
    const base = random.bytes(BLOCK);
    const { disk, tree } = await open(server, await server.putDevice(BLOCKS, sparse(new Map([[50, base]]))));
    const mine = random.bytes(BLOCK);
    disk.write(51, mine);
    const reading = disk.read(50, 2);
    const delta = await packDelta(tree, { written: disk.freeze() });
    disk.rebase(tree.successor(delta.root, delta.nodes));
    expect(Buffer.compare(await reading, Buffer.concat([base, mine]))).toBe(0);
  });

  it("reads ahead of a sequential reader, not of a random one, and not before it is told to", async () => {
    const random = new Random(4);
    const server = new ChunkServer();
    const blocks = new Map(Array.from({ length: 1280 }, (_, i) => [i, random.bytes(BLOCK)]));
    const root = await server.putDevice(BLOCKS, sparse(blocks));
    const scattered = await open(server, root);
    for (const block of [640, 64, 900, 192]) await scattered.disk.read(block, 8);
    const alone = scattered.source.traffic.disk.requests;
    expect(alone).toBe(4);
    const sequential = await open(server, root);
    for (let block = 0; block < 256; block += 32) await sequential.disk.read(block, 32);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(sequential.source.traffic.disk.requests).toBeGreaterThan(6);
    expect(sequential.disk.readNow(256, 64)).toBeDefined();
    const booting = await open(server, root, 1 << 24, false);
    for (let block = 0; block < 256; block += 32) await booting.disk.read(block, 32);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(booting.source.traffic.disk.requests).toBe(4);
  });

  it("refuses what is not whole blocks of the disk", async () => {
    const { disk } = await open(new ChunkServer(), "");
    expect(() => disk.write(0, new Uint8Array(512))).toThrow();
    expect(() => disk.write(BLOCKS, new Uint8Array(BLOCK))).toThrow();
    await expect(disk.read(BLOCKS - 1, 2)).rejects.toThrow();
  });
});
