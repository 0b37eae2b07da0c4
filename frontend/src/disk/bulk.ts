/** Many chunks with few requests: packs, bundles, and shelves of the cache. What does not verify is left to be had singly. */

import { CHUNK } from "../machine/machine";
import { sha256 } from "./digest";
import type { ChunkCache } from "./cache";
import type { DiskError } from "./errors";
import type { Locator, Place } from "./locator";
import { readBundle, readPack, writePack } from "./pack";
import { FetchFailure, request, TIMEOUT, withRetries, type Clock, type Fetch, type Gate } from "./retry";
import type { Kind, Traffic } from "./source";

/** So many chunks at once are worth bundles and a shelf. */
const MANY = 16;
/** The service's limit of chunks in a bundle, and how many bundles are under way together. */
const MAX_BUNDLE = 64;
const BUNDLES = 3;
/** A leaf's pack that says nothing for so long is given up, ms: its chunks are had singly, so it is worth less patience. */
const PACK_TIMEOUT = 5_000;

/** What the source lends. */
export interface BulkOptions {
  locator: Locator;
  fetch: Fetch;
  cache?: ChunkCache | undefined;
  /** Bound of the chunks kept in memory, bytes. */
  memoryBytes: number;
  clock: Clock;
  traffic: Record<Kind, Traffic>;
  gate: Gate;
  /** The chunk if it is in memory. */
  has(digest: string): Uint8Array | undefined;
  /** Keeps a chunk that was verified. */
  keep(digest: string, raw: Uint8Array, isPublic: boolean): void;
  /** The chunk, verified, if it is in the cache. */
  cached(digest: string, kind: Kind): Promise<Uint8Array | undefined>;
  /** Writes into the cache, when that disturbs nothing. */
  write(work: (cache: ChunkCache) => Promise<void>): void;
  failed(digest: string, kind: Kind, error: unknown): DiskError;
}

type Take = (digest: string, raw: Uint8Array) => Promise<void>;

export class Bulk {
  constructor(private readonly options: BulkOptions) {}

  /** Whether the pack need not be fetched. */
  async hasPack(digest: string): Promise<boolean> {
    const stream = await this.options.cache?.open(digest);
    await stream?.cancel().catch(() => undefined);
    return stream !== undefined;
  }

  /**
   * Brings many chunks into memory: from the shelf, an entry of the cache that holds those of the last time together; singly from
   * the cache; in packs of leaves or in bundles. What cannot be had so, or does not verify, is left out: `get` has it.
   */
  async getMany(
    wanted: ReadonlyMap<string, Place>,
    kind: Kind,
    shelf: string,
    progress: () => void = () => undefined,
  ): Promise<void> {
    const missing = new Map([...wanted].filter(([digest]) => !this.options.has(digest)));
    if (missing.size < MANY || missing.size * CHUNK > this.options.memoryBytes) return;
    const all = [...missing.keys()];
    const take: Take = async (digest, raw) => {
      const place = missing.get(digest);
      // A chunk may come twice at once: in the packs of two leaves.
      if (!place || (await sha256(raw)) !== digest || !missing.delete(digest)) return;
      this.options.keep(digest, raw, this.options.locator.isPublic(digest, place));
      progress();
    };
    await this.readShelf(shelf, kind, take);
    if (missing.size < MANY) return;
    await Promise.all(
      [...missing].map(async ([digest, place]) => {
        const raw = await this.options.cached(digest, kind);
        if (!raw) return;
        missing.delete(digest);
        this.options.keep(digest, raw, this.options.locator.isPublic(digest, place));
        progress();
      }),
    );
    if (missing.size >= MANY) await this.fetchPacks(wanted, missing, kind, take);
    if (missing.size >= MANY) await this.fetchBundles(missing, kind, take);
    this.options.write(async (cache) => {
      const chunks = all.map((digest) => [digest, this.options.has(digest)] as const);
      const present = chunks.filter((chunk): chunk is [string, Uint8Array] => chunk[1] !== undefined);
      await cache.put(shelf, writePack(new Map(present)), false);
    });
  }

  private async readShelf(shelf: string, kind: Kind, take: Take): Promise<void> {
    const stream = await this.options.cache?.open(shelf);
    if (!stream) return;
    this.options.traffic[kind].cachedRequests++;
    const checks: Promise<void>[] = [];
    try {
      const count = (piece: Uint8Array): void =>
        void (this.options.traffic[kind].cachedBytes += piece.length);
      for await (const { digest, raw } of readPack(stream, count)) checks.push(take(digest, raw));
    } catch {
      await this.options.cache?.delete(shelf);
    }
    await Promise.all(checks);
  }

  /** The packs of those leaves of which more than half is missing. */
  private async fetchPacks(
    wanted: ReadonlyMap<string, Place>,
    missing: ReadonlyMap<string, Place>,
    kind: Kind,
    take: Take,
  ): Promise<void> {
    const { locator } = this.options;
    // How many private chunks the leaves with a pack have, and how many of them are missing; leaves may share a pack.
    const packs = new Map<string, { all: number; missing: number }>();
    for (const [digest, place] of wanted) {
      const url = locator.pack(place);
      if (url === undefined || locator.isPublic(digest, place)) continue;
      const count = packs.get(url) ?? { all: 0, missing: 0 };
      packs.set(url, count);
      count.all++;
      if (missing.has(digest)) count.missing++;
    }
    const fetches: Promise<void>[] = [];
    for (const [url, count] of packs) {
      if (count.missing * 2 <= count.all) continue;
      const fetch = (): Promise<void> => this.fetchLeafPack(url, missing, kind, take);
      // A pack is only a faster way to chunks that can be had singly.
      fetches.push(this.options.gate.run(fetch).catch(() => undefined));
    }
    await Promise.all(fetches);
  }

  private async fetchLeafPack(
    url: string,
    missing: ReadonlyMap<string, Place>,
    kind: Kind,
    take: Take,
  ): Promise<void> {
    if (missing.size === 0) return;
    this.options.traffic[kind].requests++;
    const { response, touch, done } = await request(this.options.fetch, url, {}, PACK_TIMEOUT);
    const checks: Promise<void>[] = [];
    try {
      if (!response.body) return;
      const count = (piece: Uint8Array): void => {
        touch();
        this.options.traffic[kind].bytes += piece.length;
      };
      for await (const { digest, raw } of readPack(response.body, count)) checks.push(take(digest, raw));
    } finally {
      done();
      await Promise.all(checks);
    }
  }

  private async fetchBundles(missing: ReadonlyMap<string, Place>, kind: Kind, take: Take): Promise<void> {
    const bundles = this.options.locator.bundles;
    if (!bundles) return;
    const lines: { digest: string; line: string }[] = [];
    for (const [digest, place] of [...missing]) {
      const url = await this.options.locator.url(digest, place).catch(() => "");
      if (url.startsWith(bundles.prefix)) lines.push({ digest, line: url.slice(bundles.prefix.length) });
    }
    const size = Math.min(MAX_BUNDLE, Math.ceil(lines.length / BUNDLES));
    const fetchOne = async (part: typeof lines): Promise<void> => {
      this.options.traffic[kind].requests++;
      const init = { method: "POST", body: part.map(({ line }) => line).join("\n") };
      const { response, touch, done } = await request(this.options.fetch, bundles.url, init, TIMEOUT);
      const checks: Promise<void>[] = [];
      try {
        if (!response.body) return;
        const count = (piece: Uint8Array): void => {
          touch();
          this.options.traffic[kind].bytes += piece.length;
        };
        let index = 0;
        for await (const raw of readBundle(response.body, part.length, count)) {
          const { digest } = part[index++]!;
          if (raw) checks.push(take(digest, raw));
        }
      } finally {
        done();
        await Promise.all(checks);
      }
    };
    const requests: Promise<void>[] = [];
    for (let at = 0; at < lines.length; at += size) {
      // A bundle is only a faster way to chunks that can be had singly.
      requests.push(this.options.gate.run(() => fetchOne(lines.slice(at, at + size))).catch(() => undefined));
    }
    await Promise.all(requests);
  }

  /**
   * Streams a pack, which is always public: every chunk in it is verified, kept and can be read as soon as it has arrived. Entries
   * that do not verify are left out. Rejects with `DiskError` when the pack cannot be had; what came is kept.
   */
  async loadPack(
    digest: string,
    kind: Kind,
    progress: (bytes: number) => void = () => undefined,
  ): Promise<void> {
    const cached = await this.options.cache?.open(digest);
    if (cached) {
      try {
        this.options.traffic[kind].cachedRequests++;
        await this.readPack(
          cached,
          (piece) => (this.options.traffic[kind].cachedBytes += piece.length),
          progress,
        );
        return;
      } catch {
        await this.options.cache?.delete(digest);
      }
    }
    try {
      await this.options.gate.run(() =>
        withRetries(() => this.fetchPack(digest, kind, progress), this.options.clock),
      );
    } catch (error) {
      throw this.options.failed(digest, kind, error);
    }
  }

  private async fetchPack(digest: string, kind: Kind, progress: (bytes: number) => void): Promise<void> {
    this.options.traffic[kind].requests++;
    const { response, touch, done } = await request(
      this.options.fetch,
      this.options.locator.publicUrl(digest),
      {},
      TIMEOUT,
    );
    const pieces: Uint8Array[] = [];
    try {
      if (!response.body) throw new Error("an answer without a body");
      const whole = await this.readPack(
        response.body,
        (piece) => {
          touch();
          this.options.traffic[kind].bytes += piece.length;
          pieces.push(piece);
        },
        progress,
      );
      // A pack with a bad entry is not kept: the next visit fetches it again.
      if (whole) this.options.write((cache) => cache.put(digest, pieces, true));
    } catch (error) {
      throw new FetchFailure("the transfer broke off", 0, { cause: error });
    } finally {
      done();
    }
  }

  private async readPack(
    stream: ReadableStream<Uint8Array>,
    onBytes: (piece: Uint8Array) => void,
    progress: (bytes: number) => void,
  ): Promise<boolean> {
    let whole = true;
    let total = 0;
    const checks: Promise<void>[] = [];
    const counted = (piece: Uint8Array): void => {
      onBytes(piece);
      progress((total += piece.length));
    };
    for await (const { digest, raw } of readPack(stream, counted)) {
      const check = async (): Promise<void> => {
        if ((await sha256(raw)) !== digest) {
          whole = false;
          return;
        }
        this.options.keep(digest, raw, true);
      };
      checks.push(check());
    }
    await Promise.all(checks);
    return whole;
  }
}
