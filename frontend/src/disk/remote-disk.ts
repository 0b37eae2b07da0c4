/** A device read from chunks through its index, with what was written since in an overlay of 4 KiB blocks. */

import { BLOCK, CHUNK_BLOCKS, type BlockDevice, type SparseBlocks } from "../machine/machine";
import { DiskError } from "./errors";
import { LEAF_BLOCKS, type Extent } from "./index-node";
import type { Device } from "./locator";
import { ReadAhead } from "./read-ahead";
import type { ChunkSource } from "./source";
import { findExtent, type IndexTree } from "./tree";

interface Written {
  data: Uint8Array;
  /** The freeze period in which the block was written. */
  period: number;
}

type Part = Uint8Array | { extent: Extent; chunk: Uint8Array };

export class RemoteDisk implements BlockDevice {
  readonly blocks: number;
  private readonly overlay = new Map<number, Written>();
  private period = 0;
  /** Leaves that were asked for because something was written to them. */
  private readonly asked = new Set<number>();
  private ahead: ReadAhead | undefined;

  constructor(
    private tree: IndexTree,
    private readonly source: ChunkSource,
    private readonly device: Device,
  ) {
    this.blocks = tree.blocks;
  }

  /** From now on chunks are fetched ahead of reads: behind runs of them, and along `trails`, see `ReadAheadOptions`. */
  readAhead(trails: readonly (readonly number[])[] = []): void {
    this.ahead = new ReadAhead({
      chunks: Math.ceil(this.blocks / CHUNK_BLOCKS),
      trails,
      isBusy: () => this.source.backlog > 0,
      fetch: (chunk) => this.fetchAhead(chunk),
    });
  }

  get dirtyBlocks(): number {
    return this.overlay.size;
  }

  readNow(firstBlock: number, count: number): Uint8Array | undefined {
    const result = new Uint8Array(count * BLOCK);
    for (let i = 0; i < count; i++) {
      const block = firstBlock + i;
      const written = this.overlay.get(block);
      if (written) {
        result.set(written.data, i * BLOCK);
        continue;
      }
      const extents = this.tree.leafNow(Math.floor(block / LEAF_BLOCKS));
      if (!extents) return undefined;
      const extent = findExtent(extents, block % LEAF_BLOCKS);
      if (!extent) continue;
      const chunk = this.source.peek(extent.digest);
      if (!chunk) return undefined;
      copyBlock(extent, block % LEAF_BLOCKS, chunk, result, i);
    }
    this.noteRead(firstBlock, count);
    return result;
  }

  async read(firstBlock: number, count: number): Promise<Uint8Array> {
    if (firstBlock + count > this.blocks) throw new Error("a read behind the end of the disk");
    this.noteRead(firstBlock, count);
    const parts = await this.gather(firstBlock, count);
    const result = new Uint8Array(count * BLOCK);
    for (let i = 0; i < count; i++) {
      const block = firstBlock + i;
      const part = parts.get(block);
      // The overlay is looked at last: it may have been written while the chunks came.
      const written = this.overlay.get(block);
      if (written) result.set(written.data, i * BLOCK);
      else if (part instanceof Uint8Array) result.set(part, i * BLOCK);
      else if (part) copyBlock(part.extent, block % LEAF_BLOCKS, part.chunk, result, i);
    }
    return result;
  }

  write(firstBlock: number, data: Uint8Array): void {
    const count = data.length / BLOCK;
    if (!Number.isInteger(count) || firstBlock < 0 || firstBlock + count > this.blocks) {
      throw new Error("a write that is not whole blocks of the disk");
    }
    for (let i = 0; i < count; i++) {
      // A frozen block is replaced, never changed: the save that is under way keeps what it captured.
      this.overlay.set(firstBlock + i, { data: data.slice(i * BLOCK, (i + 1) * BLOCK), period: this.period });
      this.askForLeaf(Math.floor((firstBlock + i) / LEAF_BLOCKS));
    }
  }

  freeze(): SparseBlocks {
    this.period++;
    return this.written();
  }

  /** The blocks that `freeze` would give now. A written block is never changed, so they are copied only when they are asked for. */
  written(): SparseBlocks {
    const numbers = Uint32Array.from(this.overlay.keys()).sort();
    const blocks = Array.from(numbers, (block) => this.overlay.get(block)!.data);
    let data: Uint8Array | undefined;
    return {
      numbers,
      get data() {
        if (!data) {
          data = new Uint8Array(blocks.length * BLOCK);
          for (const [i, block] of blocks.entries()) data.set(block, i * BLOCK);
        }
        return data;
      },
    };
  }

  /** What the last `freeze` captured is in `tree` now: only what was written since remains dirty. */
  rebase(tree: IndexTree): void {
    this.tree = tree;
    for (const [block, written] of this.overlay) {
      if (written.period < this.period) this.overlay.delete(block);
    }
  }

  /** A save of this block needs its leaf, and may come when the network has gone. */
  private askForLeaf(leaf: number): void {
    if (this.asked.has(leaf) || this.tree.leafNow(leaf)) return;
    this.asked.add(leaf);
    this.tree.leaf(leaf).then(
      () => undefined,
      () => this.asked.delete(leaf), // the next write asks again, or the save
    );
  }

  /** Where each block's bytes are; a block that is missing in the answer is zeros. */
  private async gather(firstBlock: number, count: number): Promise<Map<number, Part>> {
    const tree = this.tree;
    const parts = new Map<number, Part>();
    const fetches: Promise<void>[] = [];
    for (let block = firstBlock; block < firstBlock + count;) {
      const leaf = Math.floor(block / LEAF_BLOCKS);
      const extents = await tree.leaf(leaf);
      const end = Math.min(firstBlock + count, (leaf + 1) * LEAF_BLOCKS);
      const byChunk = new Map<string, { block: number; extent: Extent }[]>();
      for (; block < end; block++) {
        const written = this.overlay.get(block);
        if (written) {
          // Kept here: a save that is committed meanwhile moves the block from the overlay into the next tree.
          parts.set(block, written.data);
          continue;
        }
        const extent = findExtent(extents, block % LEAF_BLOCKS);
        if (!extent) continue;
        const wanted = byChunk.get(extent.digest) ?? [];
        byChunk.set(extent.digest, wanted);
        wanted.push({ block, extent });
      }
      for (const [digest, wanted] of byChunk) {
        const fetch = this.source.get(digest, "disk", { device: this.device, leaf }).then((chunk) => {
          for (const one of wanted) parts.set(one.block, { extent: one.extent, chunk });
        });
        fetches.push(fetch);
      }
    }
    await Promise.all(fetches);
    return parts;
  }

  private noteRead(firstBlock: number, count: number): void {
    if (!this.ahead) return;
    const first = Math.floor(firstBlock / CHUNK_BLOCKS);
    const last = Math.floor((firstBlock + count - 1) / CHUNK_BLOCKS);
    this.ahead.note({ first, last, block: firstBlock, end: firstBlock + count });
  }

  /** Fetches the chunk with the first block of a 256 KiB piece. Failures are left to the read that needs it. */
  private fetchAhead(chunk: number): Promise<void> | undefined {
    const block = chunk * CHUNK_BLOCKS;
    if (block >= this.blocks) return undefined;
    const leaf = Math.floor(block / LEAF_BLOCKS);
    const fetch = (extents: readonly Extent[]): Promise<unknown> | undefined => {
      const extent = findExtent(extents, block % LEAF_BLOCKS);
      if (!extent || this.source.peek(extent.digest)) return undefined;
      return this.source.get(extent.digest, "disk", { device: this.device, leaf });
    };
    const extents = this.tree.leafNow(leaf);
    const fetching = extents ? fetch(extents) : this.tree.leaf(leaf).then(fetch);
    return fetching?.then(
      () => undefined,
      () => undefined,
    );
  }
}

function copyBlock(extent: Extent, inLeaf: number, chunk: Uint8Array, to: Uint8Array, index: number): void {
  const at = (extent.offset + inLeaf - extent.first) * BLOCK;
  const data = chunk.subarray(at, at + BLOCK);
  if (data.length !== BLOCK) throw new DiskError(extent.digest, "it is shorter than the index says");
  to.set(data, index * BLOCK);
}
