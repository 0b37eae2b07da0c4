/**
 * Folding: which old blocks a save packs anew, so that a snapshot names few chunks and these are alive for the most part. What is dead
 * in a chunk is fetched with the rest of it.
 */

/** A private chunk that touched leaves name, or did in the parent. */
export interface ChunkUse {
  digest: string;
  /** As many blocks as are known of: the chunk has them at least. */
  size: number;
  /** How often the parent names a block of it. */
  before: number;
  /** The blocks of the device that are still in it, each with its offset in the chunk. */
  now: Map<number, number>;
  /** How many leaves name it that this save has no other reason to write. */
  otherLeaves: number;
}

/**
 * A save sends at most 1.3 times what zstd makes at this level, in one stream, of the blocks that changed: the new blocks first, then index nodes,
 * and folding with what is left of it. A little less, as all of these are estimates.
 */
export const BOUND_LEVEL = 3;
const BOUND = 1.26;
/** Compressed bytes of a block of memory in the middle, and of a leaf with a few dozen refs. */
const BLOCK_BYTES = 750;
export const LEAF_BYTES = 2200;
/** What such a leaf consists of, and its share in the nodes above: digests do not compress. */
const NODE_BYTES = 100;
const REF_BYTES = 33;
const EXTENT_BYTES = 3;
/** What a chunk that is named costs beside its bytes (a request, a ref in every leaf), in blocks. */
const CHUNK_COST = 4;
/** Below this much gained for a block moved, a chunk is better left to die on. */
const LEAST_GAIN = 0.5;
/** A chunk that loses this part of its blocks at once is hot: what it lost was written by what writes often. */
const HOT_SHARE = 1 / 4;
/** The rest of a hot chunk is likely to go by itself soon; it is moved only when it is so few blocks. */
const HOT_REST = 8;

export function isHot({ before, now }: ChunkUse): boolean {
  return before - now.size >= before * HOT_SHARE;
}

/**
 * The chunks that are worth folding and how many bytes that costs each; first those that give the most for it. `newBlockBytes`: what a block
 * of this save takes compressed; the old ones of the same device may be no smaller.
 */
export function rankFolds(
  uses: Iterable<ChunkUse>,
  newBlockBytes: number,
): { use: ChunkUse; cost: number }[] {
  const ranked: { use: ChunkUse; cost: number; gain: number }[] = [];
  const blockBytes = Math.max(BLOCK_BYTES, newBlockBytes);
  for (const use of uses) {
    const left = new Set(use.now.values()).size;
    if (left === 0 || (isHot(use) && left > HOT_REST)) continue;
    const cost = left * blockBytes + LEAF_BYTES * use.otherLeaves;
    const gain = ((use.size - left + CHUNK_COST) * blockBytes) / cost;
    if (gain >= LEAST_GAIN) ranked.push({ use, cost, gain });
  }
  return ranked.sort((a, b) => b.gain - a.gain);
}

/** How many bytes a save may spend on folding whose new blocks take `stream` bytes in one stream, and that sends `sent` bytes anyway. */
export function foldBudget(stream: number, sent: number): number {
  return stream * BOUND - sent;
}

/** What a leaf takes compressed that names so many chunks in so many extents: digests do not compress. */
export function leafBytes(named: number, extents: number): number {
  return NODE_BYTES + named * REF_BYTES + extents * EXTENT_BYTES;
}
