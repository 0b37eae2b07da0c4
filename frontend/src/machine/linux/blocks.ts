/** A saved machine's blocks between the engine and the memory device. */

import { StateError, type ReadBlock, type StateBlock } from "../../../engine/linux/state/contract.ts";
import { BLOCK, type BlockMatcher, type BlockRun, type SparseBlocks } from "../machine";

const WORDS = BLOCK / 4;

function isZero(words: Int32Array, at: number): boolean {
  for (let i = at; i < at + WORDS; i++) if (words[i] !== 0) return false;
  return true;
}

/** Copies of those that are neither zeros nor matched, at most so many, and the numbers of the matched: both ascend. */
export function blocksOf(
  blocks: readonly StateBlock[],
  matches: BlockMatcher,
  most = Infinity,
): { changed: SparseBlocks; matched: Uint32Array } {
  const changed: StateBlock[] = [];
  const matched: number[] = [];
  for (const block of [...blocks].sort((a, b) => a.number - b.number)) {
    if (changed.length >= most) break;
    if (isZero(block.words, block.at)) continue;
    if (matches(block.number, block.words, block.at)) matched.push(block.number);
    else changed.push(block);
  }
  const data = new Uint8Array(changed.length * BLOCK);
  const copies = new Int32Array(data.buffer);
  changed.forEach(({ words, at }, index) => copies.set(words.subarray(at, at + WORDS), index * WORDS));
  return {
    changed: { numbers: Uint32Array.from(changed, ({ number }) => number), data },
    matched: Uint32Array.from(matched),
  };
}

/** Blocks of runs by their number. */
export function readerOf(runs: Iterable<BlockRun>): ReadBlock {
  const blocks = new Map<number, Uint8Array>();
  for (const { first, data } of runs) {
    if (data.length % BLOCK !== 0)
      throw new StateError("bad_state", "The saved memory has a piece of a block.");
    for (let at = 0; at < data.length; at += BLOCK) {
      blocks.set(first + at / BLOCK, data.subarray(at, at + BLOCK));
    }
  }
  return (number) => blocks.get(number);
}
