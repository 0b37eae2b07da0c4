/** A memory or disk in steady use, as seen by its saves: what is hot is written again and again, the rest now and then; files come and go. */

import { BLOCK } from "../machine/machine";
import type { Random } from "./random";

/** 96 MiB, of which the image's own content takes the first part and files the last. */
export const WORK_BLOCKS = 24_576;
const IMAGE_BLOCKS = 5_000;
const HOT = 200;
const HOT_SHARE = 0.6;
const WARM = 1200;
const WARM_SHARE = 0.015;
const FILES_FROM = 14_000;
const FILES_KEPT = 6;

export interface Step {
  /** New content by block number. */
  written: Map<number, Uint8Array>;
  /** Ascending; zeros from now on. */
  cleared: number[];
}

/** 4 KiB that zstd makes about 1.4 KiB of, as it does of memory and of programs. */
export function plausibleBlock(random: Random, words: readonly number[]): Uint8Array {
  const block = new Uint32Array(BLOCK / 4);
  for (let i = 0; i < block.length; i++) {
    block[i] = random.below(100) < 25 ? random.next() * 2 ** 32 : words[random.below(words.length)]!;
  }
  return new Uint8Array(block.buffer);
}

export class Workload {
  private readonly words: number[];
  private readonly hot: number[];
  private readonly warm: number[];
  private readonly files: number[][] = [];
  private nextFile = FILES_FROM;

  constructor(private readonly random: Random) {
    this.words = Array.from({ length: 12 }, () => Math.floor(random.next() * 2 ** 32));
    this.hot = this.clusters(HOT, 6);
    this.warm = this.clusters(WARM, 3);
  }

  /** What the image has. */
  image(): Map<number, Uint8Array> {
    return new Map(Array.from({ length: IMAGE_BLOCKS }, (_, number) => [number, this.block()]));
  }

  /** Everything that this work ever touches, once; after it there is always about as much of it. */
  first(): Step {
    const written = new Map([...this.hot, ...this.warm].map((number) => [number, this.block()]));
    for (let i = 0; i < FILES_KEPT; i++) this.writeFile(written);
    return { written, cleared: [] };
  }

  next(): Step {
    const { random } = this;
    const written = new Map<number, Uint8Array>();
    for (const number of this.hot) if (random.next() < HOT_SHARE) written.set(number, this.block());
    for (const number of this.warm) if (random.next() < WARM_SHARE) written.set(number, this.block());
    this.writeFile(written);
    const cleared = this.files.shift()!.filter((number) => !written.has(number));
    return { written, cleared: cleared.sort((a, b) => a - b) };
  }

  private writeFile(written: Map<number, Uint8Array>): void {
    const length = 10 + this.random.below(90);
    if (this.nextFile + length > WORK_BLOCKS) this.nextFile = FILES_FROM;
    const numbers = Array.from({ length }, (_, i) => this.nextFile + i);
    for (const number of numbers) written.set(number, this.block());
    this.files.push(numbers);
    this.nextFile += length;
  }

  private block(): Uint8Array {
    return plausibleBlock(this.random, this.words);
  }

  /** Block numbers in runs of up to `longest`, anywhere below the files. */
  private clusters(count: number, longest: number): number[] {
    const numbers = new Set<number>();
    while (numbers.size < count) {
      const first = this.random.below(FILES_FROM - longest);
      for (let i = this.random.below(longest); i >= 0 && numbers.size < count; i--) numbers.add(first + i);
    }
    return [...numbers];
  }
}
