/**
 * Blocks whose bytes are in chunks that exist already, found by content. A hash only proposes; a block is the same when all of
 * its bytes are.
 */

import { BLOCK } from "../machine/machine";

const WORDS = BLOCK / 4;

/** Called between small pieces of long work: waits now and then, so that others have their turn in this thread. */
export type Rest = () => Promise<void> | void;
export const noRest: Rest = () => undefined;

export interface Location {
  digest: string;
  /** In blocks. */
  offset: number;
}

/**
 * 53 bits of a block: two lanes over all words, each with a multiplication and a rotation a step. Not cryptographic; fast enough to
 * look at a hundred megabytes in a moment.
 */
export function hashBlock(words: Int32Array, at: number): number {
  let a = 0x9e3779b1 | 0;
  let b = 0x85ebca77 | 0;
  for (let i = at, end = at + WORDS; i < end; i++) {
    const word = words[i]!;
    a = Math.imul((a << 13) | (a >>> 19), 0xc2b2ae3d) ^ word;
    b = Math.imul(b ^ word, 0x27d4eb2f);
    b = (b << 17) | (b >>> 15);
  }
  a ^= b >>> 7;
  return (a >>> 0) * 0x200000 + (b >>> 11);
}

/** Eight words a step: twice as quick as one, and a capture compares tens of megabytes while the guest stands still. */
export function sameWords(a: Int32Array, atA: number, b: Int32Array, atB: number): boolean {
  if (b.length < atB + WORDS) return false;
  for (let i = atA, j = atB, end = atA + WORDS; i < end; i += 8, j += 8) {
    const differ =
      (a[i]! ^ b[j]!) |
      (a[i + 1]! ^ b[j + 1]!) |
      (a[i + 2]! ^ b[j + 2]!) |
      (a[i + 3]! ^ b[j + 3]!) |
      (a[i + 4]! ^ b[j + 4]!) |
      (a[i + 5]! ^ b[j + 5]!) |
      (a[i + 6]! ^ b[j + 6]!) |
      (a[i + 7]! ^ b[j + 7]!);
    if (differ) return false;
  }
  return true;
}

export function isZeroBlock(words: Int32Array, at: number): boolean {
  for (let i = at, end = at + WORDS; i < end; i++) if (words[i] !== 0) return false;
  return true;
}

export function wordsOf(bytes: Uint8Array): Int32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Int32Array(aligned.buffer, aligned.byteOffset, aligned.length >> 2);
}

export class KnownBlocks {
  /** Content hash → number of the chunk * 64 + offset. The first chunk that has a block stays its place. */
  private readonly places = new Map<number, number>();
  private readonly digests: (string | undefined)[] = [];
  private readonly seen = new Set<string>();

  /** `local` gives a chunk's bytes if that needs no network; `base` is asked for what is not known here. */
  constructor(
    private readonly local: (digest: string) => Promise<Uint8Array | undefined>,
    private readonly base?: KnownBlocks,
  ) {}

  /** Only chunks that every new node of the tenant may name: public ones, and those that it uploaded itself. */
  add(digest: string, raw: Uint8Array): void {
    if (this.seen.has(digest) || raw.length % BLOCK !== 0) return;
    this.seen.add(digest);
    const number = this.digests.push(digest) - 1;
    const words = wordsOf(raw);
    for (let offset = 0; offset < raw.length / BLOCK; offset++) {
      const hash = hashBlock(words, offset * WORDS);
      const place = this.places.get(hash);
      if (place === undefined || this.digests[Math.floor(place / 64)] === undefined)
        this.places.set(hash, number * 64 + offset);
    }
  }

  /** The chunk may be gone: it is not proposed any more. */
  forget(digest: string): void {
    if (!this.seen.delete(digest)) return;
    const number = this.digests.indexOf(digest);
    if (number >= 0) this.digests[number] = undefined;
  }

  /** For each block of `data` a place that holds the same bytes, or undefined. */
  async find(data: Uint8Array, rest: Rest = noRest): Promise<(Location | undefined)[]> {
    const words = wordsOf(data);
    const count = data.length / BLOCK;
    const found = new Array<Location | undefined>(count).fill(undefined);
    const byChunk = new Map<string, { index: number; offset: number }[]>();
    for (let index = 0; index < count; index++) {
      if (index % 64 === 63) await rest();
      const place = this.propose(hashBlock(words, index * WORDS));
      if (!place) continue;
      const wanted = byChunk.get(place.digest) ?? [];
      byChunk.set(place.digest, wanted);
      wanted.push({ index, offset: place.offset });
    }
    for (const [digest, wanted] of byChunk) {
      const raw = await this.local(digest);
      if (!raw) continue;
      const chunk = wordsOf(raw);
      await rest();
      for (const { index, offset } of wanted) {
        if (sameWords(words, index * WORDS, chunk, offset * WORDS)) found[index] = { digest, offset };
      }
    }
    return found;
  }

  private propose(hash: number): Location | undefined {
    const place = this.places.get(hash);
    const digest = place === undefined ? undefined : this.digests[Math.floor(place / 64)];
    if (place === undefined || digest === undefined) return this.base?.propose(hash);
    return { digest, offset: place % 64 };
  }
}
