/**
 * Which chunks of a disk a guest is about to read: those behind a run of reads, and those that followed the same read when the image was
 * published (its *read trails*).
 */

/** Read-ahead starts with this many chunks once reads follow each other and doubles up to the limit. */
const RUN_FIRST = 1;
const RUN_LIMIT = 8;
/** So far ahead of the guest a trail is followed, in chunks, and so many of them are under way together. */
const TRAIL_WINDOW = 32;
const TRAIL_AT_ONCE = 4;

export interface ReadAheadOptions {
  /** Number of chunks of the disk. */
  chunks: number;
  /** Chunk numbers in the order in which a rehearsed command read them. */
  trails: readonly (readonly number[])[];
  /** Whether other reads wait for the network: nothing is begun then. */
  isBusy(): boolean;
  /** Begins to fetch a chunk; undefined when it is at hand or zeros. Never rejects. */
  fetch(chunk: number): Promise<void> | undefined;
}

export class ReadAhead {
  private nextExpected = -1;
  private ahead = RUN_FIRST;
  /** Chunk number → its trail and place there. The first trail that has a chunk is the one that leads on from it. */
  private readonly places = new Map<number, { trail: readonly number[]; at: number }>();
  private following: { trail: readonly number[]; next: number; end: number } | undefined;
  private underWay = 0;

  constructor(private readonly options: ReadAheadOptions) {
    for (const trail of options.trails) {
      trail.forEach((chunk, at) => {
        if (!this.places.has(chunk)) this.places.set(chunk, { trail, at });
      });
    }
  }

  /** The guest reads from chunk `first` to chunk `last`; `block` and `end` are its first block and the one behind its last. */
  note(read: { first: number; last: number; block: number; end: number }): void {
    this.followRun(read);
    for (let chunk = read.first; chunk <= read.last; chunk++) this.followTrail(chunk);
  }

  private followRun({ last, block, end }: { last: number; block: number; end: number }): void {
    const continues = block === this.nextExpected;
    this.nextExpected = end;
    if (!continues) {
      this.ahead = RUN_FIRST;
      return;
    }
    let began = false;
    for (let chunk = last + 1; chunk <= last + this.ahead; chunk++) {
      if (chunk >= this.options.chunks || this.options.isBusy()) break;
      if (this.options.fetch(chunk)) began = true;
    }
    if (began) this.ahead = Math.min(this.ahead * 2, RUN_LIMIT);
  }

  private followTrail(chunk: number): void {
    const place = this.places.get(chunk);
    if (!place) return;
    const { trail, at } = place;
    const end = Math.min(trail.length, at + 1 + TRAIL_WINDOW);
    if (this.following?.trail === trail) {
      // A guest that jumps about in its trail does not make us fetch what lies behind it again.
      this.following.next = Math.max(this.following.next, at + 1);
      this.following.end = Math.max(this.following.end, end);
    } else this.following = { trail, next: at + 1, end };
    this.pump();
  }

  private pump(): void {
    const { following } = this;
    while (following && following.next < following.end && this.underWay < TRAIL_AT_ONCE) {
      if (this.options.isBusy()) return;
      const fetching = this.options.fetch(following.trail[following.next++]!);
      if (!fetching) continue;
      this.underWay++;
      void fetching.finally(() => {
        this.underWay--;
        this.pump();
      });
    }
  }
}
