/**
 * Chunks by digest, from wherever they are soonest: memory, Cache Storage, the network. Nothing leaves here that does not have the
 * digest it was asked by.
 */

import { CHUNK } from "../machine/machine";
import { sha256 } from "./digest";
import { DiskError } from "./errors";
import type { Locator, Place } from "./locator";
import { readBundle, readPack, writePack } from "./pack";
import { FetchFailure, Gate, realClock, request, withRetries, type Clock, type Fetch } from "./retry";
import { MemoryStore, type ChunkCache } from "./store";

/** What a request is for, for the statistics. */
export type Kind = "index" | "firmware" | "warm_pack" | "boot_pack" | "memory" | "disk";

export interface Traffic {
  requests: number;
  bytes: number;
  cachedRequests: number;
  cachedBytes: number;
  failures: number;
}

export interface SourceOptions {
  locator: Locator;
  fetch: Fetch;
  cache?: ChunkCache | undefined;
  /** Bound of the chunks kept in memory, bytes. */
  memoryBytes: number;
  clock?: Clock;
  /** Hears of every verified data chunk that comes in. */
  onChunk?: (digest: string, raw: Uint8Array, isPublic: boolean) => void;
}

/** A browser opens six connections to a host; more requests would only wait there, without order. */
const CONCURRENT = 6;
/** Without a sign of life for so long a request is given up, ms. */
const TIMEOUT = 15_000;
/** So many chunks at once are worth bundles and a shelf. */
const MANY = 16;
/** The service's limit of chunks in a bundle, and how many bundles are under way together. */
const MAX_BUNDLE = 64;
const BUNDLES = 3;

export class ChunkSource {
  readonly traffic: Record<Kind, Traffic>;
  private readonly memory: MemoryStore;
  private readonly loading = new Map<string, Promise<Uint8Array>>();
  private readonly gate = new Gate(CONCURRENT);
  private readonly clock: Clock;
  /** Writes into the cache that wait for a better moment; undefined while they need not. */
  private held: (() => Promise<void>)[] | undefined;

  constructor(private readonly options: SourceOptions) {
    this.memory = new MemoryStore(options.memoryBytes);
    this.clock = options.clock ?? realClock;
    const kinds: Kind[] = ["index", "firmware", "warm_pack", "boot_pack", "memory", "disk"];
    const none = (): Traffic => ({ requests: 0, bytes: 0, cachedRequests: 0, cachedBytes: 0, failures: 0 });
    this.traffic = Object.fromEntries(kinds.map((kind) => [kind, none()])) as Record<Kind, Traffic>;
  }

  get size(): { chunks: number; bytes: number } {
    return this.memory.size;
  }

  /** The chunk if it is in memory. */
  peek(digest: string): Uint8Array | undefined {
    return this.memory.get(digest);
  }

  /** Chunks that were made here. */
  put(digest: string, raw: Uint8Array): void {
    this.memory.put(digest, raw);
  }

  /** The chunk if it need not be fetched. */
  async local(digest: string): Promise<Uint8Array | undefined> {
    return (
      this.memory.get(digest) ??
      this.loading.get(digest)?.catch(() => undefined) ??
      this.fromCache(digest, "memory")
    );
  }

  /** The chunk; rejects with `DiskError` when it cannot be had. Concurrent calls for one chunk share the work. */
  async get(digest: string, kind: Kind, place?: Place): Promise<Uint8Array> {
    const present = this.memory.get(digest);
    if (present) return present;
    let loading = this.loading.get(digest);
    if (!loading) {
      loading = this.load(digest, kind, place).finally(() => this.loading.delete(digest));
      this.loading.set(digest, loading);
    }
    return loading;
  }

  /** How many requests wait for a free connection: read-ahead holds back when there are any. */
  get backlog(): number {
    return this.gate.waiting;
  }

  /** From now on nothing is written into the cache until `releaseWrites`: that would slow down what is being loaded. */
  holdWrites(): void {
    this.held ??= [];
  }

  async releaseWrites(): Promise<void> {
    const writes = this.held ?? [];
    this.held = undefined;
    for (const write of writes) await write();
  }

  /** Whether the pack need not be fetched. */
  async hasPack(digest: string): Promise<boolean> {
    const stream = await this.options.cache?.open(digest);
    await stream?.cancel().catch(() => undefined);
    return stream !== undefined;
  }

  /**
   * Brings many chunks into memory: from the shelf, an entry of the cache that holds those of the last time together; singly from
   * the cache; in bundles. What cannot be had so, or does not verify, is left out: `get` has it.
   */
  async getMany(
    wanted: ReadonlyMap<string, Place>,
    kind: Kind,
    shelf: string,
    progress: () => void = () => undefined,
  ): Promise<void> {
    const missing = new Map([...wanted].filter(([digest]) => !this.memory.get(digest)));
    if (missing.size < MANY || missing.size * CHUNK > this.options.memoryBytes) return;
    const all = [...missing.keys()];
    const take = async (digest: string, raw: Uint8Array): Promise<void> => {
      const place = missing.get(digest);
      if (!place || (await sha256(raw)) !== digest) return;
      missing.delete(digest);
      this.memory.put(digest, raw);
      this.options.onChunk?.(digest, raw, this.options.locator.isPublic(digest, place));
      progress();
    };
    await this.readShelf(shelf, kind, take);
    if (missing.size < MANY) return;
    await Promise.all(
      [...missing].map(async ([digest, place]) => {
        const raw = await this.fromCache(digest, kind);
        if (!raw) return;
        missing.delete(digest);
        this.options.onChunk?.(digest, raw, this.options.locator.isPublic(digest, place));
        progress();
      }),
    );
    if (missing.size >= MANY) await this.fetchBundles(missing, kind, take);
    this.write(async (cache) => {
      const chunks = all.map((digest) => [digest, this.memory.get(digest)] as const);
      const present = chunks.filter((chunk): chunk is [string, Uint8Array] => chunk[1] !== undefined);
      await cache.put(shelf, writePack(new Map(present)));
    });
  }

  private async readShelf(
    shelf: string,
    kind: Kind,
    take: (digest: string, raw: Uint8Array) => Promise<void>,
  ): Promise<void> {
    const stream = await this.options.cache?.open(shelf);
    if (!stream) return;
    this.traffic[kind].cachedRequests++;
    const checks: Promise<void>[] = [];
    try {
      const count = (piece: Uint8Array): void => void (this.traffic[kind].cachedBytes += piece.length);
      for await (const { digest, raw } of readPack(stream, count)) checks.push(take(digest, raw));
    } catch {
      await this.options.cache?.delete(shelf);
    }
    await Promise.all(checks);
  }

  private async fetchBundles(
    missing: ReadonlyMap<string, Place>,
    kind: Kind,
    take: (digest: string, raw: Uint8Array) => Promise<void>,
  ): Promise<void> {
    const bundles = this.options.locator.bundles;
    if (!bundles) return;
    const lines: { digest: string; line: string }[] = [];
    for (const [digest, place] of [...missing]) {
      const url = await this.options.locator.url(digest, place).catch(() => "");
      if (url.startsWith(bundles.prefix)) lines.push({ digest, line: url.slice(bundles.prefix.length) });
    }
    const size = Math.min(MAX_BUNDLE, Math.ceil(lines.length / BUNDLES));
    const fetchOne = async (part: typeof lines): Promise<void> => {
      this.traffic[kind].requests++;
      const init = { method: "POST", body: part.map(({ line }) => line).join("\n") };
      const { response, touch, done } = await request(this.options.fetch, bundles.url, init, TIMEOUT);
      const checks: Promise<void>[] = [];
      try {
        if (!response.body) return;
        const count = (piece: Uint8Array): void => {
          touch();
          this.traffic[kind].bytes += piece.length;
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
      requests.push(this.gate.run(() => fetchOne(lines.slice(at, at + size))).catch(() => undefined));
    }
    await Promise.all(requests);
  }

  private write(work: (cache: ChunkCache) => Promise<void>): void {
    const { cache } = this.options;
    if (!cache) return;
    if (this.held) this.held.push(() => work(cache));
    else void work(cache);
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
        this.traffic[kind].cachedRequests++;
        await this.readPack(cached, (piece) => (this.traffic[kind].cachedBytes += piece.length), progress);
        return;
      } catch {
        await this.options.cache?.delete(digest);
      }
    }
    try {
      await this.gate.run(() => withRetries(() => this.fetchPack(digest, kind, progress), this.clock));
    } catch (error) {
      throw this.failed(digest, kind, error);
    }
  }

  private async fetchPack(digest: string, kind: Kind, progress: (bytes: number) => void): Promise<void> {
    this.traffic[kind].requests++;
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
          this.traffic[kind].bytes += piece.length;
          pieces.push(piece);
        },
        progress,
      );
      // A pack with a bad entry is not kept: the next visit fetches it again.
      if (whole) this.write((cache) => cache.put(digest, pieces));
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
        this.memory.put(digest, raw);
        this.options.onChunk?.(digest, raw, true);
      };
      checks.push(check());
    }
    await Promise.all(checks);
    return whole;
  }

  private async load(digest: string, kind: Kind, place?: Place): Promise<Uint8Array> {
    const announce = (raw: Uint8Array): void => {
      if (kind === "index" || kind === "firmware") return;
      this.options.onChunk?.(digest, raw, this.options.locator.isPublic(digest, place));
    };
    const cached = await this.fromCache(digest, kind);
    if (cached) {
      announce(cached);
      return cached;
    }
    try {
      const raw = await this.gate.run(() => this.fromNetwork(digest, kind, place));
      this.memory.put(digest, raw);
      announce(raw);
      this.write((cache) => cache.put(digest, raw));
      return raw;
    } catch (error) {
      throw this.failed(digest, kind, error);
    }
  }

  private async fromCache(digest: string, kind: Kind): Promise<Uint8Array | undefined> {
    const raw = await this.options.cache?.get(digest);
    if (!raw) return undefined;
    if ((await sha256(raw)) !== digest) {
      await this.options.cache?.delete(digest);
      return undefined;
    }
    this.traffic[kind].cachedRequests++;
    this.traffic[kind].cachedBytes += raw.length;
    this.memory.put(digest, raw);
    return raw;
  }

  private async fromNetwork(digest: string, kind: Kind, place?: Place): Promise<Uint8Array> {
    try {
      return await this.fetchVerified(digest, kind, place, "default");
    } catch (error) {
      if (!(error instanceof Mismatch)) throw error;
      // Some cache on the way may hold bad bytes: once more, past all of them.
      return await this.fetchVerified(digest, kind, place, "reload");
    }
  }

  private async fetchVerified(
    digest: string,
    kind: Kind,
    place: Place | undefined,
    cache: RequestCache,
  ): Promise<Uint8Array> {
    const raw = await withRetries(async () => {
      const url = await this.locate(digest, place);
      this.traffic[kind].requests++;
      try {
        return await this.fetchBody(url, cache, kind);
      } catch (error) {
        // A signed URL may have ended, and what was private may have been published: ask again where it is.
        if (error instanceof FetchFailure && error.status >= 400 && error.status < 500) {
          this.options.locator.forget(digest, place);
        }
        throw error;
      }
    }, this.clock);
    if ((await sha256(raw)) !== digest) throw new Mismatch();
    return raw;
  }

  private async locate(digest: string, place?: Place): Promise<string> {
    try {
      return await this.options.locator.url(digest, place);
    } catch (error) {
      throw new FetchFailure("the server did not say where it is", 0, { cause: error });
    }
  }

  private async fetchBody(url: string, cache: RequestCache, kind: Kind): Promise<Uint8Array> {
    const { response, touch, done } = await request(this.options.fetch, url, { cache }, TIMEOUT);
    const body = new Uint8Array(CHUNK);
    let length = 0;
    const reader = response.body?.getReader();
    try {
      for (;;) {
        const next = await reader?.read();
        if (!next || next.done) break;
        touch();
        if (length + next.value.length > CHUNK) throw new Mismatch();
        body.set(next.value, length);
        length += next.value.length;
      }
    } catch (error) {
      if (error instanceof Mismatch) throw error;
      throw new FetchFailure("the transfer broke off", 0, { cause: error });
    } finally {
      done();
      void reader?.cancel().catch(() => undefined);
      this.traffic[kind].bytes += length;
    }
    return body.slice(0, length);
  }

  private failed(digest: string, kind: Kind, error: unknown): DiskError {
    this.traffic[kind].failures++;
    if (error instanceof Mismatch) {
      return new DiskError(digest, "the server gave bytes that are not what was stored (checked twice)", {
        cause: error,
      });
    }
    return new DiskError(digest, error instanceof Error ? error.message : String(error), { cause: error });
  }
}

class Mismatch extends Error {}
