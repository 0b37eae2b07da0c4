/** Content of a regular file: pages in memory over blocks of the device. */

import { PAGE_SIZE } from "../../abi.ts";
import { E, Errno } from "../../errno.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE } from "../constants.ts";
import { eachPage } from "../pages.ts";
import type { Ext4Inode } from "./inode.ts";
import { CachedPage, type PageOwner } from "./page-cache.ts";
import { runFrom } from "./runs.ts";
import { DEVICE_BLOCK } from "./store.ts";

/** Blocks that are read from the device in one go. */
const MOST_AT_ONCE = 64;

export class Content implements PageOwner {
  static readonly transient = {
    pages: () => new Map(),
    evicted: () => new Map(),
    handed: () => new WeakMap(),
  };
  private readonly inode: Ext4Inode;
  private readonly pages = new Map<number, CachedPage>();
  /** Pages that are not kept, while somebody has them mapped: there must not be two of one. */
  private readonly evicted = new Map<number, WeakRef<Uint8Array>>();
  private readonly handed = new WeakMap<Uint8Array, CachedPage>();

  constructor(inode: Ext4Inode) {
    this.inode = inode;
  }

  private get fs() {
    return this.inode.fs;
  }

  private get blockSize(): number {
    return this.fs.geometry.blockSize;
  }

  private get perPage(): number {
    return PAGE_SIZE / this.blockSize;
  }

  private cached(index: number): CachedPage | undefined {
    const page = this.pages.get(index);
    if (page !== undefined) {
      this.fs.pages.use(page);
      return page;
    }
    const bytes = this.evicted.get(index)?.deref();
    const evicted = bytes === undefined ? undefined : this.handed.get(bytes);
    this.evicted.delete(index);
    if (evicted !== undefined) this.keep(evicted);
    return evicted;
  }

  private keep(page: CachedPage): CachedPage {
    this.pages.set(page.index, page);
    this.fs.pages.add(page);
    return page;
  }

  pageEvicted(page: CachedPage): void {
    this.pages.delete(page.index);
    this.evicted.set(page.index, new WeakRef(page.bytes));
    this.handed.set(page.bytes, page);
    if (this.evicted.size > 4096) {
      for (const [index, reference] of this.evicted) {
        if (reference.deref() === undefined) this.evicted.delete(index);
      }
    }
  }

  /** The page with its content. Throws `Block`. */
  load(index: number): CachedPage {
    const there = this.cached(index);
    if (there !== undefined) return there;
    const bytes = new Uint8Array(PAGE_SIZE);
    if (index * PAGE_SIZE < this.inode.size) {
      this.readBlocks(index, bytes);
      const end = this.inode.size - index * PAGE_SIZE;
      if (end < PAGE_SIZE) bytes.fill(0, end);
    }
    return this.keep(new CachedPage(this, index, bytes));
  }

  private readBlocks(index: number, into: Uint8Array): void {
    const { store } = this.fs;
    const size = this.blockSize;
    for (let i = 0; i < this.perPage; i += 1) {
      const physical = this.inode.blocks.physical(index * this.perPage + i);
      if (physical === 0) continue;
      const at = physical * size;
      const start = at % DEVICE_BLOCK;
      const block = store.data(Math.floor(at / DEVICE_BLOCK), 1);
      into.set(block.subarray(start, start + size), i * size);
    }
  }

  read(position: number, into: Uint8Array): number {
    const length = Math.min(into.length, Math.max(0, this.inode.size - position));
    let done = 0;
    while (done < length) {
      const at = position + done;
      const direct = this.readRun(at, into.subarray(done, length));
      if (direct > 0) {
        done += direct;
        continue;
      }
      const index = Math.floor(at / PAGE_SIZE);
      const start = at - index * PAGE_SIZE;
      const count = Math.min(PAGE_SIZE - start, length - done);
      into.set(this.load(index).bytes.subarray(start, start + count), done);
      done += count;
    }
    return length;
  }

  /** Whole pages that no page in memory hides, straight from the device; 0: none at that place. */
  private readRun(position: number, into: Uint8Array): number {
    if (position % PAGE_SIZE !== 0 || this.blockSize !== DEVICE_BLOCK) return 0;
    const first = position / PAGE_SIZE;
    const run = runFrom(this.inode.blocks.runs, first);
    if (run === undefined || run.logical > first || run.unwritten) return 0;
    const most = Math.min(
      run.logical + run.length - first,
      Math.floor(into.length / PAGE_SIZE),
      MOST_AT_ONCE,
    );
    let count = 0;
    while (count < most && this.cached(first + count) === undefined) count += 1;
    if (count === 0) return 0;
    into.set(this.fs.store.data(run.physical + (first - run.logical), count));
    return count * PAGE_SIZE;
  }

  write(position: number, from: Uint8Array): number {
    if (from.length === 0) return 0;
    const inode = this.inode;
    const end = position + from.length;
    // What is only partly written has to be here before anything changes.
    const partial: CachedPage[] = [];
    eachPage(position, from.length, (index, _at, _done, count) => {
      if (count < PAGE_SIZE) partial.push(this.load(index));
    });
    inode.change(() => {
      const size = this.blockSize;
      inode.blocks.ensure(Math.floor(position / size), Math.ceil(end / size));
      if (end > inode.raw.size) inode.setSize(end);
      inode.touch();
    });
    eachPage(position, from.length, (index, at, done, count) => {
      const page =
        partial.find((each) => each.index === index) ??
        this.cached(index) ??
        this.keep(new CachedPage(this, index, new Uint8Array(PAGE_SIZE)));
      page.bytes.set(from.subarray(done, done + count), at);
      this.pages.set(index, page);
      this.fs.pages.dirtied(page);
    });
    inode.version += 1;
    return from.length;
  }

  writePage(page: CachedPage): void {
    const { store } = this.fs;
    const size = this.blockSize;
    const first = page.index * this.perPage;
    const end = Math.min(this.perPage, Math.ceil((this.inode.size - page.index * PAGE_SIZE) / size));
    for (let i = 0; i < end; i += 1) {
      const part = page.bytes.subarray(i * size, (i + 1) * size);
      if (this.inode.blocks.physical(first + i) === 0) {
        // A mapping wrote where there was a hole, or there is nothing to write.
        if (part.every((byte) => byte === 0)) continue;
        this.inode.change(() => this.inode.blocks.ensure(first + i, first + i + 1));
      }
      const at = this.inode.blocks.physical(first + i) * size;
      const number = Math.floor(at / DEVICE_BLOCK);
      if (size === DEVICE_BLOCK) {
        store.writeData(number, page.bytes);
        continue;
      }
      const whole = store.data(number, 1).slice();
      whole.set(part, at % DEVICE_BLOCK);
      store.writeData(number, whole);
    }
  }

  page(index: number): Uint8Array {
    return this.load(index).bytes;
  }

  pageDirtied(index: number): void {
    if (index * PAGE_SIZE >= this.inode.size) return;
    const page = this.cached(index);
    if (page === undefined) return;
    const end = this.inode.size - index * PAGE_SIZE;
    if (end < PAGE_SIZE) page.bytes.fill(0, end);
    this.fs.pages.dirtied(page);
    this.pages.set(index, page);
  }

  sync(): void {
    this.fs.pages.writeAll(this);
  }

  /** Pages from `first` on are forgotten. */
  private drop(first: number, end = Infinity): void {
    for (const [index, page] of this.pages) {
      if (index < first || index >= end) continue;
      this.pages.delete(index);
      this.fs.pages.drop(page);
    }
    for (const index of this.evicted.keys()) if (index >= first && index < end) this.evicted.delete(index);
  }

  dropAll(): void {
    this.drop(0);
  }

  truncate(size: number): void {
    const inode = this.inode;
    const before = inode.size;
    const edge = size % PAGE_SIZE;
    const last = size < before && edge !== 0 ? this.load(Math.floor(size / PAGE_SIZE)) : undefined;
    inode.change(() => {
      if (size < before) inode.blocks.remove(Math.ceil(size / this.blockSize), 2 ** 40);
      inode.setSize(size);
      inode.touch();
    });
    if (size < before) this.drop(Math.ceil(size / PAGE_SIZE));
    this.clear(last, edge, PAGE_SIZE);
    inode.version += 1;
  }

  private clear(page: CachedPage | undefined, start: number, end: number): void {
    if (page === undefined) return;
    page.bytes.fill(0, start, end);
    this.pages.set(page.index, page);
    this.fs.pages.dirtied(page);
  }

  fallocate(mode: number, offset: number, length: number): void {
    const action = mode & ~FALLOC_FL_KEEP_SIZE;
    const inode = this.inode;
    const size = this.blockSize;
    const end = offset + length;
    if (action === FALLOC_FL_PUNCH_HOLE || action === FALLOC_FL_ZERO_RANGE) this.punch(offset, end);
    else if (action !== 0) throw new Errno(E.OPNOTSUPP);
    if (action === FALLOC_FL_PUNCH_HOLE) return;
    if (!this.fs.usesExtents) throw new Errno(E.OPNOTSUPP);
    inode.change(() => {
      inode.blocks.ensure(Math.floor(offset / size), Math.ceil(end / size), true);
      if ((mode & FALLOC_FL_KEEP_SIZE) === 0 && end > inode.raw.size) inode.setSize(end);
      inode.touch();
    });
    inode.version += 1;
  }

  private punch(offset: number, wantedEnd: number): void {
    const inode = this.inode;
    const end = Math.min(wantedEnd, inode.size);
    if (offset >= end) return;
    const first = Math.floor(offset / PAGE_SIZE);
    const last = Math.floor((end - 1) / PAGE_SIZE);
    const head = offset % PAGE_SIZE === 0 ? undefined : this.load(first);
    const wholeEnd = end === inode.size || end % PAGE_SIZE === 0;
    const tail = wholeEnd ? undefined : this.load(last);
    const from = Math.ceil(offset / PAGE_SIZE);
    const to = wholeEnd ? last + 1 : last;
    inode.change(() => {
      if (from < to) inode.blocks.remove(from * this.perPage, to * this.perPage);
      inode.touch();
    });
    this.drop(from, to);
    this.clear(head, offset - first * PAGE_SIZE, first === last ? end - first * PAGE_SIZE : PAGE_SIZE);
    if (first !== last || head === undefined) this.clear(tail, 0, end - last * PAGE_SIZE);
    inode.version += 1;
  }

  seek(offset: number, hole: boolean): number | undefined {
    const { size } = this.inode;
    const block = this.blockSize;
    const { runs } = this.inode.blocks;
    for (let at = Math.floor(offset / block); at * block < size;) {
      const run = runFrom(runs, at);
      const isData = run !== undefined && run.logical <= at && !run.unwritten;
      if (isData !== hole) return Math.max(offset, at * block);
      if (run === undefined) return hole ? size : undefined;
      at = run.logical <= at ? run.logical + run.length : run.logical;
    }
    return hole ? size : undefined;
  }
}
