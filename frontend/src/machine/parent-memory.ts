/** The memory of the parent snapshot: what a machine is resumed from, and what its pages are compared with at a save. */

import { LEAF_BLOCKS, type Extent } from "../disk/index-node";
import { isZeroBlock, sameWords, wordsOf, type Rest } from "../disk/known";
import type { ChunkSource } from "../disk/source";
import type { IndexTree } from "../disk/tree";
import { BLOCK, type BlockMatcher, type BlockRun } from "./machine";

const WORDS = BLOCK / 4;

/** All of the memory in runs; what is not in the source any more is fetched. */
export async function memoryRuns(tree: IndexTree, source: ChunkSource): Promise<BlockRun[]> {
  const runs: BlockRun[] = [];
  for (const { leaf, extent } of await allExtents(tree)) {
    const chunk = await source.get(extent.digest, "memory", { device: "memory", leaf });
    const data = chunk.subarray(extent.offset * BLOCK, (extent.offset + extent.count) * BLOCK);
    runs.push({ first: leaf * LEAF_BLOCKS + extent.first, data });
  }
  return runs;
}

export interface ParentMemory {
  matches: BlockMatcher;
  /** The blocks that the parent has and that are in neither list: zeros now. All lists ascend. */
  cleared(matched: Uint32Array, changed: Uint32Array): Uint32Array;
}

/**
 * Compares with the parent's bytes as far as they are at hand: a chunk that has left the memory is read back from the cache on disk, and
 * blocks of one that is not there count as changed.
 */
export async function parentMatcher(tree: IndexTree, source: ChunkSource, rest: Rest): Promise<ParentMemory> {
  const chunkOf = new Int32Array(tree.blocks).fill(-1);
  const offsetOf = new Uint8Array(tree.blocks);
  const chunks: (Int32Array | undefined)[] = [];
  const numbers = new Map<string, number>();
  for (const { leaf, extent } of await allExtents(tree)) {
    let number = numbers.get(extent.digest);
    if (number === undefined) {
      const raw = await source.local(extent.digest);
      number = chunks.push(raw && wordsOf(raw)) - 1;
      numbers.set(extent.digest, number);
      await rest();
    }
    const words = chunks[number];
    for (let i = 0; i < extent.count; i++) {
      // An image's chunks have zeros in them where its memory has: such a block is as good as absent.
      if (words && isZeroBlock(words, (extent.offset + i) * WORDS)) continue;
      chunkOf[leaf * LEAF_BLOCKS + extent.first + i] = number;
      offsetOf[leaf * LEAF_BLOCKS + extent.first + i] = extent.offset + i;
    }
  }
  return {
    matches: (block, words, at) => {
      const chunk = chunks[chunkOf[block]!];
      return chunk !== undefined && sameWords(words, at, chunk, offsetOf[block]! * WORDS);
    },
    cleared: (matched, changed) => {
      const present = new Uint8Array(tree.blocks);
      for (const block of matched) present[block] = 1;
      for (const block of changed) present[block] = 1;
      const cleared: number[] = [];
      chunkOf.forEach((number, block) => {
        if (number >= 0 && !present[block]) cleared.push(block);
      });
      return Uint32Array.from(cleared);
    },
  };
}

async function allExtents(tree: IndexTree): Promise<{ leaf: number; extent: Extent }[]> {
  const all: { leaf: number; extent: Extent }[] = [];
  for (let leaf = 0; leaf < tree.leafCount; leaf++) {
    for (const extent of await tree.leaf(leaf)) all.push({ leaf, extent });
  }
  return all;
}
