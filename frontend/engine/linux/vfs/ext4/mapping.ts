/** A file's block map as it is on the disk: a tree of extents, or indirect blocks. */

import { E, Errno } from "../../errno.ts";
import { crc32c } from "./checksums.ts";
import type { Geometry } from "./geometry.ts";
import { type Run, type Runs, runAt, runFrom } from "./runs.ts";

/** What a map needs of its inode. `root` is i_block. */
export interface Mapped {
  readonly root: DataView;
  /** Where checksums of its blocks begin. */
  readonly seed: number;
  allocateBlock(): number;
  freeBlock(block: number): void;
}

const EXTENT_MAGIC = 0xf30a;
const HEADER = 12;
const ENTRY = 12;
const ROOT_ENTRIES = 4;
const MOST_WRITTEN = 32768;
const MOST_UNWRITTEN = 32767;
const MOST_DEPTH = 5;

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Blocks of the tree by level, leaves first. */
export type TreeBlocks = readonly (readonly number[])[];

export function loadExtents(g: Geometry, root: DataView): { runs: Runs; tree: TreeBlocks } {
  const runs: Run[] = [];
  const tree: number[][] = [];
  const walk = (node: DataView, level: number): void => {
    if (node.getUint16(0, true) !== EXTENT_MAGIC || level > MOST_DEPTH) throw new Errno(E.IO);
    const entries = node.getUint16(2, true);
    const depth = node.getUint16(6, true);
    for (let i = 0; i < entries; i += 1) {
      const at = HEADER + i * ENTRY;
      if (depth === 0) {
        const length = node.getUint16(at + 4, true);
        const unwritten = length > MOST_WRITTEN;
        runs.push({
          logical: node.getUint32(at, true),
          length: unwritten ? length - MOST_WRITTEN : length,
          physical: node.getUint16(at + 6, true) * 2 ** 32 + node.getUint32(at + 8, true),
          unwritten,
        });
        continue;
      }
      const child = node.getUint16(at + 8, true) * 2 ** 32 + node.getUint32(at + 4, true);
      (tree[depth - 1] ??= []).push(child);
      walk(view(g.block(child)), level + 1);
    }
  };
  walk(root, 0);
  // Runs that follow each other on the disk are one here.
  let joined: Run[] = [];
  for (const run of runs) {
    const last = joined.at(-1);
    const follows =
      last !== undefined &&
      last.logical + last.length === run.logical &&
      last.physical + last.length === run.physical &&
      last.unwritten === run.unwritten;
    if (follows) joined[joined.length - 1] = { ...last, length: last.length + run.length };
    else joined.push(run);
  }
  if (joined.some((run, i) => i > 0 && joined[i - 1]!.logical + joined[i - 1]!.length > run.logical))
    joined = [];
  return { runs: joined, tree };
}

/** Extents as the disk has them: of limited length. */
function cut(runs: Runs): Run[] {
  const pieces: Run[] = [];
  for (const run of runs) {
    const most = run.unwritten ? MOST_UNWRITTEN : MOST_WRITTEN;
    for (let done = 0; done < run.length; done += most) {
      pieces.push({
        logical: run.logical + done,
        physical: run.physical + done,
        length: Math.min(most, run.length - done),
        unwritten: run.unwritten,
      });
    }
  }
  return pieces;
}

interface Child {
  logical: number;
  block: number;
}

function writeHeader(node: DataView, entries: number, most: number, depth: number): void {
  node.setUint16(0, EXTENT_MAGIC, true);
  node.setUint16(2, entries, true);
  node.setUint16(4, most, true);
  node.setUint16(6, depth, true);
  node.setUint32(8, 0, true);
}

function writeExtents(node: DataView, most: number, pieces: readonly Run[]): void {
  writeHeader(node, pieces.length, most, 0);
  pieces.forEach((run, i) => {
    const at = HEADER + i * ENTRY;
    node.setUint32(at, run.logical, true);
    node.setUint16(at + 4, run.unwritten ? run.length + MOST_WRITTEN : run.length, true);
    node.setUint16(at + 6, Math.floor(run.physical / 2 ** 32), true);
    node.setUint32(at + 8, run.physical % 2 ** 32, true);
  });
}

function writeChildren(node: DataView, most: number, depth: number, children: readonly Child[]): void {
  writeHeader(node, children.length, most, depth);
  children.forEach(({ logical, block }, i) => {
    const at = HEADER + i * ENTRY;
    node.setUint32(at, logical, true);
    node.setUint32(at + 4, block % 2 ** 32, true);
    node.setUint16(at + 8, Math.floor(block / 2 ** 32), true);
    node.setUint16(at + 10, 0, true);
  });
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return false;
  return true;
}

/** Writes the tree; blocks that stay as they are are not touched. Returns the blocks it takes now. */
export function storeExtents(g: Geometry, inode: Mapped, runs: Runs, before: TreeBlocks): TreeBlocks {
  const most = Math.floor((g.blockSize - HEADER) / ENTRY);
  const pieces = cut(runs);
  const tree: number[][] = [];
  const put = (level: number, index: number, fill: (node: DataView) => void): number => {
    const old = before[level]?.[index];
    const block = old ?? inode.allocateBlock();
    const bytes = new Uint8Array(g.blockSize);
    fill(view(bytes));
    if (g.hasChecksums) {
      const end = HEADER + most * ENTRY;
      view(bytes).setUint32(end, crc32c(inode.seed, bytes.subarray(0, end)), true);
    }
    if (old === undefined || !same(g.block(old), bytes)) g.fresh(block).set(bytes);
    (tree[level] ??= []).push(block);
    return block;
  };
  inode.root.setUint32(0, 0, true);
  for (let at = 0; at < 60; at += 4) inode.root.setUint32(at, 0, true);
  if (pieces.length <= ROOT_ENTRIES) writeExtents(inode.root, ROOT_ENTRIES, pieces);
  else {
    let children: Child[] = [];
    for (let i = 0; i < pieces.length; i += most) {
      const part = pieces.slice(i, i + most);
      const block = put(0, i / most, (node) => writeExtents(node, most, part));
      children.push({ logical: part[0]!.logical, block });
    }
    let depth = 1;
    while (children.length > ROOT_ENTRIES) {
      const above: Child[] = [];
      for (let i = 0; i < children.length; i += most) {
        const part = children.slice(i, i + most);
        const level = depth;
        const block = put(depth, i / most, (node) => writeChildren(node, most, level, part));
        above.push({ logical: part[0]!.logical, block });
      }
      children = above;
      depth += 1;
    }
    writeChildren(inode.root, ROOT_ENTRIES, depth, children);
  }
  before.forEach((blocks, level) => {
    for (const block of blocks.slice(tree[level]?.length ?? 0)) inode.freeBlock(block);
  });
  return tree;
}

const DIRECT = 12;
const LEVELS = 3;

/** Runs of a file whose blocks are named one by one. */
export function loadIndirect(g: Geometry, root: DataView): Runs {
  const pointers = g.blockSize / 4;
  const runs: Run[] = [];
  const add = (logical: number, physical: number): void => {
    const last = runs.at(-1);
    if (
      last !== undefined &&
      last.logical + last.length === logical &&
      last.physical + last.length === physical
    ) {
      runs[runs.length - 1] = { ...last, length: last.length + 1 };
    } else runs.push({ logical, physical, length: 1, unwritten: false });
  };
  const walk = (block: number, level: number, first: number): void => {
    if (block === 0) return;
    if (level === 0) return add(first, block);
    const node = view(g.block(block));
    const span = pointers ** (level - 1);
    for (let i = 0; i < pointers; i += 1) walk(node.getUint32(i * 4, true), level - 1, first + i * span);
  };
  for (let i = 0; i < DIRECT; i += 1) walk(root.getUint32(i * 4, true), 0, i);
  let first = DIRECT;
  for (let level = 1; level <= LEVELS; level += 1) {
    walk(root.getUint32((DIRECT + level - 1) * 4, true), level, first);
    first += pointers ** level;
  }
  return runs;
}

/** How many blocks such a file can have. */
export function mostIndirect(g: Geometry): number {
  const pointers = g.blockSize / 4;
  return DIRECT + pointers + pointers ** 2 + pointers ** 3;
}

/** Writes what has changed in [start, end). */
export function storeIndirect(g: Geometry, inode: Mapped, runs: Runs, start: number, end: number): void {
  const pointers = g.blockSize / 4;
  const write = (block: number, level: number, first: number): number => {
    const span = pointers ** level;
    if (first >= end || first + span <= start) return block;
    if (level === 0) {
      const run = runAt(runs, first);
      return run === undefined ? 0 : run.physical + (first - run.logical);
    }
    const next = runFrom(runs, first);
    const isEmpty = next === undefined || next.logical >= first + span;
    if (isEmpty && block === 0) return 0;
    const own = block === 0 ? inode.allocateBlock() : block;
    const node = view(block === 0 ? g.fresh(own) : g.edit(own));
    const childSpan = span / pointers;
    let used = false;
    for (let i = 0; i < pointers; i += 1) {
      const child = node.getUint32(i * 4, true);
      const now = write(child, level - 1, first + i * childSpan);
      if (now !== child) node.setUint32(i * 4, now, true);
      used ||= now !== 0;
    }
    if (used) return own;
    inode.freeBlock(own);
    return 0;
  };
  const { root } = inode;
  for (let i = 0; i < DIRECT; i += 1) root.setUint32(i * 4, write(root.getUint32(i * 4, true), 0, i), true);
  let first = DIRECT;
  for (let level = 1; level <= LEVELS; level += 1) {
    const at = (DIRECT + level - 1) * 4;
    root.setUint32(at, write(root.getUint32(at, true), level, first), true);
    first += pointers ** level;
  }
}
