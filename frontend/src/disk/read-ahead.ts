/**
 * Which chunks of a disk a guest is about to read: those behind a run of reads, and those that followed the same read when the image was
 * published (its *read trails*).
 */

/** Read-ahead starts with this many chunks once reads follow each other and doubles up to the limit. */
const RUN_FIRST = 1;
const RUN_LIMIT = 8;
/**
 * A guest is on a trail when it has read a second chunk of it, no further behind the first than this: one chunk of a library is read
 * by every program. It is then followed so far ahead of the guest, in chunks, at first, twice as far with each read, and at most; so
 * many are under way together.
 */
const STEP = 8;
const TRAIL_FIRST = 4;
const TRAIL_WINDOW = 32;
const TRAIL_AT_ONCE = 4;

export interface ReadAheadOptions {
  /** Number of chunks of the disk. */
  chunks: number;
  /** Chunk numbers in the orders in which rehearsed commands read them. */
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
  private following:
    { trail: readonly number[]; at: number; window: number; next: number; end: number } | undefined;
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
    const { following } = this;
    if (following?.trail !== trail || at - following.at > Math.max(STEP, following.window)) {
      this.following = { trail, at, window: 0, next: at + 1, end: at + 1 };
      return;
    }
    if (at <= following.at) return; // read again, or out of order
    following.at = at;
    following.window = Math.min(TRAIL_WINDOW, Math.max(TRAIL_FIRST, following.window * 2));
    following.next = Math.max(following.next, at + 1);
    following.end = Math.min(trail.length, at + 1 + following.window);
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
