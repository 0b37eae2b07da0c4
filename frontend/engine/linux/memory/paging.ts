/** Which pages are there: filling them on first touch, dropping, protecting, copying for fork, and keeping shared ones equal. */

import { EXIT_PAGE_FAULT, PAGE_DIRTY, PAGE_EXEC, PAGE_READ, PAGE_SIZE, PAGE_WRITABLE } from "../abi.ts";
import type { Area, Backing } from "./areas.ts";
import { pageOf, PROT_EXEC, PROT_READ, PROT_WRITE } from "./areas.ts";
import { E, Errno } from "../errno.ts";
import type { SharedVersions } from "./shared.ts";
import type { AddressSpace } from "./space.ts";

/** A page of shared memory that is in this address space. */
interface SharedPage {
  backing: Backing;
  index: number;
  /** The content that all share; ours is a copy. */
  master: Uint8Array;
  version: number;
  backingVersion: number;
  /** What it held when another page of this space got the same content: only what differs from it was stored here. */
  base?: Uint8Array;
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

/** Puts what `content` has otherwise than `base` into `master`. */
function merge(master: Uint8Array, content: Uint8Array, base: Uint8Array): void {
  for (let at = 0; at < PAGE_SIZE; at += 1) if (content[at] !== base[at]) master[at] = content[at]!;
}

export class Paging {
  static readonly transient = {
    shared: () => new Map(),
    holders: () => new Map(),
    twins: () => new Set(),
    accessesTwins: () => false,
    places: () => new Map(),
    resident: () => 0,
  };
  readonly space: AddressSpace;
  readonly versions: SharedVersions;
  /** Pages with content and no permission at all; the page table can't tell them from pages that are not there. */
  readonly hidden = new Map<number, number>();
  private readonly shared = new Map<number, SharedPage>();
  /** The page that was last made a copy of that master. */
  private readonly holders = new Map<Uint8Array, number>();
  /** Pages whose master another page here has, too, and those others. Only until `settle`. */
  private readonly twins = new Set<number>();
  /** The program was given a second copy: the instruction that asked for it may need both. */
  private accessesTwins = false;
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
      if (area.shared) this.meetTwin(page, master);
      space.raw(address, PAGE_SIZE).set(master);
      if (area.shared) {
        if ((area.prot & PROT_WRITE) !== 0) this.writesShared = true;
        this.share(page, {
          backing: area.backing,
          index,
          master,
          version: this.versions.get(area.backing, index),
          backingVersion: area.backing.version,
          ...(this.twins.has(page) ? { base: master.slice() } : {}),
        });
      }
    }
    space.core.setPages(page, 1, pageBits(area.prot));
    return true;
  }

  private share(page: number, shared: SharedPage): void {
    this.shared.set(page, shared);
    this.holders.set(shared.master, page);
  }

  /** Drops a shared page as it is. */
  private forget(page: number): void {
    this.space.core.setPages(page, 1, 0);
    this.hidden.delete(page);
    this.gave(1);
    this.unshare(page);
  }

  private unshare(page: number): void {
    const shared = this.shared.get(page);
    if (shared === undefined) return;
    this.shared.delete(page);
    this.twins.delete(page);
    if (this.holders.get(shared.master) === page) this.holders.delete(shared.master);
  }

  /** Before `page` becomes a copy of `master`: what another page of this space has stored there is in it. */
  private meetTwin(page: number, master: Uint8Array): void {
    const other = this.holders.get(master);
    if (other === undefined) return;
    const shared = this.shared.get(other)!;
    this.writePageBack(other, shared);
    shared.base = this.space.raw(other * PAGE_SIZE, PAGE_SIZE).slice();
    this.twins.add(other).add(page);
  }

  /** The program's access has brought a page. */
  accessed(): void {
    this.accessesTwins = this.twins.size > 0;
  }

  /**
   * Runs the core. Copies of one master do not see each other's stores, so only the one instruction whose access made a second copy runs
   * with both.
   */
  run(budget: number): number {
    const { core } = this.space;
    if (this.twins.size === 0) return core.run(budget);
    if (!this.accessesTwins) {
      this.settle();
      return core.run(budget);
    }
    const reason = core.step();
    if (reason !== EXIT_PAGE_FAULT) this.settle();
    return reason;
  }

  /** Leaves one copy of each master at most, with what was stored through all of them. */
  private settle(): void {
    const changed = new Set<Uint8Array>();
    for (const page of this.twins) {
      const shared = this.shared.get(page)!;
      if (this.isDirty(page) && this.holders.get(shared.master) !== page) changed.add(shared.master);
      this.writePageBack(page, shared);
    }
    for (const page of [...this.twins]) {
      const shared = this.shared.get(page)!;
      delete shared.base;
      if (changed.has(shared.master) || this.holders.get(shared.master) !== page) this.forget(page);
    }
    this.twins.clear();
    this.accessesTwins = false;
  }

  private isDirty(page: number): boolean {
    return (this.space.pages[page]! & PAGE_DIRTY) !== 0 || this.hidden.get(page) === PAGE_DIRTY;
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
      for (const page of [...this.shared.keys()]) if (page >= first && page < last) this.unshare(page);
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
        this.unshare(page);
        this.share(to + at, shared);
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
      if (page >= first && page < last) this.writePageBack(page, shared);
    }
  }

  private writePageBack(page: number, shared: SharedPage): void {
    if (!this.isDirty(page)) return;
    const content = this.space.raw(page * PAGE_SIZE, PAGE_SIZE);
    if (shared.base === undefined) {
      shared.master.set(content);
    } else {
      merge(shared.master, content, shared.base);
      shared.base = content.slice();
    }
    shared.version = this.versions.bump(shared.backing, shared.index);
    shared.backing.pageDirtied(shared.index);
    shared.backingVersion = shared.backing.version;
    if (this.hidden.has(page)) this.hidden.set(page, 0);
    else this.space.core.clean(page, 1);
  }

  /** When the address space ends. */
  release(): void {
    this.writeBack();
    this.shared.clear();
    this.holders.clear();
    this.twins.clear();
    this.hidden.clear();
    this.gave(this.resident);
  }

  /** Drops shared pages that others have changed since. */
  refresh(): void {
    for (const [page, shared] of this.shared) {
      const version = this.versions.get(shared.backing, shared.index);
      if (version === shared.version && shared.backing.version === shared.backingVersion) continue;
      this.forget(page);
    }
  }
}
