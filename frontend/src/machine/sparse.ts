/** Helpers for sparse blocks. */

import { BLOCK, type BlockRun, type SparseBlocks } from "./machine";

/** The blocks as runs of neighbours, without copying. */
export function* runsOf({ numbers, data }: SparseBlocks): Generator<BlockRun> {
  for (let from = 0, i = 1; from < numbers.length; i++) {
    if (i < numbers.length && numbers[i] === numbers[i - 1]! + 1) continue;
    yield { first: numbers[from]!, data: data.subarray(from * BLOCK, i * BLOCK) };
    from = i;
  }
}
