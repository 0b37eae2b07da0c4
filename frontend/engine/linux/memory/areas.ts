/** Mapped areas of an address space, sorted and apart (Linux's VMAs). */

import { GUEST_END, PAGE_SIZE } from "../abi.ts";
import type { ByteString, Inode } from "../types.ts";

export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_EXEC = 4;
export const PROT_GROWSDOWN = 0x01000000;
export const PROT_GROWSUP = 0x02000000;

export const MAP_SHARED = 1;
export const MAP_PRIVATE = 2;
export const MAP_SHARED_VALIDATE = 3;
export const MAP_TYPE = 0xf;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_GROWSDOWN = 0x100;
export const MAP_POPULATE = 0x8000;
export const MAP_STACK = 0x20000;
export const MAP_HUGETLB = 0x40000;
export const MAP_FIXED_NOREPLACE = 0x100000;

/** What lies behind shared memory and files: the part of an inode that paging needs. */
export type Backing = Pick<Inode, "page" | "pageDirtied" | "hold" | "drop" | "stat" | "version">;

export interface Area {
  start: number;
  end: number;
  prot: number;
  shared: boolean;
  growsDown: boolean;
  /** Content; undefined for private anonymous memory. */
  backing: Backing | undefined;
  /** Byte in `backing` that is at `start`. */
  offset: number;
  /** As /proc/self/maps shows it: a path, `[heap]`, `[stack]`, or nothing. */
  name: ByteString;
  /** mlock'ed: only reported. */
  locked: boolean;
  /** madvise: not copied by fork; zeros in the child. */
  dontFork: boolean;
  wipeOnFork: boolean;
}

export function pageOf(address: number): number {
  return Math.floor(address / PAGE_SIZE);
}

export function pageUp(address: number): number {
  return Math.ceil(address / PAGE_SIZE) * PAGE_SIZE;
}

export function pageDown(address: number): number {
  return Math.floor(address / PAGE_SIZE) * PAGE_SIZE;
}

function mergeable(low: Area, high: Area): boolean {
  return (
    low.end === high.start &&
    low.prot === high.prot &&
    low.shared === high.shared &&
    low.growsDown === high.growsDown &&
    low.backing === high.backing &&
    low.name === high.name &&
    low.locked === high.locked &&
    low.dontFork === high.dontFork &&
    low.wipeOnFork === high.wipeOnFork &&
    (low.backing === undefined || low.offset + (low.end - low.start) === high.offset)
  );
}

export class AreaList {
  /** Sorted by address; only this class changes the order. */
  readonly list: Area[] = [];
  private last: Area | undefined;

  /** Index of the first area that ends behind `address`. */
  index(address: number): number {
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.list[middle]!.end > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  find(address: number): Area | undefined {
    const last = this.last;
    if (last !== undefined && address >= last.start && address < last.end) return last;
    const area = this.list[this.index(address)];
    if (area === undefined || address < area.start) return undefined;
    this.last = area;
    return area;
  }

  /** Areas that touch [start, end). */
  overlapping(start: number, end: number): Area[] {
    const found: Area[] = [];
    for (let at = this.index(start); at < this.list.length; at += 1) {
      const area = this.list[at]!;
      if (area.start >= end) break;
      found.push(area);
    }
    return found;
  }

  isFree(start: number, end: number): boolean {
    const area = this.list[this.index(start)];
    return area === undefined || area.start >= end;
  }

  /** Whether every byte of [start, end) is mapped. */
  covered(start: number, end: number): boolean {
    let at = start;
    for (const area of this.overlapping(start, end)) {
      if (area.start > at) return false;
      at = area.end;
    }
    return at >= end;
  }

  insert(area: Area): void {
    this.last = undefined;
    if (area.backing !== undefined) area.backing.hold();
    this.list.splice(this.index(area.start), 0, area);
    this.mergeAround(area.start, area.end);
  }

  /** Cuts areas so that one begins or ends at `address`. */
  cut(address: number): void {
    const at = this.index(address);
    const area = this.list[at];
    if (area === undefined || area.start >= address) return;
    this.last = undefined;
    const high = { ...area, start: address };
    if (area.backing !== undefined) {
      high.offset = area.offset + (address - area.start);
      area.backing.hold();
    }
    area.end = address;
    this.list.splice(at + 1, 0, high);
  }

  /** Takes [start, end) out and returns what was there. */
  remove(start: number, end: number): Area[] {
    if (this.isFree(start, end)) return [];
    this.cut(start);
    this.cut(end);
    this.last = undefined;
    const first = this.index(start);
    let count = 0;
    while (first + count < this.list.length && this.list[first + count]!.start < end) count += 1;
    return this.list.splice(first, count);
  }

  /** Joins neighbours around [start, end) that are alike. */
  mergeAround(start: number, end: number): void {
    let at = Math.max(0, this.index(start) - 1);
    while (at + 1 < this.list.length && this.list[at]!.start <= end) {
      const low = this.list[at]!;
      const high = this.list[at + 1]!;
      if (mergeable(low, high)) {
        this.last = undefined;
        low.end = high.end;
        this.list.splice(at + 1, 1);
        if (high.backing !== undefined) high.backing.drop();
      } else {
        at += 1;
      }
    }
  }

  /** The lowest free room of `length` bytes from `from` on; undefined when there is none. */
  gap(from: number, length: number): number | undefined {
    let start = from;
    for (let at = this.index(from); at < this.list.length; at += 1) {
      const area = this.list[at]!;
      if (area.start - start >= length) return start;
      start = Math.max(start, area.end);
    }
    return start + length <= GUEST_END ? start : undefined;
  }

  total(): number {
    let bytes = 0;
    for (const area of this.list) bytes += area.end - area.start;
    return bytes;
  }
}
