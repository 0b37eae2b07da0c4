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

/** Sparse blocks of one device, one after the other, whose numbers ascend over all of them. */
export function joinSparse(parts: readonly SparseBlocks[]): SparseBlocks {
  const count = parts.reduce((sum, { numbers }) => sum + numbers.length, 0);
  const joined = { numbers: new Uint32Array(count), data: new Uint8Array(count * BLOCK) };
  let at = 0;
  for (const { numbers, data } of parts) {
    joined.numbers.set(numbers, at);
    joined.data.set(data, at * BLOCK);
    at += numbers.length;
  }
  return joined;
}
