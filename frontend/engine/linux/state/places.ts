/** Which block of the saved machine each page and each large buffer has. They keep it, so that a save changes what has changed. */

import { PAGE_SIZE } from "../abi.ts";
import { StateError, type StateBlock } from "./contract.ts";

/** Of buffers, for as long as they live. */
const bufferPlaces = new WeakMap<ArrayBuffer, number[]>();

export class Places {
  private readonly taken: Uint8Array;
  private next = 0;
  readonly blocks: StateBlock[] = [];

  /** `count`: blocks there are. */
  constructor(count: number) {
    this.taken = new Uint8Array(count);
  }

  /** Keeps a place that was given in an earlier save, unless somebody else has it. */
  private claim(place: number | undefined): boolean {
    if (place === undefined || place >= this.taken.length || this.taken[place] !== 0) return false;
    this.taken[place] = 1;
    return true;
  }

  /** First all claims, then new places: a new page must not take an old one's. */
  claimPages(places: Map<number, number>, pages: readonly number[]): void {
    const kept = new Map<number, number>();
    for (const page of pages) {
      const place = places.get(page);
      if (this.claim(place)) kept.set(page, place!);
    }
    places.clear();
    for (const [page, place] of kept) places.set(page, place);
  }

  claimBuffer(buffer: ArrayBuffer): void {
    const places = bufferPlaces.get(buffer);
    if (places !== undefined && !places.every((place) => this.claim(place))) bufferPlaces.delete(buffer);
  }

  private take(): number {
    while (this.taken[this.next] !== 0) {
      this.next += 1;
      if (this.next >= this.taken.length) {
        throw new StateError(
          "memory_size",
          "The machine's memory is full: end some programs or remove files from /tmp, then save again.",
        );
      }
    }
    this.taken[this.next] = 1;
    return this.next;
  }

  placePage(places: Map<number, number>, page: number, words: Int32Array, at: number): number {
    let place = places.get(page);
    if (place === undefined) places.set(page, (place = this.take()));
    this.blocks.push({ number: place, words, at });
    return place;
  }

  placeBuffer(buffer: ArrayBuffer): number[] {
    const count = Math.ceil(buffer.byteLength / PAGE_SIZE);
    let places = bufferPlaces.get(buffer);
    if (places === undefined || places.length !== count) {
      places = Array.from({ length: count }, () => this.take());
      bufferPlaces.set(buffer, places);
    }
    const whole = buffer.byteLength % PAGE_SIZE === 0 ? buffer : padded(buffer, count * PAGE_SIZE);
    const words = new Int32Array(whole);
    places.forEach((place, i) => this.blocks.push({ number: place, words, at: (i * PAGE_SIZE) / 4 }));
    return places;
  }
}

/** A buffer that was restored from these places. */
export function rememberPlaces(buffer: ArrayBuffer, places: number[]): void {
  bufferPlaces.set(buffer, places);
}

function padded(buffer: ArrayBuffer, size: number): ArrayBuffer {
  const bytes = new Uint8Array(size);
  bytes.set(new Uint8Array(buffer));
  return bytes.buffer;
}
