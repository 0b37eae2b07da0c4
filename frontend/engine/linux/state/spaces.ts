/** Pages of address spaces: which of them a saved machine needs, and putting them back. */

import { GUEST_BASE, GUEST_END, PAGE_DIRTY, PAGE_EXEC, PAGE_READ, PAGE_SIZE, PAGE_WRITABLE } from "../abi.ts";
import { pageOf } from "../memory/areas.ts";
import type { Maps } from "../memory/maps.ts";
import { type CorePool, AddressSpace } from "../memory/space.ts";
import { type ReadBlock, StateError } from "./contract.ts";
import type { Places } from "./places.ts";

const WORDS = PAGE_SIZE / 4;
const KEPT_BITS = PAGE_READ | PAGE_WRITABLE | PAGE_EXEC | PAGE_DIRTY;

/** [page, how many, first place, bits] of runs, one behind the other; bits 0: hidden. */
export type SpacePages = number[];

/** Words of a space's memory, where page `page` begins at `wordOf(page)`. */
function wordsOf(space: AddressSpace): Int32Array {
  return new Int32Array(space.bytes.buffer);
}

function wordOf(page: number): number {
  return (GUEST_BASE + page * PAGE_SIZE) / 4;
}

function isZero(words: Int32Array, at: number): boolean {
  for (let i = at; i < at + WORDS; i += 1) if (words[i] !== 0) return false;
  return true;
}

/** Left out: what is shared, what the file still has, and zeros: the next touch brings them. */
export function neededPages(maps: Maps): number[] {
  const { space, paging } = maps;
  const words = wordsOf(space);
  const needed: number[] = [];
  for (const area of maps.areas.list) {
    const last = pageOf(area.end);
    for (let page = pageOf(area.start); page < last; page += 1) {
      const bits = space.pages[page]! || paging.hidden.get(page);
      if (bits === undefined || (space.pages[page] === 0 && !paging.hidden.has(page))) continue;
      if (area.shared || paging.isShared(page)) continue;
      if (area.backing === undefined ? isZero(words, wordOf(page)) : (bits & PAGE_DIRTY) === 0) continue;
      needed.push(page);
    }
  }
  return needed;
}

/** Places what `neededPages` has given. */
export function placePages(maps: Maps, pages: readonly number[], places: Places): SpacePages {
  const { space, paging } = maps;
  const words = wordsOf(space);
  const runs: SpacePages = [];
  for (const page of pages) {
    const place = places.placePage(paging.places, page, words, wordOf(page));
    const bits = space.pages[page]! & KEPT_BITS;
    const at = runs.length - 4;
    const count = runs[at + 1];
    if (
      count !== undefined &&
      runs[at]! + count === page &&
      runs[at + 2]! + count === place &&
      runs[at + 3] === bits
    ) {
      runs[at + 1] = count + 1;
    } else {
      runs.push(page, 1, place, bits);
    }
  }
  return runs;
}

/** Somebody else may have made them: a page out of bounds would be a place in the core. */
function mustBeRuns(runs: SpacePages): void {
  const isRun = (at: number): boolean => {
    const [page, count, place, bits] = runs.slice(at, at + 4) as [number, number, number, number];
    const inside = page >= 1 && count >= 1 && page + count <= GUEST_END / PAGE_SIZE && place >= 0;
    return inside && (bits & ~KEPT_BITS) === 0;
  };
  let good = runs.length % 4 === 0 && runs.every((value) => Number.isSafeInteger(value));
  for (let at = 0; good && at < runs.length; at += 4) good = isRun(at);
  if (!good) throw new StateError("bad_state", "The saved machine has pages that cannot be.");
}

/** An address space of `pool` with these pages in it. ENOMEM when the host has no memory for it. */
export function restoreSpace(pool: CorePool, runs: SpacePages, read: ReadBlock): AddressSpace {
  mustBeRuns(runs);
  const space = new AddressSpace(pool);
  for (let at = 0; at < runs.length; at += 4) {
    const [page, count, place, bits] = runs.slice(at, at + 4) as [number, number, number, number];
    space.reach((page + count) * PAGE_SIZE);
    for (let i = 0; i < count; i += 1) {
      const bytes = read(place + i);
      const to = space.raw((page + i) * PAGE_SIZE, PAGE_SIZE);
      if (bytes === undefined) to.fill(0);
      else to.set(bytes);
    }
    if (bits !== 0) space.core.setPages(page, count, bits);
  }
  return space;
}

/** What the space's owner has to know of its pages. */
export function adoptPages(maps: Maps, runs: SpacePages): void {
  let count = 0;
  for (let at = 0; at < runs.length; at += 4) {
    for (let i = 0; i < runs[at + 1]!; i += 1) maps.paging.places.set(runs[at]! + i, runs[at + 2]! + i);
    count += runs[at + 1]!;
  }
  // A hidden page of zeros was left out.
  for (const page of [...maps.paging.hidden.keys()]) {
    if (!maps.paging.places.has(page)) maps.paging.hidden.delete(page);
  }
  maps.paging.restored(count);
}
