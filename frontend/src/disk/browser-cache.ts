/** The cache of chunks in the browser: the bytes in Cache Storage, the ledger in IndexedDB. */

import { BoundedCache, type ChunkCache, type Entry, type Ledger, type Shelves } from "./cache";

const PUBLIC = "webvm-public-chunks";
/** What a VM's owner alone may read: forgotten when they sign out. */
const PRIVATE = "webvm-private-chunks";
const DATABASE = "webvm-chunk-ledger";
const STORE = "entries";
/** At most so many bytes, and at most this part of what the browser gives a site. */
const MOST_BYTES = 1 << 30;
const PART = 0.25;

/** Undefined where there is none (under Node, on plain HTTP, in some private windows). */
export async function openBrowserCache(): Promise<ChunkCache | undefined> {
  try {
    const shelves = new BrowserShelves(await caches.open(PUBLIC), await caches.open(PRIVATE));
    return new BoundedCache({ shelves, ledger: new BrowserLedger(), limit });
  } catch {
    return undefined;
  }
}

/** Forgets every chunk that is not everybody's; for when a person signs out. */
export async function forgetPrivateChunks(): Promise<void> {
  if ("caches" in globalThis) await caches.delete(PRIVATE);
}

async function limit(): Promise<number> {
  const { quota } = await navigator.storage.estimate();
  return Math.min(MOST_BYTES, (quota ?? MOST_BYTES) * PART);
}

class BrowserShelves implements Shelves {
  constructor(
    private readonly everybodys: Cache,
    private readonly privates: Cache,
  ) {}

  async match(key: string): Promise<Response | undefined> {
    return (await this.everybodys.match(addressOf(key))) ?? (await this.privates.match(addressOf(key)));
  }

  async put(key: string, body: Blob, isPublic: boolean): Promise<void> {
    await (isPublic ? this.everybodys : this.privates).put(addressOf(key), new Response(body));
  }

  async delete(key: string): Promise<void> {
    await Promise.all([this.everybodys, this.privates].map((cache) => cache.delete(addressOf(key))));
  }
}

/** Cache Storage is keyed by URL; the digest alone names a chunk wherever it came from. */
function addressOf(key: string): string {
  return `/chunk-cache/${key}`;
}

class BrowserLedger implements Ledger {
  private database: Promise<IDBDatabase> | undefined;

  all(): Promise<Entry[]> {
    return this.run("readonly", (store) => store.getAll() as IDBRequest<Entry[]>);
  }

  put(entries: Entry[]): Promise<void> {
    return this.run("readwrite", (store) => void entries.forEach((entry) => store.put(entry)));
  }

  touch(keys: string[], used: number): Promise<void> {
    return this.run("readwrite", (store) => {
      for (const key of keys) {
        const asked = store.get(key) as IDBRequest<Entry | undefined>;
        asked.onsuccess = () => asked.result && store.put({ ...asked.result, used });
      }
    });
  }

  delete(keys: string[]): Promise<void> {
    return this.run("readwrite", (store) => keys.forEach((key) => store.delete(key)));
  }

  private async run<T>(
    mode: IDBTransactionMode,
    work: (store: IDBObjectStore) => IDBRequest<T> | void,
  ): Promise<T> {
    const database = await (this.database ??= openDatabase());
    return new Promise((resolve, reject) => {
      // A cache may lose its last notes in a power cut: no waiting for the disk.
      const transaction = database.transaction(STORE, mode, { durability: "relaxed" });
      const request = work(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request?.result as T);
      transaction.onabort = () =>
        reject(transaction.error ?? new Error("the ledger's transaction was aborted"));
    });
  }
}

function openDatabase(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open(DATABASE, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "key" });
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error ?? new Error("the ledger cannot be opened"));
  });
}
