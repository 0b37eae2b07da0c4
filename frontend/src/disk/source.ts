/**
 * Chunks by digest, from wherever they are soonest: memory, Cache Storage, the network. Nothing leaves here that does not have the
 * digest it was asked by.
 */

import { CHUNK } from "../machine/machine";
import { sha256 } from "./digest";
import { DiskError } from "./errors";
import type { Locator, Place } from "./locator";
import { Bulk } from "./bulk";
import type { ChunkCache } from "./cache";
import {
  FetchFailure,
  Gate,
  realClock,
  request,
  TIMEOUT,
  withRetries,
  type Clock,
  type Fetch,
} from "./retry";
import { MemoryStore } from "./store";

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

export class ChunkSource {
  readonly traffic: Record<Kind, Traffic>;
  private readonly memory: MemoryStore;
  private readonly loading = new Map<string, Promise<Uint8Array>>();
  private readonly gate: Gate;
  private readonly clock: Clock;
  private readonly bulk: Bulk;
  /** Writes into the cache that wait for a better moment; undefined while they need not. */
  private held: (() => Promise<void>)[] | undefined;

  constructor(private readonly options: SourceOptions) {
    this.memory = new MemoryStore(options.memoryBytes);
    this.gate = new Gate(options.locator.concurrent);
    this.clock = options.clock ?? realClock;
    const kinds: Kind[] = ["index", "firmware", "warm_pack", "boot_pack", "memory", "disk"];
    const none = (): Traffic => ({ requests: 0, bytes: 0, cachedRequests: 0, cachedBytes: 0, failures: 0 });
    this.traffic = Object.fromEntries(kinds.map((kind) => [kind, none()])) as Record<Kind, Traffic>;
    this.bulk = new Bulk({
      ...options,
      clock: this.clock,
      traffic: this.traffic,
      gate: this.gate,
      has: (digest) => this.memory.get(digest),
      keep: (digest, raw, isPublic) => {
        this.memory.put(digest, raw);
        options.onChunk?.(digest, raw, isPublic);
      },
      cached: (digest, kind) => this.fromCache(digest, kind),
      write: (work) => this.write(work),
      failed: (digest, kind, error) => this.failed(digest, kind, error),
    });
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
  hasPack(digest: string): Promise<boolean> {
    return this.bulk.hasPack(digest);
  }

  /** Streams a pack's chunks into memory; see `Bulk.loadPack`. */
  loadPack(digest: string, kind: Kind, progress?: (bytes: number) => void): Promise<void> {
    return this.bulk.loadPack(digest, kind, progress);
  }

  /** Brings many chunks into memory at once; see `Bulk.getMany`. */
  getMany(
    wanted: ReadonlyMap<string, Place>,
    kind: Kind,
    shelf: string,
    progress?: () => void,
  ): Promise<void> {
    return this.bulk.getMany(wanted, kind, shelf, progress);
  }

  private write(work: (cache: ChunkCache) => Promise<void>): void {
    const { cache } = this.options;
    if (!cache) return;
    if (this.held) this.held.push(() => work(cache));
    else void work(cache);
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
      const isPublic = this.options.locator.isPublic(digest, place);
      this.write((cache) => cache.put(digest, raw, isPublic));
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
