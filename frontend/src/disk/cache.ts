/**
 * Chunks across visits: bounded in bytes, what was used longest ago goes first. Where the bytes and where the ledger of sizes and
 * uses are kept is behind two small interfaces (browser-cache.ts has the browser's).
 */

/** What it gives is checked like what the network gives. A key is a digest, or the name of a shelf of many chunks. */
export interface ChunkCache {
  get(key: string): Promise<Uint8Array | undefined>;
  /** The bytes as a stream, for what is large. */
  open(key: string): Promise<ReadableStream<Uint8Array> | undefined>;
  /** Keeps the bytes; `isPublic` false: they go when the person signs out. Never fails: a cache stands in nobody's way. */
  put(key: string, raw: Uint8Array | Uint8Array[], isPublic: boolean): Promise<void>;
  delete(key: string): Promise<void>;
}

/** Where the bytes are. */
export interface Shelves {
  match(key: string): Promise<Response | undefined>;
  /** Rejects when there is no room. */
  put(key: string, body: Blob, isPublic: boolean): Promise<void>;
  delete(key: string): Promise<void>;
}

export interface Entry {
  key: string;
  size: number;
  /** Milliseconds since 1970. */
  used: number;
}

/** What is on the shelves. A crash may leave entries without bytes, never bytes without an entry. */
export interface Ledger {
  all(): Promise<Entry[]>;
  put(entries: Entry[]): Promise<void>;
  /** Only the time of those that are there. */
  touch(keys: string[], used: number): Promise<void>;
  delete(keys: string[]): Promise<void>;
}

export interface BoundedCacheOptions {
  shelves: Shelves;
  ledger: Ledger;
  /** Bytes that may be kept; asked for when room is made. */
  limit(): Promise<number>;
  now?: () => number;
}

/** The ledger is written, and the bound looked at, after so many changes or so long, ms. */
const CHANGES = 64;
const TIDY_AFTER = 20_000;
/** Room is made down to this part of the limit, so that it is not made again at once. */
const KEPT = 0.8;

export class BoundedCache implements ChunkCache {
  private readonly used = new Set<string>();
  private readonly now: () => number;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private added = 0;
  private tidying: Promise<void> | undefined;

  constructor(private readonly options: BoundedCacheOptions) {
    this.now = options.now ?? Date.now;
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    try {
      const response = await this.match(key);
      return response && new Uint8Array(await response.arrayBuffer());
    } catch {
      return undefined;
    }
  }

  async open(key: string): Promise<ReadableStream<Uint8Array> | undefined> {
    try {
      return (await this.match(key))?.body ?? undefined;
    } catch {
      return undefined;
    }
  }

  async put(key: string, raw: Uint8Array | Uint8Array[], isPublic: boolean): Promise<void> {
    const body = new Blob((Array.isArray(raw) ? raw : [raw]) as BlobPart[]);
    const keep = async (): Promise<void> => {
      await this.options.ledger.put([{ key, size: body.size, used: this.now() }]);
      await this.options.shelves.put(key, body, isPublic);
    };
    try {
      await keep();
    } catch {
      // The disk is full, or another program's cache is: half of ours goes, and what does not fit then is not kept.
      try {
        await this.makeRoom((total) => total / 2);
        await keep();
      } catch {
        await this.delete(key);
      }
    }
    this.added++;
    this.changed();
  }

  async delete(key: string): Promise<void> {
    try {
      await this.options.shelves.delete(key);
      await this.options.ledger.delete([key]);
    } catch {
      // what cannot be deleted is refused by its digest
    }
  }

  /** Writes down what was used and makes room. Called by itself now and then. */
  tidy(): Promise<void> {
    this.tidying ??= this.tidyNow()
      // a ledger that cannot be written is only forgetful
      .catch(() => undefined)
      .finally(() => (this.tidying = undefined));
    return this.tidying;
  }

  private async tidyNow(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.added = 0;
    const used = [...this.used];
    this.used.clear();
    await this.options.ledger.touch(used, this.now());
    const limit = await this.options.limit();
    await this.makeRoom((total) => (total > limit ? limit * KEPT : total));
  }

  /** Drops what was used longest ago until no more than `target(total)` bytes are left. */
  private async makeRoom(target: (total: number) => number): Promise<void> {
    const { ledger, shelves } = this.options;
    const entries = await ledger.all();
    let total = entries.reduce((sum, { size }) => sum + size, 0);
    const goal = target(total);
    if (total <= goal) return;
    entries.sort((a, b) => a.used - b.used);
    const gone: string[] = [];
    for (const { key, size } of entries) {
      if (total <= goal) break;
      await shelves.delete(key);
      gone.push(key);
      total -= size;
    }
    await ledger.delete(gone);
  }

  private async match(key: string): Promise<Response | undefined> {
    const response = await this.options.shelves.match(key);
    if (response) {
      this.used.add(key);
      this.changed();
    }
    return response;
  }

  private changed(): void {
    if (this.added >= CHANGES) void this.tidy();
    else this.timer ??= setTimeout(() => void this.tidy(), TIDY_AFTER);
  }
}
