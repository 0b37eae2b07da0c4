/** Where chunks stay once they were fetched: in memory, bounded in bytes, and in the browser's Cache Storage across visits. */

/** Least recently used first; a chunk larger than the bound is not kept. */
export class MemoryStore {
  private readonly chunks = new Map<string, Uint8Array>();
  private total = 0;

  constructor(private readonly limit: number) {}

  get size(): { chunks: number; bytes: number } {
    return { chunks: this.chunks.size, bytes: this.total };
  }

  get(digest: string): Uint8Array | undefined {
    const raw = this.chunks.get(digest);
    if (raw) {
      this.chunks.delete(digest);
      this.chunks.set(digest, raw);
    }
    return raw;
  }

  put(digest: string, raw: Uint8Array): void {
    this.delete(digest);
    this.chunks.set(digest, raw);
    this.total += raw.length;
    for (const oldest of this.chunks.keys()) {
      if (this.total <= this.limit) break;
      this.delete(oldest);
    }
  }

  delete(digest: string): void {
    const raw = this.chunks.get(digest);
    if (!raw) return;
    this.chunks.delete(digest);
    this.total -= raw.length;
  }
}

/** Chunks across visits. What it gives is checked like what the network gives. */
export interface ChunkCache {
  get(digest: string): Promise<Uint8Array | undefined>;
  /** The bytes as a stream, for what is large. */
  open(digest: string): Promise<ReadableStream<Uint8Array> | undefined>;
  put(digest: string, raw: Uint8Array | Uint8Array[]): Promise<void>;
  delete(digest: string): Promise<void>;
}

const CACHE_NAME = "webvm-chunks-1";

/** The browser's Cache Storage, or undefined where there is none (under Node, on plain HTTP, in some private windows). */
export async function openBrowserCache(): Promise<ChunkCache | undefined> {
  try {
    return new BrowserCache(await caches.open(CACHE_NAME));
  } catch {
    return undefined;
  }
}

class BrowserCache implements ChunkCache {
  constructor(private cache: Cache) {}

  async get(digest: string): Promise<Uint8Array | undefined> {
    try {
      const response = await this.cache.match(keyOf(digest));
      return response && new Uint8Array(await response.arrayBuffer());
    } catch {
      return undefined;
    }
  }

  async open(digest: string): Promise<ReadableStream<Uint8Array> | undefined> {
    try {
      return (await this.cache.match(keyOf(digest)))?.body ?? undefined;
    } catch {
      return undefined;
    }
  }

  async put(digest: string, raw: Uint8Array | Uint8Array[]): Promise<void> {
    const body = new Blob((Array.isArray(raw) ? raw : [raw]) as BlobPart[]);
    try {
      await this.cache.put(keyOf(digest), new Response(body));
    } catch (error) {
      // A full cache must not stand in anybody's way, and there is no order of use to evict by: start over.
      if ((error as DOMException).name !== "QuotaExceededError") return;
      await caches.delete(CACHE_NAME).catch(() => false);
      this.cache = await caches.open(CACHE_NAME);
    }
  }

  async delete(digest: string): Promise<void> {
    await this.cache.delete(keyOf(digest)).catch(() => false);
  }
}

/** Cache Storage is keyed by URL; the digest alone names a chunk wherever it came from. */
function keyOf(digest: string): string {
  return `/chunk-cache/${digest}`;
}
