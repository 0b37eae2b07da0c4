/** Extended attributes: behind the inode, and in a block of their own. */

import { E, Errno } from "../../errno.ts";
import type { ByteString } from "../../types.ts";
import { crc32c, crc32cWord } from "./checksums.ts";
import type { Geometry } from "./geometry.ts";
import type { RawInode } from "./raw-inode.ts";

const MAGIC = 0xea020000;
const HEADER = 32;
const ENTRY = 16;

/** Longest first, where one is the beginning of another. */
const PREFIXES: readonly (readonly [number, ByteString])[] = [
  [2, "system.posix_acl_access"],
  [3, "system.posix_acl_default"],
  [1, "user."],
  [4, "trusted."],
  [6, "security."],
  [7, "system."],
];

export type Attributes = Map<ByteString, Uint8Array>;

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Entries from `at` on; values are found from `base`. */
function parse(bytes: Uint8Array, at: number, base: number, into: Attributes): void {
  const data = view(bytes);
  while (at + 4 <= bytes.length && data.getUint32(at, true) !== 0) {
    const length = bytes[at]!;
    const index = bytes[at + 1]!;
    if (data.getUint32(at + 4, true) !== 0) throw new Errno(E.IO);
    const start = base + data.getUint16(at + 2, true);
    const size = data.getUint32(at + 8, true);
    if (at + ENTRY + length > bytes.length || (size > 0 && start + size > bytes.length))
      throw new Errno(E.IO);
    const name = String.fromCharCode(...bytes.subarray(at + ENTRY, at + ENTRY + length));
    const prefix = PREFIXES.find(([number]) => number === index)?.[1];
    if (prefix !== undefined) into.set(prefix + name, bytes.slice(start, start + size));
    at += (ENTRY + length + 3) & ~3;
  }
}

export function readAttributes(g: Geometry, raw: RawInode): Attributes {
  const attributes: Attributes = new Map();
  const at = raw.attributesAt;
  if (at + 8 <= raw.bytes.length && view(raw.bytes).getUint32(at, true) === MAGIC) {
    parse(raw.bytes.subarray(at + 4), 0, 0, attributes);
  }
  if (raw.attributeBlock !== 0) {
    const block = g.block(raw.attributeBlock);
    if (view(block).getUint32(0, true) !== MAGIC) throw new Errno(E.IO);
    parse(block, HEADER, 0, attributes);
  }
  return attributes;
}

interface Packed {
  index: number;
  name: ByteString;
  value: Uint8Array;
}

function entrySize(entry: Packed): number {
  return (ENTRY + entry.name.length + 3) & ~3;
}

function valueSize(entry: Packed): number {
  return (entry.value.length + 3) & ~3;
}

function hashOf({ name, value }: Packed): number {
  let hash = 0;
  for (let i = 0; i < name.length; i += 1) hash = ((hash << 5) ^ (hash >>> 27) ^ name.charCodeAt(i)) >>> 0;
  const padded = new Uint8Array((value.length + 3) & ~3);
  padded.set(value);
  const words = view(padded);
  for (let i = 0; i < padded.length; i += 4) {
    hash = ((hash << 16) ^ (hash >>> 16) ^ words.getUint32(i, true)) >>> 0;
  }
  return hash;
}

/** Writes entries at `at` and their values from the end of `bytes` downwards; returns the entries' hashes. */
function write(bytes: Uint8Array, at: number, entries: readonly Packed[]): number[] {
  const data = view(bytes);
  let end = bytes.length;
  return entries.map((entry) => {
    const hash = hashOf(entry);
    end -= valueSize(entry);
    bytes[at] = entry.name.length;
    bytes[at + 1] = entry.index;
    data.setUint16(at + 2, entry.value.length === 0 ? 0 : end, true);
    data.setUint32(at + 4, 0, true);
    data.setUint32(at + 8, entry.value.length, true);
    data.setUint32(at + 12, hash, true);
    for (let i = 0; i < entry.name.length; i += 1) bytes[at + ENTRY + i] = entry.name.charCodeAt(i);
    bytes.set(entry.value, end);
    at += entrySize(entry);
    return hash;
  });
}

/** How many of the entries fit into `room` bytes, with the four zeros behind the last one. */
function fitting(entries: readonly Packed[], room: number): Packed[] {
  let left = room - 4;
  return entries.filter((entry) => {
    const size = entrySize(entry) + valueSize(entry);
    if (size > left) return false;
    left -= size;
    return true;
  });
}

export interface BlockOwner {
  allocateBlock(): number;
  freeBlock(block: number): void;
}

export function mayBeNamed(name: ByteString): boolean {
  return PREFIXES.some(([, prefix]) => name.startsWith(prefix) && name.length - prefix.length <= 255);
}

/** Everything anew: first behind the inode, then in the block. Throws ENOSPC when there is too much. */
export function writeAttributes(g: Geometry, raw: RawInode, owner: BlockOwner, attributes: Attributes): void {
  const packed: Packed[] = [...attributes].map(([full, value]) => {
    const [index, prefix] = PREFIXES.find(([, each]) => full.startsWith(each))!;
    return { index, name: full.slice(prefix.length), value };
  });
  packed.sort((a, b) => a.index - b.index || a.name.length - b.name.length || (a.name < b.name ? -1 : 1));
  const at = raw.attributesAt;
  const room = raw.bytes.length - at - 4;
  const inside = room > ENTRY ? fitting(packed, room) : [];
  const outside = packed.filter((entry) => !inside.includes(entry));
  if (fitting(outside, g.blockSize - HEADER).length < outside.length) throw new Errno(E.NOSPC);
  if (raw.bytes.length > at) raw.bytes.fill(0, at);
  if (inside.length > 0) {
    view(raw.bytes).setUint32(at, MAGIC, true);
    write(raw.bytes.subarray(at + 4), 0, inside);
  }
  releaseAttributeBlock(g, raw, owner);
  if (outside.length === 0) return;
  g.needXattrs();
  const number = owner.allocateBlock();
  const block = g.fresh(number);
  const data = view(block);
  data.setUint32(0, MAGIC, true);
  data.setUint32(4, 1, true);
  data.setUint32(8, 1, true);
  const hashes = write(block, HEADER, outside);
  const all = hashes.reduce((sum, hash) => ((sum << 16) ^ (sum >>> 16) ^ hash) >>> 0, 0);
  data.setUint32(12, hashes.includes(0) ? 0 : all, true);
  sealBlock(g, number, block);
  raw.attributeBlock = number;
}

function sealBlock(g: Geometry, number: number, block: Uint8Array): void {
  if (!g.hasChecksums) return;
  const data = view(block);
  data.setUint32(16, 0, true);
  const place = crc32cWord(crc32cWord(g.seed, number % 2 ** 32), Math.floor(number / 2 ** 32));
  data.setUint32(16, crc32c(place, block), true);
}

/** Several inodes may share a block of attributes. */
export function releaseAttributeBlock(g: Geometry, raw: RawInode, owner: BlockOwner): void {
  const number = raw.attributeBlock;
  if (number === 0) return;
  raw.attributeBlock = 0;
  const references = view(g.block(number)).getUint32(4, true);
  if (references <= 1) {
    owner.freeBlock(number);
    return;
  }
  const block = g.edit(number);
  view(block).setUint32(4, references - 1, true);
  sealBlock(g, number, block);
  // The block stays somebody else's, but is none of this inode's any more.
  raw.sectors -= g.blockSize / 512;
}
