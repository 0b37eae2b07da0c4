/** Which pages are there: filling them on first touch, dropping, protecting, copying for fork, and keeping shared ones equal. */

import { PAGE_DIRTY, PAGE_EXEC, PAGE_READ, PAGE_SIZE, PAGE_WRITABLE } from "../abi.ts";
import type { Area, Backing } from "./areas.ts";
import { pageOf, PROT_EXEC, PROT_READ, PROT_WRITE } from "./areas.ts";
import { E, Errno } from "../errno.ts";
import type { AddressSpace } from "./space.ts";

/** A page of shared memory that is in this address space. */
interface SharedPage {
  backing: Backing;
  index: number;
  /** The content that all share; ours is a copy. */
  master: Uint8Array;
  version: number;
  backingVersion: number;
}

/** Counts how often a shared page was changed through some mapping. One for the machine. */
export class SharedVersions {
  static readonly transient = { counts: () => new WeakMap() };
  private readonly counts = new WeakMap<Backing, Map<number, number>>();

  get(backing: Backing, index: number): number {
    return this.counts.get(backing)?.get(index) ?? 0;
  }

  bump(backing: Backing, index: number): number {
    let pages = this.counts.get(backing);
    if (pages === undefined) {
      pages = new Map();
      this.counts.set(backing, pages);
    }
    const version = (pages.get(index) ?? 0) + 1;
    pages.set(index, version);
    return version;
  }
}

/** Pages of all address spaces of a machine, and how many there may be. */
export class PageAccount {
  static readonly transient = { pages: () => 0 };
  pages = 0;
  most: number;

  constructor(most: number) {
    this.most = most;
  }

  has(count: number): boolean {
    return this.pages + count <= this.most;
  }

  give(count: number): void {
    this.pages -= count;
  }

  /** ENOMEM when the machine has no more. */
  take(count: number): void {
    if (!this.has(count)) throw new Errno(E.NOMEM);
    this.pages += count;
  }
}

export function pageBits(prot: number): number {
  let bits = 0;
  if ((prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) !== 0) bits |= PAGE_READ;
  if ((prot & PROT_WRITE) !== 0) bits |= PAGE_WRITABLE;
  if ((prot & PROT_EXEC) !== 0) bits |= PAGE_EXEC;
  return bits;
}

export class Paging {
  static readonly transient = { shared: () => new Map(), places: () => new Map(), resident: () => 0 };
  readonly space: AddressSpace;
  readonly versions: SharedVersions;
  /** Pages with content and no permission at all; the page table can't tell them from pages that are not there. */
  readonly hidden = new Map<number, number>();
  private readonly shared = new Map<number, SharedPage>();
  /** Whether some shared page was ever writable here: only then can there be anything to write back. */
  private writesShared = false;
  readonly account: PageAccount;
  /** Pages that are there. */
  resident = 0;
  /** Where pages are in the saved machine: they keep their places from save to save. */
  readonly places = new Map<number, number>();

  constructor(space: AddressSpace, versions: SharedVersions, account: PageAccount) {
    this.space = space;
    this.versions = versions;
    this.account = account;
  }

  private took(count: number): void {
    this.account.take(count);
    this.resident += count;
    this.space.filled = Math.max(this.space.filled, this.resident);
  }

  private gave(count: number): void {
    this.account.give(count);
    this.resident -= count;
  }

  /** Whether a page is a copy of what others have, too. */
  isShared(page: number): boolean {
    return this.shared.has(page);
  }

  /** Pages that are back when a machine is restored; their content is in the space already. */
  restored(count: number): void {
    this.resident = 0;
    this.took(count);
  }

  isThere(page: number): boolean {
    return this.space.pages[page] !== 0 || this.hidden.has(page);
  }

  /** Makes a page of `area` be there. False: the file ends before it (SIGBUS). Throws `Block` while it is on its way. */
  fill(area: Area, page: number): boolean {
    const space = this.space;
    const address = page * PAGE_SIZE;
    if (area.backing === undefined) {
      space.reach(address + PAGE_SIZE);
      this.took(1);
      space.raw(address, PAGE_SIZE).fill(0);
    } else {
      const index = (area.offset + (address - area.start)) / PAGE_SIZE;
      if (index * PAGE_SIZE >= area.backing.stat().size) return false;
      const master = area.backing.page(index);
      space.reach(address + PAGE_SIZE);
      this.took(1);
      space.raw(address, PAGE_SIZE).set(master);
      if (area.shared) {
        if ((area.prot & PROT_WRITE) !== 0) this.writesShared = true;
        this.share(page, {
          backing: area.backing,
          index,
          master,
          version: this.versions.get(area.backing, index),
          backingVersion: area.backing.version,
        });
      }
    }
    space.core.setPages(page, 1, pageBits(area.prot));
    return true;
  }

  private share(page: number, shared: SharedPage): void {
    this.shared.set(page, shared);
  }

  /** Whether a system call may see or change pages that this space has mapped shared. */
  get sharesPages(): boolean {
    return this.shared.size > 0;
  }

  /** Forgets pages [first, last): the next touch fills them again. */
  drop(first: number, last: number): void {
    this.writeBack(first, last);
    let there = 0;
    for (const bits of this.space.pages.subarray(first, last)) if (bits !== 0) there += 1;
    if (there > 0) this.space.core.setPages(first, last - first, 0);
    if (this.hidden.size > 0) {
      for (const page of [...this.hidden.keys()]) {
        if (page >= first && page < last && this.hidden.delete(page)) there += 1;
      }
    }
    this.gave(there);
    if (this.shared.size > 0) {
      for (const page of [...this.shared.keys()]) {
        if (page >= first && page < last) this.shared.delete(page);
      }
    }
  }

  /** Gives the pages of [first, last) that are there the permissions of `prot`. */
  protect(first: number, last: number, prot: number): void {
    const bits = pageBits(prot);
    const pages = this.space.pages;
    if ((prot & PROT_WRITE) !== 0 && this.shared.size > 0) this.writesShared = true;
    if (this.hidden.size > 0 && bits !== 0) {
      for (const [page, dirty] of [...this.hidden]) {
        if (page < first || page >= last) continue;
        this.hidden.delete(page);
        this.space.core.setPages(page, 1, bits | dirty);
      }
    }
    let page = first;
    while (page < last) {
      const now = pages[page]!;
      if (now === 0) {
        page += 1;
        continue;
      }
      const dirty = now & PAGE_DIRTY;
      let end = page + 1;
      while (end < last && pages[end] !== 0 && (pages[end]! & PAGE_DIRTY) === dirty) end += 1;
      if (bits === 0) for (let each = page; each < end; each += 1) this.hidden.set(each, dirty);
      this.space.core.setPages(page, end - page, bits === 0 ? 0 : bits | dirty);
      page = end;
    }
  }

  /** Moves pages within the address space (mremap). */
  move(from: number, to: number, count: number, prot: number): void {
    const space = this.space;
    space.reach((to + count) * PAGE_SIZE);
    for (let at = 0; at < count; at += 1) {
      const page = from + at;
      const bits = space.pages[page]!;
      const hidden = this.hidden.get(page);
      if (bits === 0 && hidden === undefined) continue;
      space.raw((to + at) * PAGE_SIZE, PAGE_SIZE).set(space.raw(page * PAGE_SIZE, PAGE_SIZE));
      if (hidden !== undefined) {
        this.hidden.delete(page);
        this.hidden.set(to + at, hidden);
      } else {
        space.core.setPages(to + at, 1, pageBits(prot) | (bits & PAGE_DIRTY));
      }
      const shared = this.shared.get(page);
      if (shared !== undefined) {
        this.shared.delete(page);
        this.shared.set(to + at, shared);
      }
    }
    space.core.setPages(from, count, 0);
  }

  /** Copies what is there of `area` into another space, for fork. */
  copyTo(target: Paging, area: Area): void {
    const from = this.space;
    const to = target.space;
    const first = pageOf(area.start);
    const last = pageOf(area.end);
    const pages = from.pages;
    let page = first;
    while (page < last) {
      const now = pages[page]!;
      if (now === 0) {
        page += 1;
        continue;
      }
      const dirty = now & PAGE_DIRTY;
      let end = page + 1;
      while (end < last && pages[end] !== 0 && (pages[end]! & PAGE_DIRTY) === dirty) end += 1;
      // Nobody has written to these: the child finds them in the file, should it ever want them.
      if (dirty === 0 && area.backing !== undefined && !area.shared) {
        page = end;
        continue;
      }
      to.reach(end * PAGE_SIZE);
      target.took(end - page);
      to.raw(page * PAGE_SIZE, (end - page) * PAGE_SIZE).set(
        from.raw(page * PAGE_SIZE, (end - page) * PAGE_SIZE),
      );
      to.core.setPages(page, end - page, pageBits(area.prot) | dirty);
      page = end;
    }
    for (const [page, dirty] of this.hidden) {
      if (page < first || page >= last) continue;
      to.reach((page + 1) * PAGE_SIZE);
      target.took(1);
      to.raw(page * PAGE_SIZE, PAGE_SIZE).set(from.raw(page * PAGE_SIZE, PAGE_SIZE));
      target.hidden.set(page, dirty);
    }
    if (this.writesShared) target.writesShared = true;
    for (const [page, shared] of this.shared) {
      if (page >= first && page < last) target.share(page, { ...shared });
    }
  }

  /** Copies shared pages that were written to where all see them. */
  writeBack(first = 0, last = Infinity): void {
    if (!this.writesShared) return;
    for (const [page, shared] of this.shared) {
      if (page < first || page >= last) continue;
      if ((this.space.pages[page]! & PAGE_DIRTY) === 0 && this.hidden.get(page) !== PAGE_DIRTY) continue;
      shared.master.set(this.space.raw(page * PAGE_SIZE, PAGE_SIZE));
      shared.version = this.versions.bump(shared.backing, shared.index);
      shared.backing.pageDirtied(shared.index);
      shared.backingVersion = shared.backing.version;
      if (this.hidden.has(page)) this.hidden.set(page, 0);
      else this.space.core.clean(page, 1);
    }
  }

  /** When the address space ends. */
  release(): void {
    this.writeBack();
    this.shared.clear();
    this.hidden.clear();
    this.gave(this.resident);
  }

  /** Drops shared pages that others have changed since. */
  refresh(): void {
    for (const [page, shared] of this.shared) {
      const version = this.versions.get(shared.backing, shared.index);
      if (version === shared.version && shared.backing.version === shared.backingVersion) continue;
      this.space.core.setPages(page, 1, 0);
      this.hidden.delete(page);
      this.gave(1);
      this.shared.delete(page);
    }
  }
}
