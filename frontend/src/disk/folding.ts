/** Carries out folding: moves old blocks into a save's new chunks, within what the bound on the save leaves for it. */

import { BLOCK, CHUNK_BLOCKS } from "../machine/machine";
import { compressFrame } from "../machine/zstd";
import { BOUND_LEVEL, LEAF_BYTES, foldBudget, isHot, rankFolds, type ChunkUse } from "./fold";
import { LEAF_BLOCKS } from "./index-node";
import { noRest, wordsOf, type Rest } from "./known";
import { COLD, HOT, type Kind, type Packer } from "./packer";

const WORDS = BLOCK / 4;
/** Of a save with more new blocks, so many chunks' worth is compressed to know what all of it takes: some 50 ms beside the guest. */
const SAMPLE_CHUNKS = 16;

/** What a save sends for one device: new blocks raw (if there are many, some), its bytes compressed, index and folding included, and how many of its blocks went ahead. */
export interface Sent {
  sample: Uint8Array;
  bytes: number;
  ahead: number;
}

/** See `PackOptions`. */
interface FoldOptions {
  local?: (digest: string) => Promise<Uint8Array | undefined>;
  beside?: Sent | undefined;
  aheadBlocks?: number;
  rest?: Rest;
}

interface Touched {
  touchedLeaves: number[];
  nodeBytes(): number;
}

/**
 * Moves the last blocks of chunks that are dead for the most part into the new chunks, so that the old ones are named no longer. It looks
 * at touched leaves and at what else is loaded; a use that it does not see only keeps a chunk alive, so it is a matter of
 * economy and never of correctness. A chunk whose bytes are not at hand is left as it is. `named`: how many of the device's blocks were
 * sent ahead. What is left of the budget begins with the next chunk, which another save will find with fewer blocks.
 */
export async function fold(
  updates: Touched,
  packer: Packer,
  uses: ReadonlyMap<string, ChunkUse>,
  named: number,
  { local, beside, aheadBlocks = 0, rest = noRest }: FoldOptions,
): Promise<Sent | undefined> {
  if (packer.size === 0) return { sample: new Uint8Array(), bytes: updates.nodeBytes(), ahead: named };
  if (!local) return undefined;
  // Without its encoder, which comes over the network once, a save is possible all the same.
  const size = await measure(packer, named, beside, rest).catch(() => undefined);
  if (!size) return undefined;
  const { blockBytes, stream, sample } = size;
  const sent = size.packed + updates.nodeBytes();
  // What went ahead and had changed again by now has been sent as well. The disk comes first: it cannot tell yet.
  const wasted = beside ? Math.max(0, aheadBlocks - beside.ahead - named) * blockBytes : 0;
  const budget = Math.max(0, foldBudget(stream, sent + wasted + (beside?.bytes ?? 0)));
  let left = budget;
  let next: { use: ChunkUse; raw: Uint8Array; blockBytes: number } | undefined;
  for (const { use, cost } of rankFolds(uses.values(), blockBytes)) {
    if (cost > left && next) continue;
    const raw = await local(use.digest);
    if (!raw) continue;
    const alive = rawOf(raw, use.now.values());
    const bytes = (await compressFrame(alive)).length;
    const all = bytes + LEAF_BYTES * use.otherLeaves;
    if (all > left) {
      next ??= { use, raw, blockBytes: (bytes / alive.length) * BLOCK };
      continue;
    }
    left -= all;
    move(packer, use.now, raw, isHot(use) ? HOT : COLD);
    await rest();
  }
  if (next) {
    const touched = new Set(updates.touchedLeaves);
    const here = [...next.use.now].filter(([block]) => touched.has(Math.floor(block / LEAF_BLOCKS)));
    const some = here.slice(0, Math.floor(left / next.blockBytes));
    left -= some.length * next.blockBytes;
    move(packer, some, next.raw, COLD);
  }
  return { sample, bytes: sent + budget - left, ahead: named };
}

function move(
  packer: Packer,
  blocks: Iterable<readonly [number, number]>,
  raw: Uint8Array,
  kind: Kind,
): void {
  const words = wordsOf(raw);
  for (const [block, offset] of blocks) packer.add(block, words, offset * WORDS, kind);
}

/** The blocks of a chunk at these offsets, each once. */
function rawOf(chunk: Uint8Array, offsets: Iterable<number>): Uint8Array {
  const distinct = [...new Set(offsets)].sort((a, b) => a - b);
  const raw = new Uint8Array(distinct.length * BLOCK);
  distinct.forEach((offset, i) => raw.set(chunk.subarray(offset * BLOCK, (offset + 1) * BLOCK), i * BLOCK));
  return raw;
}

/**
 * What the packer's blocks, and as many that were sent ahead, take compressed, in bytes: as chunks, each of them, and as the one stream (with what
 * is `beside`) that the bound on a save speaks of.
 */
async function measure(
  packer: Packer,
  aheadBlocks: number,
  beside: Sent | undefined,
  rest: Rest,
): Promise<{ packed: number; stream: number; blockBytes: number; sample: Uint8Array }> {
  const sample = packer.sample(SAMPLE_CHUNKS);
  let packed = 0;
  for (let at = 0; at < sample.length; at += CHUNK_BLOCKS * BLOCK) {
    packed += (await compressFrame(sample.subarray(at, at + CHUNK_BLOCKS * BLOCK))).length;
    await rest();
  }
  const before = beside?.sample ?? new Uint8Array();
  const both = new Uint8Array(before.length + sample.length);
  both.set(before);
  both.set(sample, before.length);
  const blockBytes = (packed / sample.length) * BLOCK;
  const blocks = packer.size + aheadBlocks;
  const scale = (before.length + blocks * BLOCK) / both.length;
  const stream = (await compressFrame(both, BOUND_LEVEL)).length * scale;
  return { packed: blocks * blockBytes, stream, blockBytes, sample };
}
