/** Chunks in memory, bounded in bytes. */

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
