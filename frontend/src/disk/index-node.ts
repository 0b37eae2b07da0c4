/** The index nodes of docs/design/formats.md: decoded strictly, encoded canonically. */

import { CHUNK_BLOCKS } from "../machine/machine";
import { fromHex, toHex } from "./digest";
import { BadIndex } from "./errors";

/** Blocks under one leaf. */
export const LEAF_BLOCKS = 1024;
/** Children of one interior node. */
export const FAN_OUT = 256;

const MAGIC = 0x314e5657; // "WVN1"
const HEADER = 12;
const DIGEST = 32;
/** 1024 * 256^3 blocks are 64 TiB. */
const MAX_LEVEL = 3;

/** `count` blocks from block `first` of the leaf are the chunk's from block `offset` on. */
export interface Extent {
  first: number;
  count: number;
  digest: string;
  offset: number;
}

export interface Leaf {
  level: 0;
  extents: Extent[];
}

export interface Interior {
  level: number;
  children: { slot: number; digest: string }[];
}

export type IndexNode = Leaf | Interior;

export function isLeaf(node: IndexNode): node is Leaf {
  return node.level === 0;
}

/** Level of the root of a device with so many blocks. */
export function rootLevel(blocks: number): number {
  let level = 0;
  while (LEAF_BLOCKS * FAN_OUT ** level < blocks) level++;
  return level;
}

/** Sorts out runs that continue each other; the extents must be sorted and not overlap. */
export function mergeExtents(extents: Iterable<Extent>): Extent[] {
  const merged: Extent[] = [];
  for (const extent of extents) {
    const last = merged.at(-1);
    if (last && continues(last, extent)) last.count += extent.count;
    else merged.push({ ...extent });
  }
  return merged;
}

/** The canonical bytes of a node that holds something; equal content gives equal bytes. */
export function encodeNode(node: IndexNode): Uint8Array {
  const entries: { digest: string }[] = isLeaf(node) ? mergeExtents(node.extents) : node.children;
  if (entries.length === 0) throw new BadIndex("an empty node is never stored");
  const refs = [...new Set(entries.map((entry) => entry.digest))];
  const refNumbers = new Map(refs.map((digest, number) => [digest, number]));
  const entrySize = isLeaf(node) ? 8 : 4;
  const raw = new Uint8Array(HEADER + DIGEST * refs.length + entrySize * entries.length);
  const view = new DataView(raw.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint8(4, node.level);
  view.setUint16(6, refs.length, true);
  view.setUint32(8, entries.length, true);
  refs.forEach((digest, number) => raw.set(fromHex(digest), HEADER + DIGEST * number));
  let at = HEADER + DIGEST * refs.length;
  for (const entry of entries) {
    const ref = refNumbers.get(entry.digest) ?? 0;
    const numbers = isLeaf(node)
      ? [(entry as Extent).first, (entry as Extent).count, ref, (entry as Extent).offset]
      : [(entry as Interior["children"][number]).slot, ref];
    for (const number of numbers) {
      view.setUint16(at, number, true);
      at += 2;
    }
  }
  return raw;
}

/** Decodes a node; throws `BadIndex` for anything but the canonical form. */
export function decodeNode(raw: Uint8Array): IndexNode {
  if (raw.length < HEADER) throw new BadIndex(`an index node of ${raw.length} bytes`);
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  if (view.getUint32(0, true) !== MAGIC) throw new BadIndex("not an index node");
  const level = view.getUint8(4);
  if (level > MAX_LEVEL || view.getUint8(5) !== 0) throw new BadIndex(`an index node of level ${level}`);
  const refCount = view.getUint16(6, true);
  const entryCount = view.getUint32(8, true);
  const entrySize = level === 0 ? 8 : 4;
  if (entryCount === 0) throw new BadIndex("an empty index node");
  if (entryCount > (level === 0 ? LEAF_BLOCKS : FAN_OUT) || refCount > entryCount) {
    throw new BadIndex("an index node with more entries than it has room for");
  }
  const entriesAt = HEADER + DIGEST * refCount;
  if (raw.length !== entriesAt + entrySize * entryCount)
    throw new BadIndex("an index node of the wrong length");

  const refs: string[] = [];
  for (let at = HEADER; at < entriesAt; at += DIGEST) refs.push(toHex(raw.subarray(at, at + DIGEST)));
  if (new Set(refs).size !== refs.length) throw new BadIndex("an index node names a chunk twice");
  let used = 0;
  const refAt = (at: number): string => {
    const number = view.getUint16(at, true);
    const digest = refs[number];
    if (digest === undefined || number > used)
      throw new BadIndex("the refs of an index node are not in order of first use");
    if (number === used) used++;
    return digest;
  };
  const node =
    level === 0 ? decodeLeaf(view, entriesAt, refAt) : decodeInterior(view, entriesAt, level, refAt);
  if (used !== refs.length) throw new BadIndex("an index node has a ref that it does not use");
  return node;
}

function decodeLeaf(view: DataView, from: number, refAt: (at: number) => string): Leaf {
  const extents: Extent[] = [];
  let next = 0;
  for (let at = from; at < view.byteLength; at += 8) {
    const extent: Extent = {
      first: view.getUint16(at, true),
      count: view.getUint16(at + 2, true),
      digest: refAt(at + 4),
      offset: view.getUint16(at + 6, true),
    };
    if (extent.count < 1 || extent.first < next || extent.first + extent.count > LEAF_BLOCKS) {
      throw new BadIndex("the extents of a leaf are not in order");
    }
    if (extent.offset + extent.count > CHUNK_BLOCKS) throw new BadIndex("an extent reaches behind its chunk");
    const last = extents.at(-1);
    if (last && continues(last, extent)) throw new BadIndex("two extents of a leaf should be one");
    next = extent.first + extent.count;
    extents.push(extent);
  }
  return { level: 0, extents };
}

function decodeInterior(
  view: DataView,
  from: number,
  level: number,
  refAt: (at: number) => string,
): Interior {
  const children: Interior["children"] = [];
  let next = 0;
  for (let at = from; at < view.byteLength; at += 4) {
    const slot = view.getUint16(at, true);
    if (slot < next || slot >= FAN_OUT) throw new BadIndex("the children of an index node are not in order");
    next = slot + 1;
    children.push({ slot, digest: refAt(at + 2) });
  }
  return { level, children };
}

function continues(a: Extent, b: Extent): boolean {
  return a.digest === b.digest && a.first + a.count === b.first && a.offset + a.count === b.offset;
}
