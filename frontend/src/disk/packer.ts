/** Cuts the blocks of a save into chunks. */

import { BLOCK, CHUNK_BLOCKS } from "../machine/machine";
import { sha256 } from "./digest";
import { hashBlock, sameWords, type Location, type Rest } from "./known";

const WORDS = BLOCK / 4;

/**
 * Blocks that will live about as long as each other are packed together, in this order: those that are written again and again, those that
 * are new on the device, and those that have stayed for long. Then chunks die whole, and little has to be folded.
 */
export const HOT = 0;
export const FRESH = 1;
export const COLD = 2;
export type Kind = typeof HOT | typeof FRESH | typeof COLD;

/** A chunk with fewer blocks than this takes the next kind in as well: many small chunks would cost more than mixed ones. */
const SMALL = 16;

interface Content {
  words: Int32Array;
  at: number;
}

/** Collects blocks and cuts them into chunks, kind after kind and in ascending order; equal blocks are packed once. */
export class Packer {
  private readonly blocks = new Map<number, Content & { kind: Kind }>();
  private layout: { block: number; number: number }[] = [];
  private cuts: number[] = [];

  get size(): number {
    return this.blocks.size;
  }

  /** Block `block` is the 1024 words of `words` from index `at` on. */
  add(block: number, words: Int32Array, at: number, kind: Kind = FRESH): void {
    this.blocks.set(block, { words, at, kind });
  }

  /** At most so many chunks' worth of the blocks in the order of packing, as whole chunks; above that some are left out, evenly. */
  sample(chunks: number): Uint8Array {
    const all = this.ordered();
    const step = Math.max(1, all.length / CHUNK_BLOCKS / chunks);
    const runs: Content[] = [];
    for (let i = 0; i < chunks && i * step * CHUNK_BLOCKS < all.length; i++) {
      const from = Math.floor(i * step) * CHUNK_BLOCKS;
      for (const [, content] of all.slice(from, from + CHUNK_BLOCKS)) runs.push(content);
    }
    return bytesOf(runs);
  }

  numbers(): Iterable<number> {
    return this.blocks.keys();
  }

  setKind(block: number, kind: Kind): void {
    this.blocks.get(block)!.kind = kind;
  }

  async finish(rest: Rest): Promise<{ digest: string; raw: Uint8Array }[]> {
    const distinct = await this.layOut(rest);
    const chunks: { digest: string; raw: Uint8Array }[] = [];
    for (const [i, from] of this.cuts.entries()) {
      const bytes = bytesOf(distinct.slice(from, this.cuts[i + 1]));
      chunks.push({ digest: await sha256(bytes), raw: bytes });
    }
    return chunks;
  }

  /** Where each block is in the chunks that `finish` gave. */
  *places(chunks: { digest: string }[]): Generator<{ block: number; place: Location }> {
    const chunkOf: number[] = [];
    for (const [i, from] of this.cuts.entries()) {
      for (let number = from; number < (this.cuts[i + 1] ?? from + CHUNK_BLOCKS); number++) chunkOf.push(i);
    }
    for (const { block, number } of this.layout) {
      const chunk = chunkOf[number]!;
      yield { block, place: { digest: chunks[chunk]!.digest, offset: number - this.cuts[chunk]! } };
    }
  }

  private ordered(): [number, Content & { kind: Kind }][] {
    return [...this.blocks].sort(([a, one], [b, other]) => one.kind - other.kind || a - b);
  }

  /** Numbers the distinct contents in the order of packing, and says where a chunk begins. */
  private async layOut(rest: Rest): Promise<Content[]> {
    const distinct: Content[] = [];
    const byHash = new Map<number, number>();
    let kind: Kind | undefined;
    this.cuts = [];
    this.layout = [];
    for (const [block, content] of this.ordered()) {
      if (this.layout.length % 64 === 63) await rest();
      const hash = hashBlock(content.words, content.at);
      const twin = byHash.get(hash);
      const same = twin === undefined ? undefined : distinct[twin];
      if (same && sameWords(content.words, content.at, same.words, same.at)) {
        this.layout.push({ block, number: twin! });
        continue;
      }
      const number = distinct.push(content) - 1;
      const begun = number - (this.cuts.at(-1) ?? -CHUNK_BLOCKS);
      if (begun === CHUNK_BLOCKS || (content.kind !== kind && begun >= SMALL)) this.cuts.push(number);
      kind = content.kind;
      byHash.set(hash, number);
      this.layout.push({ block, number });
    }
    return distinct;
  }
}

function bytesOf(contents: Content[]): Uint8Array {
  const raw = new Int32Array(contents.length * WORDS);
  contents.forEach(({ words, at }, i) => raw.set(words.subarray(at, at + WORDS), i * WORDS));
  return new Uint8Array(raw.buffer);
}
