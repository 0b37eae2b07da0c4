/** Content of files in memory: pages of 4096 bytes, holes where there is none. */

import { PAGE_SIZE } from "../abi.ts";

export const NO_PAGE: Uint8Array = new Uint8Array(PAGE_SIZE);

/** Sparse bytes. What lies behind the end of the file is always zero. */
export class Pages {
  readonly map = new Map<number, Uint8Array>();

  get(index: number): Uint8Array | undefined {
    return this.map.get(index);
  }

  /** The page, made when there is none. */
  ensure(index: number): Uint8Array {
    let page = this.map.get(index);
    if (page === undefined) this.map.set(index, (page = new Uint8Array(PAGE_SIZE)));
    return page;
  }

  /** Zeros from `start` to `end`; whole pages become holes. */
  clear(start: number, end: number): void {
    if (start >= end) return;
    const first = Math.floor(start / PAGE_SIZE);
    const last = Math.floor((end - 1) / PAGE_SIZE);
    if (last - first > this.map.size) {
      for (const index of [...this.map.keys()])
        if (index >= first && index <= last) this.clearIn(index, start, end);
    } else {
      for (let index = first; index <= last; index += 1) this.clearIn(index, start, end);
    }
  }

  private clearIn(index: number, start: number, end: number): void {
    const from = Math.max(0, start - index * PAGE_SIZE);
    const to = Math.min(PAGE_SIZE, end - index * PAGE_SIZE);
    if (from === 0 && to === PAGE_SIZE) this.map.delete(index);
    else this.map.get(index)?.fill(0, from, to);
  }
}

/** The pieces of `length` bytes at `position`, page by page: index of the page, offset in it, offset in the piece, bytes. */
export function eachPage(
  position: number,
  length: number,
  visit: (index: number, at: number, done: number, count: number) => void,
): void {
  for (let done = 0; done < length;) {
    const index = Math.floor((position + done) / PAGE_SIZE);
    const at = position + done - index * PAGE_SIZE;
    const count = Math.min(PAGE_SIZE - at, length - done);
    visit(index, at, done, count);
    done += count;
  }
}
