/**
 * The next index of a device from its parent's and what changed: new data is packed into chunks, only the leaves that were
 * touched and the nodes above them are written anew, everything else keeps its digest.
 */

import { BLOCK, CHUNK_BLOCKS, type SparseBlocks } from "../machine/machine";
import { sha256 } from "./digest";
import {
  FAN_OUT,
  LEAF_BLOCKS,
  encodeNode,
  isLeaf,
  mergeExtents,
  type Extent,
  type Interior,
} from "./index-node";
import {
  hashBlock,
  isZeroBlock,
  noRest,
  sameWords,
  wordsOf,
  type KnownBlocks,
  type Location,
  type Rest,
} from "./known";
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
  /** Numbers of the leaves that they are in. */
  touchedLeaves: number[];
  /** Data chunks that those leaves name. */
  named: Set<string>;
}

/** A chunk of deltas is folded when no more than this part of it is still named: its last blocks move into the new chunks. */
const FOLD_BELOW = 1 / 4;

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
    } else {
      packer.add(numbers[i]!, words, i * WORDS);
      // Its old place counts no longer; the new one is known when the chunks are cut.
      await updates.clear(numbers[i]!);
    }
  }
  await fold(updates, packer, options);

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

  /** How many blocks of the touched leaves name each chunk now, and how many did in the parent. */
  async uses(): Promise<Map<string, { before: number; now: number }>> {
    const uses = new Map<string, { before: number; now: number }>();
    const use = (digest: string): { before: number; now: number } => {
      const one = uses.get(digest) ?? { before: 0, now: 0 };
      uses.set(digest, one);
      return one;
    };
    for (const [index, places] of this.leaves) {
      for (const place of places) if (place) use(place.digest).now++;
      for (const extent of await this.parent.leaf(index)) use(extent.digest).before += extent.count;
    }
    return uses;
  }

  /** Uses of chunks by leaves that keep their digest, as far as they are loaded. */
  usesElsewhere(): Map<string, number> {
    const uses = new Map<string, number>();
    for (let index = 0; index < this.parent.leafCount; index++) {
      if (this.leaves.has(index)) continue;
      for (const extent of this.parent.leafNow(index) ?? []) {
        uses.set(extent.digest, (uses.get(extent.digest) ?? 0) + extent.count);
      }
    }
    return uses;
  }

  *blocksOf(digests: ReadonlySet<string>): Generator<{ block: number; place: Location }> {
    for (const [index, places] of this.leaves) {
      for (const [first, place] of places.entries()) {
        if (place && digests.has(place.digest)) yield { block: index * LEAF_BLOCKS + first, place };
      }
    }
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

/** Collects blocks and cuts them into chunks in ascending order; equal blocks are packed once. */
class Packer {
  private readonly blocks = new Map<number, { words: Int32Array; at: number }>();
  private layout: { block: number; chunk: number; offset: number }[] = [];

  add(block: number, words: Int32Array, at: number): void {
    this.blocks.set(block, { words, at });
  }

  async finish(rest: Rest): Promise<{ digest: string; raw: Uint8Array }[]> {
    const distinct: { words: Int32Array; at: number }[] = [];
    const byHash = new Map<number, number>();
    this.layout = [];
    for (const [block, content] of [...this.blocks].sort(([a], [b]) => a - b)) {
      if (this.layout.length % 64 === 63) await rest();
      const hash = hashBlock(content.words, content.at);
      const twin = byHash.get(hash);
      const same = twin === undefined ? undefined : distinct[twin];
      const isSame = same && sameWords(content.words, content.at, same.words, same.at);
      const number = isSame ? twin! : distinct.push(content) - 1;
      if (!isSame) byHash.set(hash, number);
      this.layout.push({
        block,
        chunk: Math.floor(number / CHUNK_BLOCKS),
        offset: number % CHUNK_BLOCKS,
      });
    }
    const chunks: { digest: string; raw: Uint8Array }[] = [];
    for (let from = 0; from < distinct.length; from += CHUNK_BLOCKS) {
      const contents = distinct.slice(from, from + CHUNK_BLOCKS);
      const raw = new Int32Array(contents.length * WORDS);
      contents.forEach(({ words, at }, i) => raw.set(words.subarray(at, at + WORDS), i * WORDS));
      const bytes = new Uint8Array(raw.buffer);
      chunks.push({ digest: await sha256(bytes), raw: bytes });
    }
    return chunks;
  }

  *places(chunks: { digest: string }[]): Generator<{ block: number; place: Location }> {
    for (const { block, chunk, offset } of this.layout) {
      yield { block, place: { digest: chunks[chunk]!.digest, offset } };
    }
  }

  has(block: number): boolean {
    return this.blocks.has(block);
  }
}

/**
 * Moves the last blocks of chunks that have been replaced for the most part into the new chunks, so that the old ones are named no
 * longer. It looks at touched leaves and at what else is loaded; a use that it does not see only keeps a chunk alive, so it is a
 * matter of economy and never of correctness. A chunk whose bytes are not at hand is left as it is.
 */
async function fold(updates: Updates, packer: Packer, options: PackOptions): Promise<void> {
  if (!options.local) return;
  const elsewhere = updates.usesElsewhere();
  const folded = new Map<string, Int32Array>();
  for (const [digest, { before, now }] of await updates.uses()) {
    if (now === 0 || now >= before || elsewhere.has(digest) || options.isPublic?.(digest)) continue;
    const raw = await options.local(digest);
    if (raw && now <= (raw.length / BLOCK) * FOLD_BELOW) folded.set(digest, wordsOf(raw));
  }
  for (const { block, place } of updates.blocksOf(new Set(folded.keys()))) {
    if (!packer.has(block)) packer.add(block, folded.get(place.digest)!, place.offset * WORDS);
  }
}
