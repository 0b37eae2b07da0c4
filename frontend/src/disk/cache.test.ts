import { describe, expect, it } from "vitest";
import { Random } from "../testing/random";
import { BoundedCache, type Entry, type Ledger, type Shelves } from "./cache";

class Memory implements Shelves, Ledger {
  readonly bodies = new Map<string, Blob>();
  readonly entries = new Map<string, Entry>();
  /** Bytes of the disk that it is on. */
  room = Infinity;
  isBroken = false;

  async match(key: string): Promise<Response | undefined> {
    const body = this.bodies.get(key);
    return body && new Response(body);
  }
  put(key: string, body: Blob, isPublic: boolean): Promise<void>;
  put(entries: Entry[]): Promise<void>;
  async put(what: string | Entry[], body?: Blob): Promise<void> {
    if (typeof what !== "string") {
      if (this.isBroken) throw new Error("the ledger is broken");
      for (const entry of what) this.entries.set(entry.key, entry);
      return;
    }
    if (this.bytes + body!.size > this.room) throw new DOMException("full", "QuotaExceededError");
    this.bodies.set(what, body!);
  }
  delete(keys: string): Promise<void>;
  delete(keys: string[]): Promise<void>;
  async delete(keys: string | string[]): Promise<void> {
    if (typeof keys === "string") this.bodies.delete(keys);
    else for (const key of keys) this.entries.delete(key);
  }
  async all(): Promise<Entry[]> {
    if (this.isBroken) throw new Error("the ledger is broken");
    return [...this.entries.values()];
  }
  async touch(keys: string[], used: number): Promise<void> {
    for (const key of keys) {
      const entry = this.entries.get(key);
      if (entry) this.entries.set(key, { ...entry, used });
    }
  }
  get bytes(): number {
    return [...this.bodies.values()].reduce((sum, { size }) => sum + size, 0);
  }
}

function setUp(limit = 1000) {
  const memory = new Memory();
  const time = { now: 0 };
  const cache = new BoundedCache({
    shelves: memory,
    ledger: memory,
    limit: async () => limit,
    now: () => time.now,
  });
  const put = async (key: string, size: number): Promise<void> => {
    time.now++;
    await cache.put(key, new Uint8Array(size), true);
  };
  const read = async (key: string): Promise<number | undefined> => {
    time.now++;
    const size = (await cache.get(key))?.length;
    await cache.tidy();
    return size;
  };
  return { memory, cache, put, read, time };
}

describe("BoundedCache", () => {
  it("test_it_works: gives back what was put, and what was put in pieces as a stream", async () => {
    const { cache } = setUp();
    await cache.put("a", [Uint8Array.of(1, 2), Uint8Array.of(3)], true);
    expect(await cache.get("a")).toEqual(Uint8Array.of(1, 2, 3));
    expect(await new Response(await cache.open("a")).bytes()).toEqual(Uint8Array.of(1, 2, 3));
    expect(await cache.get("b")).toBeUndefined();
    await cache.delete("a");
    expect(await cache.open("a")).toBeUndefined();
  });

  it("drops what was used longest ago when there is too much", async () => {
    const { cache, put, read, memory } = setUp(1000);
    for (const key of ["a", "b", "c", "d"]) await put(key, 250);
    expect(await read("a")).toBe(250);
    await put("e", 250);
    await cache.tidy();
    // 1250 bytes are over the limit: down to 800, and "a" has just been used.
    expect([...memory.bodies.keys()]).toEqual(["a", "d", "e"]);
    expect([...memory.entries.keys()].sort()).toEqual(["a", "d", "e"]);
  });

  it("stays within its bound over a long run, by itself", async () => {
    const { cache, put, memory } = setUp(10_000);
    const random = new Random(7);
    for (let i = 0; i < 1000; i++) {
      await put(`k${random.below(500)}`, 1 + random.below(200));
      if (i % 64 === 63) await cache.tidy(); // waits for the one that runs already
      expect(memory.bytes).toBeLessThan(10_000 + 65 * 200);
    }
    expect(new Set(memory.bodies.keys())).toEqual(new Set(memory.entries.keys()));
    expect(memory.bytes).toBeGreaterThan(5_000);
  });

  it("makes room when the disk is full, and never fails", async () => {
    const { put, read, memory, cache } = setUp(Infinity);
    memory.room = 1000;
    for (const key of ["a", "b", "c", "d"]) await put(key, 250);
    await put("e", 250);
    expect(await read("e")).toBe(250);
    expect(await read("a")).toBeUndefined();
    await put("huge", 5000);
    expect(await read("huge")).toBeUndefined();
    expect(memory.entries.has("huge")).toBe(false);
    memory.isBroken = true;
    await put("f", 10);
    await cache.tidy();
    expect(await read("f")).toBeUndefined();
  });

  it("forgets entries whose bytes are gone with the rest", async () => {
    const { put, memory, cache } = setUp(1000);
    await put("a", 900);
    memory.bodies.clear(); // the person signed out, or a crash between the two
    await put("b", 900);
    await cache.tidy();
    expect([...memory.entries.keys()]).toEqual([]);
    await put("c", 700);
    await cache.tidy();
    expect([...memory.bodies.keys()]).toEqual(["c"]);
  });
});
