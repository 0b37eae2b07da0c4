/** Free blocks and inodes: bitmaps and the counts that go with them. */

import { E, Errno } from "../../errno.ts";
import { crc32c } from "./checksums.ts";
import type { Geometry } from "./geometry.ts";

export interface Extent {
  start: number;
  length: number;
}

function isSet(bits: Uint8Array, index: number): boolean {
  return (bits[index >>> 3]! & (1 << (index & 7))) !== 0;
}

/** The first clear bit in [from, end), or -1. */
function nextClear(bits: Uint8Array, from: number, end: number): number {
  for (let index = from; index < end; index += 1) {
    if ((index & 7) === 0) while (index + 8 <= end && bits[index >>> 3] === 0xff) index += 8;
    if (index < end && !isSet(bits, index)) return index;
  }
  return -1;
}

export class Allocation {
  private readonly geometry: Geometry;

  constructor(geometry: Geometry) {
    this.geometry = geometry;
  }

  /** The group's bitmap of blocks; one that was never written is made up as mke2fs left it. */
  private blockBits(group: number): Uint8Array {
    const g = this.geometry;
    const descriptor = g.group(group);
    if (!g.hasUninitialised || !descriptor.blocksUninitialised) return g.block(descriptor.blockBitmap);
    const bits = new Uint8Array(g.blockSize);
    const start = g.groupStart(group);
    const size = g.blocksIn(group);
    const mark = (first: number, count: number): void => {
      for (let block = Math.max(first, start); block < Math.min(first + count, start + size); block += 1) {
        const index = block - start;
        bits[index >>> 3]! |= 1 << (index & 7);
      }
    };
    mark(start, g.overhead(group));
    // With flex_bg a group's bitmaps and inode table may lie in another one.
    for (let other = 0; other < g.groups; other += 1) {
      const { blockBitmap, inodeBitmap, inodeTable } = g.group(other);
      mark(blockBitmap, 1);
      mark(inodeBitmap, 1);
      mark(inodeTable, g.tableBlocks);
    }
    for (let index = size; index < g.blockSize * 8; index += 1) bits[index >>> 3]! |= 1 << (index & 7);
    return bits;
  }

  private editBlockBits(group: number): Uint8Array {
    const g = this.geometry;
    const descriptor = g.group(group);
    if (!g.hasUninitialised || !descriptor.blocksUninitialised) return g.edit(descriptor.blockBitmap);
    const made = this.blockBits(group);
    const bits = g.fresh(descriptor.blockBitmap);
    bits.set(made);
    return bits;
  }

  private changeBlocks(group: number, extent: Extent, used: boolean): void {
    const g = this.geometry;
    const bits = this.editBlockBits(group);
    const first = extent.start - g.groupStart(group);
    for (let index = first; index < first + extent.length; index += 1) {
      if (isSet(bits, index) === used) throw new Errno(E.IO);
      bits[index >>> 3]! ^= 1 << (index & 7);
    }
    const change = used ? -extent.length : extent.length;
    g.editGroup(group, (descriptor) => {
      descriptor.initialised(true);
      descriptor.freeBlocks += change;
      if (g.hasChecksums) {
        descriptor.setChecksum(true, crc32c(g.seed, bits.subarray(0, g.blocksPerGroup >>> 3)));
      }
    });
    g.countFree(change, 0);
  }

  private groupOf(block: number): number {
    const g = this.geometry;
    return Math.floor((block - g.firstBlock) / g.blocksPerGroup);
  }

  /** Free blocks in one piece, at most `most`, at `goal` or as near behind it as may be. Throws ENOSPC. */
  allocate(goal: number, most: number): Extent {
    const g = this.geometry;
    const wanted = goal >= g.firstBlock && goal < g.blocks ? goal : g.firstBlock;
    const first = this.groupOf(wanted);
    for (let turn = 0; turn <= g.groups; turn += 1) {
      const group = (first + turn) % g.groups;
      if (g.group(group).freeBlocks === 0) continue;
      const from = turn === 0 ? wanted - g.groupStart(group) : 0;
      const end = turn === g.groups ? wanted - g.groupStart(group) : g.blocksIn(group);
      const extent = this.take(group, from, end, most);
      if (extent !== undefined) return extent;
    }
    throw new Errno(E.NOSPC);
  }

  private take(group: number, from: number, end: number, most: number): Extent | undefined {
    const g = this.geometry;
    const bits = this.blockBits(group);
    const index = nextClear(bits, from, end);
    if (index < 0) return undefined;
    let length = 1;
    while (length < most && index + length < end && !isSet(bits, index + length)) length += 1;
    const extent = { start: g.groupStart(group) + index, length };
    this.changeBlocks(group, extent, true);
    return extent;
  }

  free(extent: Extent): void {
    const g = this.geometry;
    let { start, length } = extent;
    while (length > 0) {
      const group = this.groupOf(start);
      if (group < 0 || group >= g.groups) throw new Errno(E.IO);
      const count = Math.min(length, g.groupStart(group) + g.blocksIn(group) - start);
      this.changeBlocks(group, { start, length: count }, false);
      start += count;
      length -= count;
    }
  }

  // Inodes.

  private inodeBits(group: number): Uint8Array {
    const g = this.geometry;
    const descriptor = g.group(group);
    if (g.hasUninitialised && descriptor.inodesUninitialised) return new Uint8Array(g.blockSize);
    return g.block(descriptor.inodeBitmap);
  }

  private editInodeBits(group: number): Uint8Array {
    const g = this.geometry;
    const descriptor = g.group(group);
    if (!g.hasUninitialised || !descriptor.inodesUninitialised) return g.edit(descriptor.inodeBitmap);
    const bits = g.fresh(descriptor.inodeBitmap);
    for (let index = g.inodesPerGroup; index < g.blockSize * 8; index += 1) {
      bits[index >>> 3]! |= 1 << (index & 7);
    }
    return bits;
  }

  /** A directory at the top goes where most is free; everything else near its parent. */
  private groupFor(parent: number, isDirectory: boolean): number {
    const g = this.geometry;
    const near = Math.floor((parent - 1) / g.inodesPerGroup);
    if (!isDirectory || parent !== 2) return near;
    let best = near;
    for (let group = 0; group < g.groups; group += 1) {
      const candidate = g.group(group);
      if (candidate.freeInodes > 0 && candidate.freeBlocks > g.group(best).freeBlocks) best = group;
    }
    return best;
  }

  allocateInode(parent: number, isDirectory: boolean): number {
    const g = this.geometry;
    const first = this.groupFor(parent, isDirectory);
    for (let turn = 0; turn < g.groups; turn += 1) {
      const group = (first + turn) % g.groups;
      if (g.group(group).freeInodes === 0) continue;
      const from = group === 0 ? g.firstInode - 1 : 0;
      const index = nextClear(this.inodeBits(group), from, g.inodesPerGroup);
      if (index < 0) continue;
      this.changeInode(group, index, true, isDirectory);
      return group * g.inodesPerGroup + index + 1;
    }
    throw new Errno(E.NOSPC);
  }

  freeInode(ino: number, isDirectory: boolean): void {
    const { inodesPerGroup } = this.geometry;
    this.changeInode(Math.floor((ino - 1) / inodesPerGroup), (ino - 1) % inodesPerGroup, false, isDirectory);
  }

  private changeInode(group: number, index: number, used: boolean, isDirectory: boolean): void {
    const g = this.geometry;
    const bits = this.editInodeBits(group);
    if (isSet(bits, index) === used) throw new Errno(E.IO);
    bits[index >>> 3]! ^= 1 << (index & 7);
    const change = used ? -1 : 1;
    g.editGroup(group, (descriptor) => {
      // Only what lies before the unused part of the table counts.
      if (g.hasUninitialised && used) {
        const before = descriptor.inodesUninitialised ? g.inodesPerGroup : descriptor.unusedInodes;
        descriptor.unusedInodes = Math.min(before, g.inodesPerGroup - index - 1);
      }
      descriptor.initialised(false);
      descriptor.freeInodes += change;
      if (isDirectory) descriptor.usedDirectories -= change;
      if (g.hasChecksums) {
        descriptor.setChecksum(false, crc32c(g.seed, bits.subarray(0, g.inodesPerGroup >>> 3)));
      }
    });
    g.countFree(0, change);
  }
}
