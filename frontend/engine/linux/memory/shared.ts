/** Memory that several address spaces map: what has no file (MAP_SHARED | MAP_ANONYMOUS, System V segments), and what was changed. */

import { PAGE_SIZE } from "../abi.ts";
import type { Stat } from "../types.ts";
import type { Backing } from "./areas.ts";

const EPOCH = { seconds: 0, nanoseconds: 0 };

export class SharedMemory implements Backing {
  readonly size: number;
  readonly version = 0;
  readonly pages = new Map<number, Uint8Array>();
  /** Areas that map it, and a System V segment's own name. */
  holders = 0;

  constructor(size: number) {
    this.size = size;
  }

  page(index: number): Uint8Array {
    let page = this.pages.get(index);
    if (page === undefined) {
      page = new Uint8Array(PAGE_SIZE);
      this.pages.set(index, page);
    }
    return page;
  }

  pageDirtied(): void {}

  hold(): void {
    this.holders += 1;
  }

  drop(): void {
    this.holders -= 1;
    if (this.holders === 0) this.pages.clear();
  }

  stat(): Stat {
    return {
      dev: 1,
      ino: 0,
      mode: 0o100777,
      nlink: 0,
      uid: 0,
      gid: 0,
      rdev: 0,
      size: this.size,
      blksize: PAGE_SIZE,
      blocks: this.pages.size * (PAGE_SIZE / 512),
      atime: EPOCH,
      mtime: EPOCH,
      ctime: EPOCH,
    };
  }
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
