import { Zstd } from "@hpcc-js/wasm-zstd";
import { describe, expect, it } from "vitest";
import { BLOCK } from "../machine/machine";
import { compressFrame } from "../machine/zstd";
import { ChunkServer, sparse } from "../testing/chunk-server";
import { Random } from "../testing/random";
import { WORK_BLOCKS, Workload, type Step } from "../testing/workload";
import { packDelta, type Delta } from "./delta";
import type { IndexTree } from "./tree";

const SLOW = 240_000;

/** A machine in steady use, saved again and again. */
class History {
  readonly server = new ChunkServer();
  readonly work: Workload;
  private readonly image = new Set<string>();
  private tree!: IndexTree;

  constructor(seed: number) {
    this.work = new Workload(new Random(seed));
  }

  async begin(): Promise<void> {
    const root = await this.server.putDevice(WORK_BLOCKS, sparse(this.work.image()));
    for (const digest of this.server.chunks.keys()) this.image.add(digest);
    this.tree = this.server.tree(root, WORK_BLOCKS);
    for (let leaf = 0; leaf < this.tree.leafCount; leaf++) await this.tree.leaf(leaf);
  }

  async save({ written, cleared }: Step): Promise<Delta> {
    const delta = await packDelta(
      this.tree,
      { written: sparse(written), cleared: Uint32Array.from(cleared) },
      {
        local: async (digest) => this.server.chunks.get(digest),
        isPublic: (digest) => this.image.has(digest),
      },
    );
    for (const [digest, raw] of delta.chunks) this.server.chunks.set(digest, raw);
    this.tree = this.tree.successor(delta.root, delta.nodes);
    return delta;
  }

  /** What opening fetches beside the image's own chunks: data chunks, their raw bytes, and those that are named. */
  async privatePart(): Promise<{ chunks: number; bytes: number; named: number }> {
    const chunks = new Set<string>();
    let named = 0;
    for (let leaf = 0; leaf < this.tree.leafCount; leaf++) {
      for (const { digest, count } of await this.tree.leaf(leaf)) {
        if (this.image.has(digest)) continue;
        chunks.add(digest);
        named += count * BLOCK;
      }
    }
    const bytes = [...chunks].reduce((sum, digest) => sum + this.server.chunk(digest).length, 0);
    return { chunks: chunks.size, bytes, named };
  }
}

async function uploaded(delta: Delta): Promise<number> {
  let bytes = 0;
  for (const raw of delta.chunks.values()) bytes += (await compressFrame(raw)).length;
  return bytes;
}

describe("a history of saves", () => {
  it.each([1, 2])(
    "uploads at most 1.3 times zstd-3 of the blocks that changed, index and folding included (seed %i)",
    async (seed) => {
      const zstd = await Zstd.load();
      const history = new History(seed);
      await history.begin();
      await history.save(history.work.first());
      for (let save = 2; save <= 20; save++) {
        const step = history.work.next();
        const bytes = await uploaded(await history.save(step));
        const changed = zstd.compress(new Uint8Array(Buffer.concat([...step.written.values()])), 3).length;
        expect(bytes / changed, `save ${save}`).toBeLessThanOrEqual(1.3);
      }
    },
    SLOW,
  );

  it(
    "opens after 200 saves with little more than what it names, and not with what all of them have left",
    async () => {
      const history = new History(4);
      await history.begin();
      await history.save(history.work.first());
      await history.save(history.work.next());
      const early = await history.privatePart();
      let packed = 0;
      let changed = 0;
      for (let save = 3; save <= 200; save++) {
        const step = history.work.next();
        packed += (await history.save(step)).packedBytes / BLOCK;
        changed += step.written.size;
      }
      const late = await history.privatePart();
      // As much is named as after the second save; without folding there would be ten times the chunks by now.
      expect(late.named).toBeLessThan(early.named * 1.2);
      expect(late.bytes).toBeLessThanOrEqual(1.45 * late.named);
      expect(late.chunks).toBeLessThanOrEqual(2 * early.chunks);
      // And what folding packs anew is bounded: in blocks; in bytes, that is what the test above looks at.
      expect(packed).toBeLessThanOrEqual(1.4 * changed);
    },
    SLOW,
  );
});
