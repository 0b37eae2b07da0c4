/** For the tests: a browser whose storage fails, lies, fills up and damages what it has; and its tabs' locks. */

import type { PreparedSave } from "../machine/client";
import { Random } from "../testing/random";
import type { Locks } from "./locks";
import { Fenced, Gone, NoRoom, type JournalRow, type JournalStore, type Write } from "./store";

export type Misfortune = "fails" | "lies" | "full";

export class HostileStore implements JournalStore {
  readonly stored = new Map<string, JournalRow>();
  readonly frames = new Map<string, Uint8Array>();
  room = Infinity;
  /** Changes so far, and what befalls the change of that number. */
  changes = 0;
  misfortunes = new Map<number, Misfortune>();
  /** Reads fail as well. */
  dead = false;
  private signOuts = 0;

  async rows(): Promise<JournalRow[]> {
    this.alive();
    return [...this.stored.values()].map((row) => ({ ...row }));
  }

  async row(id: string): Promise<JournalRow | undefined> {
    this.alive();
    return this.stored.get(id);
  }

  async frame(id: string, number: number): Promise<Uint8Array | undefined> {
    this.alive();
    return this.frames.get(`${id}/${number}`);
  }

  async fence(): Promise<number> {
    this.alive();
    return this.signOuts;
  }

  write({ row, isNew, frames, retain, fence }: Write): Promise<void> {
    return this.change(() => {
      if (fence !== this.signOuts) throw new Fenced();
      if (isNew === this.stored.has(row.id)) throw new Gone();
      const adds = frames.reduce((sum, [, bytes]) => sum + bytes.length, 0);
      if (this.size + adds > this.room) throw new NoRoom();
      for (const [number, bytes] of frames) this.frames.set(`${row.id}/${number}`, bytes);
      this.stored.set(row.id, { ...row });
      if (retain) this.dropFrames(row.id, (number) => !retain.has(number));
    });
  }

  setAside(id: string, at: number | null): Promise<void> {
    return this.change(() => {
      const row = this.stored.get(id);
      if (!row) throw new Gone();
      this.stored.set(id, { ...row, asideAt: at, wasAside: true });
    });
  }

  remove(ids: readonly string[]): Promise<void> {
    return this.change(() => {
      for (const id of ids) {
        this.stored.delete(id);
        this.dropFrames(id, () => true);
      }
    });
  }

  signOut(owners: readonly string[]): Promise<void> {
    return this.change(() => {
      this.signOuts++;
      for (const { id, owner } of [...this.stored.values()]) {
        if (!owners.includes(owner)) continue;
        this.stored.delete(id);
        this.dropFrames(id, () => true);
      }
    });
  }

  get size(): number {
    return [...this.frames.values()].reduce((sum, bytes) => sum + bytes.length, 0);
  }

  private async change(work: () => void): Promise<void> {
    this.alive();
    const misfortune = this.misfortunes.get(this.changes++);
    if (misfortune === "full") throw new NoRoom();
    if (misfortune === "fails") throw new Error("the disk is on fire");
    work();
    if (misfortune === "lies") throw new Error("it was carried out all the same");
  }

  private alive(): void {
    if (this.dead) throw new Error("the storage is gone");
  }

  private dropFrames(id: string, dropped: (number: number) => boolean): void {
    for (const key of [...this.frames.keys()]) {
      const [owner, number] = key.split("/");
      if (owner === id && dropped(Number(number))) this.frames.delete(key);
    }
  }
}

/** The locks of a browser. A tab that is killed gives all of its own back. */
export class BrowserLocks {
  private readonly holders = new Map<string, object>();

  tab(): Locks & { kill(): void } {
    const me = {};
    const { holders } = this;
    return {
      hold: async (name) => {
        if (holders.has(name)) return undefined;
        holders.set(name, me);
        return () => {
          if (holders.get(name) === me) holders.delete(name);
        };
      },
      held: async () => new Set(holders.keys()),
      kill: () => {
        for (const [name, holder] of [...holders]) if (holder === me) holders.delete(name);
      },
    };
  }
}

export function digestOf(n: number): string {
  return n.toString(16).padStart(64, "0");
}

/** A save of these chunks; the last two are its roots. Counts the frames that it was asked for. */
export function saveOf(chunks: readonly number[]): PreparedSave & { asked: number } {
  const made = {
    parentSnapshot: null,
    diskRoot: digestOf(chunks.at(-2) ?? 0),
    memoryRoot: digestOf(chunks.at(-1) ?? 0),
    chunks: chunks.map((n) => ({ digest: digestOf(n), rawSize: 4096 })),
    asked: 0,
    frame: async (digest: string) => {
      made.asked++;
      return frameOf(digest);
    },
    pausedMs: 0,
    preparedMs: 0,
    dirtyBlocks: 0,
    changedPages: 0,
    packedBytes: 0,
    reusedBytes: 7,
    thumbnail: null,
    committed: async () => undefined,
    discard: async () => undefined,
  };
  return made;
}

export function frameOf(digest: string): Uint8Array {
  return new Random(parseInt(digest.slice(-8), 16)).bytes(1000);
}
