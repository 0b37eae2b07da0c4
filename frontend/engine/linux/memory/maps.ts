/** What a process has mapped (Linux's mm_struct): the calls that change it, and page faults. */

import { GUEST_END, PAGE_EXEC, PAGE_READ, PAGE_SIZE, PAGE_WRITABLE } from "../abi.ts";
import { E, Errno } from "../errno.ts";
import type { ByteString } from "../types.ts";
import {
  type Area,
  AreaList,
  type Backing,
  pageDown,
  pageOf,
  pageUp,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from "./areas.ts";
import { type PageAccount, Paging } from "./paging.ts";
import type { SharedVersions } from "./shared.ts";
import { AddressSpace, type CorePool } from "./space.ts";

/** Lowest address that mmap gives without being asked (vm.mmap_min_addr). */
const LOWEST = 0x10000;
/** Between the stack's furthest end and what lies below it. */
const STACK_GUARD = 256 * PAGE_SIZE;

export interface Mapping {
  length: number;
  prot: number;
  shared: boolean;
  backing: Backing | undefined;
  offset: number;
  name: ByteString;
  growsDown?: boolean;
}

export const FAULT_OK = 0;
/** si_code of SIGSEGV. */
export const SEGV_MAPERR = 1;
export const SEGV_ACCERR = 2;
/** The file ends before that page: SIGBUS. */
export const FAULT_BUS = 3;

export class Maps {
  readonly space: AddressSpace;
  readonly areas = new AreaList();
  readonly paging: Paging;
  private readonly pool: CorePool;
  /** Where brk began, and is. */
  brkStart = 0;
  brk = 0;
  brkLimit = 0;
  /** mmap looks for room from here upwards. */
  mmapBase = 0x08000000;
  /** RLIMIT_STACK when the program began: how far the stack may grow. */
  stackLimit = 8 * 1024 * 1024;
  /** RLIMIT_AS. */
  limit = Infinity;
  /** Data of /proc: where arguments, environment, code, data and stack lie. */
  argStart = 0;
  argEnd = 0;
  envStart = 0;
  envEnd = 0;
  codeStart = 0;
  codeEnd = 0;
  dataStart = 0;
  dataEnd = 0;
  stackStart = 0;
  auxv = new Uint8Array(0);
  /** The program: /proc/self/exe. */
  executable: Backing | undefined;
  executableName: ByteString = "";
  peakBytes = 0;

  constructor(pool: CorePool, versions: SharedVersions, account: PageAccount, size = 0) {
    this.pool = pool;
    this.space = new AddressSpace(pool, size);
    this.paging = new Paging(this.space, versions, account);
  }

  /** For fork: the same areas, and a copy of every page that is there. */
  fork(): Maps {
    this.paging.writeBack();
    const size = this.space.bytes.length;
    const child = new Maps(this.pool, this.paging.versions, this.paging.account, size);
    try {
      for (const area of this.areas.list) {
        if (area.dontFork) continue;
        child.areas.insert({ ...area });
        if (!area.wipeOnFork) this.paging.copyTo(child.paging, area);
      }
    } catch (error) {
      child.discard();
      throw error;
    }
    for (const name of ["brkStart", "brk", "brkLimit", "mmapBase", "stackLimit", "limit"] as const) {
      child[name] = this[name];
    }
    for (const name of ["argStart", "argEnd", "envStart", "envEnd", "codeStart", "codeEnd"] as const) {
      child[name] = this[name];
    }
    for (const name of ["dataStart", "dataEnd", "stackStart", "peakBytes"] as const) child[name] = this[name];
    child.auxv = this.auxv;
    child.setExecutable(this.executable, this.executableName);
    return child;
  }

  setExecutable(executable: Backing | undefined, name: ByteString): void {
    executable?.hold();
    this.executable?.drop();
    this.executable = executable;
    this.executableName = name;
  }

  /** Gives back what nobody has entered. */
  discard(): void {
    this.enter();
    this.leave();
  }

  enter(): void {
    this.space.enter();
  }

  /** The last one to leave gives everything back. */
  leave(): void {
    if (this.space.users === 1) {
      this.paging.release();
      for (const area of this.areas.list) {
        const first = pageOf(area.start);
        this.space.core.setPages(first, pageOf(area.end) - first, 0);
        area.backing?.drop();
      }
      this.setExecutable(undefined, "");
    }
    this.space.leave();
  }

  /**
   * Makes the page at `address` usable for `access` (PAGE_READ, PAGE_WRITABLE, PAGE_EXEC), or says why not. Throws `Block` while its
   * content is on its way.
   */
  fault(address: number, access: number): number {
    if (address < 0 || address >= GUEST_END) return SEGV_MAPERR;
    const area = this.areas.find(address) ?? this.growStack(address);
    if (area === undefined) return SEGV_MAPERR;
    const { prot } = area;
    const allowed =
      access === PAGE_WRITABLE
        ? (prot & PROT_WRITE) !== 0
        : access === PAGE_EXEC
          ? (prot & PROT_EXEC) !== 0
          : (prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) !== 0;
    if (!allowed) return SEGV_ACCERR;
    const page = pageOf(address);
    if (this.paging.isThere(page)) {
      // Shared between threads' views of time: somebody filled it meanwhile.
      const bits = this.space.pages[page]!;
      if ((bits & access) !== 0 || (access === PAGE_READ && bits !== 0)) return FAULT_OK;
      this.paging.protect(page, page + 1, prot);
      return FAULT_OK;
    }
    return this.paging.fill(area, page) ? FAULT_OK : FAULT_BUS;
  }

  private growStack(address: number): Area | undefined {
    const above = this.areas.list[this.areas.index(address)];
    if (above === undefined || !above.growsDown) return undefined;
    const start = pageDown(address);
    if (above.end - start > this.stackLimit) return undefined;
    const below = this.areas.list[this.areas.index(address) - 1];
    if (below !== undefined && below.prot !== 0 && start - below.end < STACK_GUARD) return undefined;
    above.start = start;
    return above;
  }

  private checkRoom(more: number): void {
    if (this.limit !== Infinity && this.areas.total() + more > this.limit) throw new Errno(E.NOMEM);
  }

  /** Room for a mapping: at the hint when that is free, else the lowest from the mmap area on, else below it. */
  findRoom(hint: number, length: number): number {
    const wanted = pageDown(hint);
    if (wanted >= LOWEST && wanted + length <= GUEST_END && this.areas.isFree(wanted, wanted + length)) {
      return wanted;
    }
    const room = this.areas.gap(this.mmapBase, length) ?? this.areas.gap(pageUp(this.brkLimit), length);
    if (room === undefined) throw new Errno(E.NOMEM);
    return room;
  }

  /** At exactly `address` (replacing what is there), or wherever there is room. Returns where. */
  map(address: number | undefined, mapping: Mapping, hint = 0): number {
    const length = pageUp(mapping.length);
    if (length > GUEST_END) throw new Errno(E.NOMEM);
    this.checkRoom(length);
    const start = address ?? this.findRoom(hint, length);
    if (start < 0 || start + length > GUEST_END) throw new Errno(E.NOMEM);
    if (address !== undefined) this.unmap(start, length);
    this.areas.insert({
      start,
      end: start + length,
      prot: mapping.prot & 7,
      shared: mapping.shared,
      growsDown: mapping.growsDown ?? false,
      backing: mapping.backing,
      offset: mapping.offset,
      name: mapping.name,
      locked: false,
      dontFork: false,
      wipeOnFork: false,
    });
    this.peakBytes = Math.max(this.peakBytes, this.areas.total());
    return start;
  }

  unmap(address: number, length: number): void {
    const end = Math.min(address + pageUp(length), GUEST_END);
    const removed = this.areas.remove(address, end);
    for (const area of removed) {
      this.paging.drop(pageOf(area.start), pageOf(area.end));
      area.backing?.drop();
    }
  }

  /** Applies `change` to the areas of [start, end), cut to fit; ENOMEM when there is a hole. */
  private change(start: number, end: number, change: (area: Area) => void): void {
    if (!this.areas.covered(start, end)) throw new Errno(E.NOMEM);
    this.areas.cut(start);
    this.areas.cut(end);
    for (const area of this.areas.overlapping(start, end)) change(area);
    this.areas.mergeAround(start, end);
  }

  protect(address: number, length: number, prot: number): void {
    const end = address + pageUp(length);
    if (end > GUEST_END) throw new Errno(E.NOMEM);
    this.change(address, end, (area) => {
      if (area.prot === prot) return;
      area.prot = prot;
      this.paging.protect(pageOf(area.start), pageOf(area.end), prot);
    });
  }

  setLocked(address: number, length: number, locked: boolean): void {
    this.change(address, address + pageUp(length), (area) => (area.locked = locked));
  }

  setForkBehaviour(address: number, length: number, change: Partial<Area>): void {
    this.change(address, address + pageUp(length), (area) => Object.assign(area, change));
  }

  setBrk(wanted: number): number {
    if (wanted < this.brkStart || wanted > this.brkLimit) return this.brk;
    const now = pageUp(this.brk);
    const next = pageUp(wanted);
    if (next > now) {
      if (!this.areas.isFree(now, next)) return this.brk;
      if (this.limit !== Infinity && this.areas.total() + (next - now) > this.limit) return this.brk;
      this.map(now, {
        length: next - now,
        prot: PROT_READ | PROT_WRITE,
        shared: false,
        backing: undefined,
        offset: 0,
        name: "[heap]",
      });
    } else if (next < now) {
      this.unmap(next, now - next);
    }
    this.brk = wanted;
    return wanted;
  }

  /** Moves or resizes one mapping. Addresses are whole pages. `to`: exactly there; `mayMove` otherwise. */
  remap(from: number, oldLength: number, newLength: number, mayMove: boolean, to?: number): number {
    const area = this.areas.find(from);
    if (area === undefined) throw new Errno(E.FAULT);
    if (oldLength === 0) {
      if (!area.shared) throw new Errno(E.INVAL);
    } else if (from + oldLength > area.end) {
      throw new Errno(E.FAULT);
    }
    if (to === undefined && newLength <= oldLength) {
      if (newLength < oldLength) this.unmap(from + newLength, oldLength - newLength);
      return from;
    }
    this.checkRoom(Math.max(0, newLength - oldLength));
    const grown = from + newLength;
    if (to === undefined && oldLength > 0 && from + oldLength === area.end && grown <= GUEST_END) {
      if (this.areas.isFree(area.end, grown)) {
        area.end = grown;
        this.areas.mergeAround(area.start, grown);
        return from;
      }
    }
    if (!mayMove) throw new Errno(E.NOMEM);
    const target = to ?? this.findRoom(0, newLength);
    if (target + newLength > GUEST_END) throw new Errno(E.NOMEM);
    if (to !== undefined) this.unmap(target, newLength);
    this.areas.insert({
      ...area,
      start: target,
      end: target + newLength,
      offset: area.offset + (from - area.start),
    });
    if (oldLength > 0) {
      const moved = Math.min(oldLength, newLength) / PAGE_SIZE;
      this.paging.move(pageOf(from), pageOf(target), moved, area.prot);
      this.unmap(from, oldLength);
    }
    return target;
  }

  /** Pages that are there in [start, end). */
  resident(start = 0, end = GUEST_END): number {
    if (start === 0 && end === GUEST_END) return this.paging.resident;
    const pages = this.space.pages.subarray(pageOf(start), pageOf(end));
    let count = 0;
    for (const bits of pages) if (bits !== 0) count += 1;
    for (const page of this.paging.hidden.keys()) if (page >= pageOf(start) && page < pageOf(end)) count += 1;
    return count;
  }
}
