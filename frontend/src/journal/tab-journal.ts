/** The journal of this tab's run: keeps the newest save, one at a time, and never loses the one before on the way. */

import type { PreparedSave } from "../machine/client";
import type { Journal, JournalEntry } from "./journal";
import { lockName, type Locks } from "./locks";
import { decodeManifest, encodeManifest, type KeptChunk } from "./manifest";
import { Damaged, JournalKey, type KeyAnswer, type Sealer } from "./sealing";
import { Fenced, Gone, NoRoom, type JournalRow, type JournalStore } from "./store";

const MIB = 1024 * 1024;

export const LIMITS = {
  /** The most that one save may take, and all journals of this browser together, bytes. */
  save: 256 * MIB,
  all: 1024 * MIB,
  /** So much is sealed before it is written in one go. */
  batch: 2 * MIB,
};

/** So many frames are being made at once. */
const AHEAD = 6;

/** Why a save is not kept. */
export type WhyNot = "no_room" | "too_large" | "no_key" | "storage";

/** What the person should know. `at`: from when the kept state is, ms since 1970; null: nothing is kept. */
export type JournalStatus =
  { kind: "empty" } | { kind: "kept"; at: number } | { kind: "failed"; why: WhyNot; at: number | null };

export interface TabJournalOptions {
  vm: string;
  /** This tab's run, as the lease knows it. */
  session: string;
  store: JournalStore;
  locks: Locks;
  fetchKey: () => Promise<KeyAnswer>;
  onStatus: (status: JournalStatus) => void;
  limits?: Partial<typeof LIMITS>;
  now?: () => number;
}

interface Access {
  key: JournalKey;
  sealer: Sealer;
  fence: number;
}

interface Frame {
  number: number;
  bytes: number;
}

class NoKey extends Error {
  override readonly name = "NoKey";
}

class TooLarge extends Error {
  override readonly name = "TooLarge";
}

export class TabJournal implements Journal {
  readonly id = crypto.randomUUID();
  private readonly limits: typeof LIMITS;
  private readonly now: () => number;
  private readonly lock: Promise<(() => void) | undefined>;
  /** The saves that are being kept, or wait for it. */
  private readonly keeping = new Set<AbortController>();
  private queue: Promise<void> = Promise.resolve();
  private access: Promise<Access> | undefined;
  /** The row as it is in the storage; undefined: there is none. */
  private row: JournalRow | undefined;
  /** The frames that the row's manifest names, by digest. */
  private held = new Map<string, Frame>();
  private keptAt: number | null = null;
  private next = 0;
  /** False after a failed write of which nobody knows how much of it was carried out. */
  private sure = true;

  constructor(private readonly options: TabJournalOptions) {
    this.limits = { ...LIMITS, ...options.limits };
    this.now = options.now ?? Date.now;
    this.lock = options.locks.hold(lockName(this.id)).catch(() => undefined);
    // Now, while the service can be reached: the journal is for when it cannot.
    this.unlock().catch(() => undefined);
  }

  keep(save: PreparedSave, about: JournalEntry): Promise<void> {
    const work = new AbortController();
    this.keeping.add(work);
    return this.serially(async () => {
      try {
        const start = performance.now();
        await this.keepNow(save, about, work.signal);
        performance.measure("webvm:journal_keep", { start });
        this.options.onStatus({ kind: "kept", at: this.keptAt ?? this.now() });
      } catch (error) {
        if (work.signal.aborted) return;
        console.warn("This save is not kept in the browser:", error);
        this.options.onStatus({ kind: "failed", why: whyNot(error), at: this.keptAt });
      } finally {
        this.keeping.delete(work);
      }
    });
  }

  clear(): Promise<void> {
    for (const work of this.keeping) work.abort();
    return this.serially(async () => {
      try {
        if (this.row || !this.sure) await this.options.store.remove([this.id]);
        this.forget();
        this.options.onStatus({ kind: "empty" });
      } catch (error) {
        console.warn("What the journal kept could not be removed:", error);
        this.sure = false;
      }
    });
  }

  /**
   * The session is connected (again): who is signed in, or the key, may have changed. What was sealed with a key that the
   * service does not give any more is of no use to anybody.
   */
  renew(): Promise<void> {
    return this.serially(async () => {
      const before = await this.access?.catch(() => undefined);
      this.access = undefined;
      const now = await this.unlock().catch(() => undefined);
      if (!before) return;
      if (!now) this.access = Promise.resolve(before);
      else if (now.key.tag !== before.key.tag || now.fence !== before.fence) await this.drop();
    });
  }

  /** The page goes away: whoever opens the VM next may have what is kept. */
  close(): void {
    void this.lock.then((release) => release?.());
  }

  private serially(work: () => Promise<void>): Promise<void> {
    this.queue = this.queue.then(work);
    return this.queue;
  }

  private async keepNow(save: PreparedSave, about: JournalEntry, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (!(await this.lock)) throw new Error("the browser gives no lock");
    const { key, sealer } = await this.unlock();
    if (!this.sure) await this.findOut(sealer);
    const row = (): JournalRow =>
      this.row ?? {
        id: this.id,
        owner: key.owner,
        vm: key.tag,
        bytes: 0,
        writtenAt: this.now(),
        asideAt: null,
        wasAside: false,
        manifest: null,
      };
    const savedAt = this.now();
    const chunks: KeptChunk[] = [];
    let manifest: Uint8Array | undefined;
    let batch: [number, Uint8Array][] = [];
    let batchBytes = 0;
    let total = 0;
    try {
      const seal = async (digest: string): Promise<Uint8Array> =>
        sealer.seal(`frame|${digest}`, await save.frame(digest));
      const fresh = ahead(
        save.chunks.filter(({ digest }) => !this.held.has(digest)),
        ({ digest }) => seal(digest),
      );
      for (const { digest, rawSize } of save.chunks) {
        signal.throwIfAborted();
        let frame = this.held.get(digest);
        if (!frame) {
          const sealed = await fresh();
          frame = { number: this.next++, bytes: sealed.length };
          batch.push([frame.number, sealed]);
          batchBytes += sealed.length;
        }
        chunks.push({ digest, rawSize, ...frame });
        total += frame.bytes;
        if (total > this.limits.save) throw new TooLarge();
        if (batchBytes < this.limits.batch) continue;
        await this.write({ ...row(), bytes: row().bytes + batchBytes }, batch);
        batch = [];
        batchBytes = 0;
      }
      const plain = encodeManifest({
        vm: this.options.vm,
        session: this.options.session,
        expectedHead: about.expectedHead,
        diskRoot: save.diskRoot,
        memoryRoot: save.memoryRoot,
        reusedBytes: save.reusedBytes,
        message: about.message,
        thumbnail: about.thumbnail,
        idempotencyKey: about.idempotencyKey ?? crypto.randomUUID(),
        savedAt,
        chunks,
      });
      manifest = await sealer.seal("manifest", plain);
      const retain = new Set(chunks.map(({ number }) => number));
      const bytes = total + manifest.length;
      await this.write({ ...row(), bytes, writtenAt: savedAt, manifest }, batch, retain);
    } catch (error) {
      if (!(await this.settle(error, manifest))) throw error;
    }
    this.held = framesOf(chunks);
    this.keptAt = savedAt;
  }

  /** After a failed write: whether it was carried out all the same. Otherwise what it has added is dropped. */
  private async settle(error: unknown, manifest: Uint8Array | undefined): Promise<boolean> {
    if (error instanceof Fenced || error instanceof Gone) {
      if (error instanceof Fenced) this.access = undefined;
      await this.drop();
      return false;
    }
    this.sure = false;
    try {
      const stored = await this.options.store.row(this.id);
      if (manifest && stored?.manifest && same(stored.manifest, manifest)) {
        this.row = stored;
        this.sure = true;
        return true;
      }
      if (!stored || !this.row?.manifest) {
        await this.drop();
        return false;
      }
      if (!stored.manifest || !same(stored.manifest, this.row.manifest)) return false;
      let bytes = stored.manifest.length;
      for (const frame of this.held.values()) bytes += frame.bytes;
      await this.write({ ...stored, bytes }, [], new Set([...this.held.values()].map((f) => f.number)));
      this.sure = true;
    } catch {
      // The next save finds out.
    }
    return false;
  }

  /** After a failure that could not be looked into: what is stored is what counts, not what was meant to be. */
  private async findOut(sealer: Sealer): Promise<void> {
    const row = await this.options.store.row(this.id);
    if (!row?.manifest) {
      await this.drop();
      return;
    }
    try {
      const { chunks, savedAt } = decodeManifest(await sealer.open("manifest", row.manifest));
      this.row = row;
      this.held = framesOf(chunks);
      this.keptAt = savedAt;
      this.sure = true;
    } catch (error) {
      if (!(error instanceof Damaged)) throw error;
      await this.drop(); // nobody can read it
    }
  }

  private async drop(): Promise<void> {
    await this.options.store.remove([this.id]);
    this.forget();
  }

  private forget(): void {
    this.row = undefined;
    this.held.clear();
    this.keptAt = null;
    this.sure = true;
  }

  private async write(
    row: JournalRow,
    frames: [number, Uint8Array][],
    retain?: ReadonlySet<number>,
  ): Promise<void> {
    const { key, fence } = await this.unlock();
    for (;;) {
      try {
        let all = row.bytes;
        const rows = await this.options.store.rows();
        for (const other of rows) if (other.id !== this.id) all += other.bytes;
        // Until the transaction ends, what it drops is there as well.
        if (all > this.limits.all) throw new NoRoom();
        await this.options.store.write({
          row,
          isNew: this.row === undefined,
          frames,
          fence,
          ...(retain ? { retain } : {}),
        });
        this.row = row;
        return;
      } catch (error) {
        if (!(error instanceof NoRoom) || !(await this.evict(key.owner))) throw error;
      }
    }
  }

  /** Gives up the oldest work that its owner had set aside; false when there is none. */
  private async evict(owner: string): Promise<boolean> {
    const held = await this.options.locks.held();
    const aside = (await this.options.store.rows())
      .filter((row) => row.owner === owner && row.asideAt !== null && !held.has(lockName(row.id)))
      .sort((a, b) => a.writtenAt - b.writtenAt)[0];
    if (aside) await this.options.store.remove([aside.id]);
    return aside !== undefined;
  }

  private unlock(): Promise<Access> {
    this.access ??= this.fetchAccess().catch((error: unknown) => {
      this.access = undefined;
      throw error;
    });
    return this.access;
  }

  private async fetchAccess(): Promise<Access> {
    // First the fence: who signs out after this is noticed by every write.
    const fence = await this.options.store.fence();
    const answer = await this.options.fetchKey().catch((error: unknown) => {
      throw new NoKey(String(error));
    });
    const key = await JournalKey.from(answer, this.options.vm);
    return { key, sealer: await key.sealer(this.id), fence };
  }
}

/** Carries `work` out for each item in their order, some ahead of who takes the results: a busy worker answers late. */
function ahead<T, R>(items: readonly T[], work: (item: T) => Promise<R>): () => Promise<R> {
  const started: Promise<R>[] = [];
  let next = 0;
  return () => {
    while (next < items.length && started.length < AHEAD) {
      const result = work(items[next++] as T);
      result.catch(() => undefined); // whoever takes it hears of it
      started.push(result);
    }
    return started.shift() as Promise<R>;
  };
}

function framesOf(chunks: readonly KeptChunk[]): Map<string, Frame> {
  return new Map(chunks.map(({ digest, number, bytes }) => [digest, { number, bytes }]));
}

function whyNot(error: unknown): WhyNot {
  if (error instanceof NoRoom) return "no_room";
  if (error instanceof TooLarge) return "too_large";
  return error instanceof NoKey || error instanceof Fenced ? "no_key" : "storage";
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
