/** Pages of files: what was read, and what was written and is not on the device yet. */

import { Errno } from "../../errno.ts";
import { Block } from "../../wait.ts";

export class CachedPage {
  readonly owner: PageOwner;
  readonly index: number;
  readonly bytes: Uint8Array;
  dirty = false;

  constructor(owner: PageOwner, index: number, bytes: Uint8Array) {
    this.owner = owner;
    this.index = index;
    this.bytes = bytes;
  }
}

export interface PageOwner {
  /** Writes it to the device. Throws `Block`. */
  writePage(page: CachedPage): void;
  /** It is not kept any more, though somebody may have it. */
  pageEvicted(page: CachedPage): void;
}

/** 32 MiB. */
const MOST_PAGES = 8192;

export class PageCache {
  static readonly transient = { pages: () => new Set(), dirtyPages: () => new Set() };
  /** Least recently used first. */
  private readonly pages = new Set<CachedPage>();
  private readonly dirtyPages = new Set<CachedPage>();

  add(page: CachedPage): void {
    this.pages.add(page);
    if (this.pages.size > MOST_PAGES) this.shrink();
  }

  use(page: CachedPage): void {
    this.pages.delete(page);
    this.pages.add(page);
  }

  dirtied(page: CachedPage): void {
    page.dirty = true;
    this.dirtyPages.add(page);
    this.pages.add(page);
  }

  /** Its content is of no interest any more. */
  drop(page: CachedPage): void {
    page.dirty = false;
    this.pages.delete(page);
    this.dirtyPages.delete(page);
  }

  /** Throws `Block`; what is written then stays written. */
  write(page: CachedPage): void {
    page.owner.writePage(page);
    page.dirty = false;
    this.dirtyPages.delete(page);
  }

  writeAll(owner?: PageOwner): void {
    for (const page of [...this.dirtyPages])
      if (owner === undefined || page.owner === owner) this.write(page);
  }

  private shrink(): void {
    let left = MOST_PAGES / 8;
    for (const page of this.pages) {
      if (left === 0) break;
      left -= 1;
      try {
        if (page.dirty) this.write(page);
      } catch (problem) {
        // It stays until what it needs has come, or there is room.
        if (problem instanceof Block || problem instanceof Errno) continue;
        throw problem;
      }
      this.pages.delete(page);
      page.owner.pageEvicted(page);
    }
  }
}
