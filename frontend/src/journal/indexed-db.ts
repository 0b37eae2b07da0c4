/**
 * Journals in IndexedDB: its transactions are atomic in every browser, which OPFS leaves to us, and it is there in private
 * windows too (docs/design/journal.md).
 */

import { Fenced, Gone, NoRoom, type JournalRow, type JournalStore, type Write } from "./store";

const NAME = "webvm-journal";
const FENCE = "fence";
/** Some browsers never answer when their storage is broken; a save must not wait for that. */
const OPEN_MS = 3000;
const TRANSACTION_MS = 15_000;

export class IndexedDbStore implements JournalStore {
  private opened: Promise<IDBDatabase> | undefined;

  constructor(
    private readonly factory: IDBFactory,
    private readonly name = NAME,
  ) {}

  /** Opens the database before somebody waits for it. */
  warm(): void {
    this.open().catch(() => undefined);
  }

  rows(): Promise<JournalRow[]> {
    return this.reading("rows", (store) => result<JournalRow[]>(store.getAll()));
  }

  row(id: string): Promise<JournalRow | undefined> {
    return this.reading("rows", (store) => result<JournalRow | undefined>(store.get(id)));
  }

  frame(id: string, number: number): Promise<Uint8Array | undefined> {
    return this.reading("frames", (store) => result<Uint8Array | undefined>(store.get([id, number])));
  }

  async fence(): Promise<number> {
    return this.reading("meta", async (store) => (await result<number | undefined>(store.get(FENCE))) ?? 0);
  }

  write({ row, isNew, frames, retain, fence }: Write): Promise<void> {
    return this.writing(async (rows, frameStore, meta) => {
      if (((await result<number | undefined>(meta.get(FENCE))) ?? 0) !== fence) throw new Fenced();
      if (((await result<number>(rows.count(row.id))) === 0) !== isNew) throw new Gone();
      // One after the other: handing over a batch at once would hold up the page's thread for many times as long.
      for (const [number, bytes] of frames) await result(frameStore.put(bytes, [row.id, number]));
      rows.put(row);
      if (!retain) return;
      for (const key of await result<IDBValidKey[]>(frameStore.getAllKeys(framesOf(row.id)))) {
        const [, number] = key as [string, number];
        if (!retain.has(number)) frameStore.delete(key);
      }
    });
  }

  setAside(id: string, at: number | null): Promise<void> {
    return this.writing(async (rows) => {
      const row = await result<JournalRow | undefined>(rows.get(id));
      if (!row) throw new Gone();
      rows.put({ ...row, asideAt: at, wasAside: true } satisfies JournalRow);
    });
  }

  remove(ids: readonly string[]): Promise<void> {
    return this.writing(async (rows, frames) => {
      for (const id of ids) {
        rows.delete(id);
        frames.delete(framesOf(id));
      }
    });
  }

  signOut(owners: readonly string[]): Promise<void> {
    return this.writing(async (rows, frames, meta) => {
      for (const row of await result<JournalRow[]>(rows.getAll())) {
        if (!owners.includes(row.owner)) continue;
        rows.delete(row.id);
        frames.delete(framesOf(row.id));
      }
      meta.put(((await result<number | undefined>(meta.get(FENCE))) ?? 0) + 1, FENCE);
    });
  }

  private async reading<T>(name: string, work: (store: IDBObjectStore) => Promise<T>): Promise<T> {
    const db = await this.open();
    const transaction = db.transaction(name, "readonly");
    const timer = setTimeout(() => transaction.abort(), TRANSACTION_MS);
    return work(transaction.objectStore(name)).finally(() => clearTimeout(timer));
  }

  private async writing(
    work: (rows: IDBObjectStore, frames: IDBObjectStore, meta: IDBObjectStore) => Promise<void>,
  ): Promise<void> {
    const db = await this.open();
    // Strict: on the disk when it says so, not only in the browser's memory.
    const transaction = db.transaction(["rows", "frames", "meta"], "readwrite", { durability: "strict" });
    const ended = new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(failure(transaction.error));
    });
    ended.catch(() => undefined);
    const timer = setTimeout(() => transaction.abort(), TRANSACTION_MS);
    void ended.finally(() => clearTimeout(timer)).catch(() => undefined);
    try {
      await work(
        transaction.objectStore("rows"),
        transaction.objectStore("frames"),
        transaction.objectStore("meta"),
      );
    } catch (error) {
      try {
        transaction.abort();
      } catch {
        // it has ended already
      }
      throw failure(error);
    }
    await ended;
  }

  private open(): Promise<IDBDatabase> {
    this.opened ??= this.openNow().catch((error: unknown) => {
      this.opened = undefined;
      throw error;
    });
    return this.opened;
  }

  private openNow(): Promise<IDBDatabase> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("IndexedDB does not answer")), OPEN_MS);
      const request = this.factory.open(this.name, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("rows", { keyPath: "id" });
        request.result.createObjectStore("frames");
        request.result.createObjectStore("meta");
      };
      request.onerror = () => {
        clearTimeout(timer);
        reject(failure(request.error));
      };
      request.onsuccess = () => {
        clearTimeout(timer);
        const db = request.result;
        const forget = (): void => {
          this.opened = undefined;
        };
        // The person cleared the site's data, or another version of this page wants to change the layout.
        db.onclose = forget;
        db.onversionchange = () => {
          db.close();
          forget();
        };
        resolve(db);
      };
    });
  }
}

let shared: IndexedDbStore | undefined;

/** This page's; undefined where the browser has none. */
export function browserStore(): IndexedDbStore | undefined {
  try {
    // It may be missing, whatever the types say, and throw when it is only looked at.
    shared ??= indexedDB ? new IndexedDbStore(indexedDB) : undefined;
  } catch {
    return undefined;
  }
  return shared;
}

function framesOf(id: string): IDBKeyRange {
  return IDBKeyRange.bound([id], [id, []]);
}

function result<T>(request: IDBRequest): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result as T);
    request.onerror = () => reject(failure(request.error));
  });
}

function failure(error: unknown): Error {
  if (error instanceof DOMException && error.name === "QuotaExceededError") return new NoRoom(error.message);
  return error instanceof Error ? error : new Error("the browser's storage failed");
}
