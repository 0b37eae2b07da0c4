/**
 * The next index of a device from its parent's and what changed: new data is packed into chunks, only the leaves that were
 * touched and the nodes above them are written anew, everything else keeps its digest.
 */

import { BLOCK, type SparseBlocks } from "../machine/machine";
import { sha256 } from "./digest";
import { isHot, leafBytes, type ChunkUse } from "./fold";
import { fold, type Sent } from "./folding";
import {
  FAN_OUT,
  LEAF_BLOCKS,
  encodeNode,
  isLeaf,
  mergeExtents,
  type Extent,
  type Interior,
} from "./index-node";
import { isZeroBlock, noRest, sameWords, wordsOf, type KnownBlocks, type Location, type Rest } from "./known";
import { COLD, HOT, Packer } from "./packer";
import type { IndexTree } from "./tree";

export interface Changes {
  /** Blocks with their new content (which may be zeros, or what the parent has). */
  written: SparseBlocks;
  /** Numbers of blocks that are zeros now, ascending. */
  cleared?: Uint32Array;
}

export interface PackOptions {
  /** Blocks that need not be packed because a chunk has them. */
  known?: KnownBlocks;
  /** Chunks that are never folded, because nobody pays for keeping them. */
  isPublic?: (digest: string) => boolean;
  /** Bytes of a chunk of the parent that need no network; folding and comparing use it when they can. */
  local?: (digest: string) => Promise<Uint8Array | undefined>;
  /** Chunks that were sent ahead of this save, which no snapshot names yet. */
  isAhead?: (digest: string) => boolean;
  /** What the same save sends for its other device: the bound is on both together, and one may be like the other. */
  beside?: Sent | undefined;
  /** How many blocks went ahead since the last save, for both devices. Those that the save does not name count too. */
  aheadBlocks?: number;
  rest?: Rest;
}

export type { Rest } from "./known";

export interface Delta {
  root: string;
  /** What is new, children before the nodes that name them: raw bytes by digest. */
  chunks: Map<string, Uint8Array>;
  /** The index nodes among `chunks`. */
  nodes: Map<string, Uint8Array>;
  /** Raw bytes of blocks that were packed, and of changed blocks that were found in chunks that exist. */
  packedBytes: number;
  reusedBytes: number;
  /** Blocks that differ from the parent. */
  changedBlocks: number;
  /** Numbers of those that hold something. */
  written: ReadonlySet<number>;
  /** For the other device of the same save; nothing without an encoder. */
  sent: Sent | undefined;
  /** Numbers of the leaves that the changed blocks are in. */
  touchedLeaves: number[];
  /** Data chunks that those leaves name. */
  named: Set<string>;
}

const WORDS = BLOCK / 4;

export async function packDelta(
  parent: IndexTree,
  changes: Changes,
  options: PackOptions = {},
): Promise<Delta> {
  const { numbers, data } = changes.written;
  const words = wordsOf(data);
  const updates = new Updates(parent);
  let reusedBytes = 0;
  let aheadBlocks = 0;

  const zeroes: number[] = [...(changes.cleared ?? [])];
  const candidates: number[] = [];
  for (let i = 0; i < numbers.length; i++) {
    if (isZeroBlock(words, i * WORDS)) zeroes.push(numbers[i]!);
    else candidates.push(i);
  }
  for (const block of zeroes) await updates.clear(block);

  const differing = await withoutUnchanged(candidates, numbers, words, updates, options);
  const { rest = noRest } = options;
  const places = options.known ? await options.known.find(data, rest) : [];
  const packer = new Packer();
  for (const i of differing) {
    const place = places[i];
    if (place) {
      await updates.set(numbers[i]!, place);
      reusedBytes += BLOCK;
      if (options.isAhead?.(place.digest)) aheadBlocks++;
    } else {
      packer.add(numbers[i]!, words, i * WORDS);
      // Its old place counts no longer; the new one is known when the chunks are cut.
      await updates.clear(numbers[i]!);
    }
  }
  const uses = await updates.uses(options.isPublic);
  await sortByLife(updates, packer, uses);
  const sent = await fold(updates, packer, uses, aheadBlocks, options);

  const chunks = await packer.finish(rest);
  for (const { block, place } of packer.places(chunks)) await updates.set(block, place);
  const nodes = await updates.write();
  return {
    root: updates.root,
    chunks: new Map([...chunks.map(({ digest, raw }): [string, Uint8Array] => [digest, raw]), ...nodes]),
    nodes,
    packedBytes: chunks.reduce((sum, { raw }) => sum + raw.length, 0),
    reusedBytes,
    changedBlocks: zeroes.length + differing.length,
    written: new Set(differing.map((i) => numbers[i]!)),
    sent,
    touchedLeaves: updates.touchedLeaves,
    named: updates.named(),
  };
}

/** Blocks as chunks of their own, twins once: raw bytes by digest. */
export async function packBlocks(
  blocks: readonly Uint8Array[],
  rest: Rest = noRest,
): Promise<Map<string, Uint8Array>> {
  const packer = new Packer();
  blocks.forEach((block, i) => packer.add(i, wordsOf(block), 0));
  return new Map((await packer.finish(rest)).map(({ digest, raw }) => [digest, raw]));
}

/** Leaves out the blocks that hold just what the parent has at that place, as far as that can be told without the network. */
async function withoutUnchanged(
  candidates: number[],
  numbers: Uint32Array,
  words: Int32Array,
  updates: Updates,
  options: PackOptions,
): Promise<number[]> {
  const differing: number[] = [];
  for (const i of candidates) {
    if (i % 64 === 63) await options.rest?.();
    const old = await updates.get(numbers[i]!);
    const chunk = old && (await options.local?.(old.digest));
    if (old && chunk && sameWords(words, i * WORDS, wordsOf(chunk), old.offset * WORDS)) continue;
    differing.push(i);
  }
  return differing;
}

/** The new content of touched leaves: for each of their blocks where its bytes are. */
class Updates {
  root = "";
  private readonly leaves = new Map<number, (Location | undefined)[]>();

  constructor(readonly parent: IndexTree) {
    this.root = parent.root;
  }

  get touchedLeaves(): number[] {
    return [...this.leaves.keys()];
  }

  /** What the parent has. */
  async get(block: number): Promise<Location | undefined> {
    const extents = await this.parent.leaf(Math.floor(block / LEAF_BLOCKS));
    const first = block % LEAF_BLOCKS;
    const extent = extents.find((one) => one.first <= first && first < one.first + one.count);
    return extent && { digest: extent.digest, offset: extent.offset + first - extent.first };
  }

  async set(block: number, place: Location): Promise<void> {
    (await this.leaf(block))[block % LEAF_BLOCKS] = place;
  }

  async clear(block: number): Promise<void> {
    (await this.leaf(block))[block % LEAF_BLOCKS] = undefined;
  }

  /** The data chunks that the touched leaves name. */
  named(): Set<string> {
    const named = new Set<string>();
    for (const places of this.leaves.values()) {
      for (const place of places) if (place) named.add(place.digest);
    }
    return named;
  }

  /** About what the new leaves take compressed: digests do not compress. */
  nodeBytes(): number {
    let bytes = 0;
    for (const places of this.leaves.values()) {
      const named = new Set<string>();
      let extents = 0;
      let before: Location | undefined;
      for (const place of places) {
        if (place) {
          named.add(place.digest);
          if (before?.digest !== place.digest || before.offset + 1 !== place.offset) extents++;
        }
        before = place;
      }
      bytes += leafBytes(named.size, extents);
    }
    return bytes;
  }

  /**
   * The chunks that touched leaves name, or did in the parent, but for those that `isPublic` knows. Uses by other leaves count as far as those
   * are loaded.
   */
  async uses(isPublic: (digest: string) => boolean = () => false): Promise<Map<string, ChunkUse>> {
    const uses = new Map<string, ChunkUse>();
    for (const index of this.leaves.keys()) {
      for (const extent of await this.parent.leaf(index)) {
        if (isPublic(extent.digest)) continue;
        const use = uses.get(extent.digest) ?? newUse(extent.digest);
        uses.set(extent.digest, use);
        countBefore(use, extent);
      }
    }
    for (const [index, places] of this.leaves) {
      for (const [first, place] of places.entries()) {
        if (place) uses.get(place.digest)?.now.set(index * LEAF_BLOCKS + first, place.offset);
      }
    }
    for (let index = 0; index < this.parent.leafCount; index++) {
      if (this.leaves.has(index)) continue;
      const named = new Set<ChunkUse>();
      for (const extent of this.parent.leafNow(index) ?? []) {
        const use = uses.get(extent.digest);
        if (!use) continue;
        countBefore(use, extent);
        const block = index * LEAF_BLOCKS + extent.first;
        for (let i = 0; i < extent.count; i++) use.now.set(block + i, extent.offset + i);
        named.add(use);
      }
      for (const use of named) use.otherLeaves++;
    }
    return uses;
  }

  /** Encodes the touched leaves and every node above them; returns the new ones, children first. */
  async write(): Promise<Map<string, Uint8Array>> {
    const nodes = new Map<string, Uint8Array>();
    const add = async (level: number, index: number, raw: Uint8Array): Promise<string> => {
      const digest = await sha256(raw);
      if (digest !== (await this.parent.digestAt(level, index))) nodes.set(digest, raw);
      return digest;
    };
    let changed = new Map<number, string>();
    for (const [index, places] of [...this.leaves].sort(([a], [b]) => a - b)) {
      const extents = mergeExtents(extentsOf(places));
      changed.set(index, extents.length === 0 ? "" : await add(0, index, encodeNode({ level: 0, extents })));
    }
    for (let level = 1; level <= this.parent.rootLevel; level++) {
      const above = new Map<number, Map<number, string>>();
      for (const [index, digest] of changed) {
        const slots = above.get(Math.floor(index / FAN_OUT)) ?? new Map<number, string>();
        above.set(Math.floor(index / FAN_OUT), slots);
        slots.set(index % FAN_OUT, digest);
      }
      changed = new Map();
      for (const [index, slots] of above) {
        const children = replaceChildren(await this.parent.nodeAt(level, index), slots);
        changed.set(
          index,
          children.length === 0 ? "" : await add(level, index, encodeNode({ level, children })),
        );
      }
    }
    this.root = changed.get(0) ?? this.parent.root;
    return nodes;
  }

  private async leaf(block: number): Promise<(Location | undefined)[]> {
    if (block >= this.parent.blocks) throw new Error("a block behind the end of its device");
    const index = Math.floor(block / LEAF_BLOCKS);
    let places = this.leaves.get(index);
    if (!places) {
      places = new Array<Location | undefined>(LEAF_BLOCKS).fill(undefined);
      for (const extent of await this.parent.leaf(index)) {
        for (let i = 0; i < extent.count; i++) {
          places[extent.first + i] = { digest: extent.digest, offset: extent.offset + i };
        }
      }
      this.leaves.set(index, places);
    }
    return places;
  }
}

function replaceChildren(
  node: Awaited<ReturnType<IndexTree["nodeAt"]>>,
  slots: ReadonlyMap<number, string>,
): Interior["children"] {
  const children = new Map(
    node && !isLeaf(node) ? node.children.map(({ slot, digest }) => [slot, digest]) : [],
  );
  for (const [slot, digest] of slots) {
    if (digest === "") children.delete(slot);
    else children.set(slot, digest);
  }
  return [...children].sort(([a], [b]) => a - b).map(([slot, digest]) => ({ slot, digest }));
}

function* extentsOf(places: (Location | undefined)[]): Generator<Extent> {
  for (const [first, place] of places.entries()) {
    if (place) yield { first, count: 1, digest: place.digest, offset: place.offset };
  }
}

function newUse(digest: string): ChunkUse {
  return { digest, size: 0, before: 0, now: new Map(), otherLeaves: 0 };
}

function countBefore(use: ChunkUse, extent: Extent): void {
  use.before += extent.count;
  use.size = Math.max(use.size, extent.offset + extent.count);
}

/** Tells the packer which blocks are written often, and which had a content already and are not. */
async function sortByLife(
  updates: Updates,
  packer: Packer,
  uses: ReadonlyMap<string, ChunkUse>,
): Promise<void> {
  for (const block of packer.numbers()) {
    const old = await updates.get(block);
    const use = old && uses.get(old.digest);
    if (old) packer.setKind(block, use && isHot(use) ? HOT : COLD);
  }
}
