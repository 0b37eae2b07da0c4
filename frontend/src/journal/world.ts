/** For the tests: a browser with its storage and locks, tabs that open and die in it, and a service that gives keys. */

import { expect } from "vitest";
import { BrowserLocks, HostileStore, frameOf } from "./hostile-store";
import { findLeftover, type Leftover } from "./recovery";
import type { KeyAnswer } from "./sealing";
import { TabJournal, type JournalStatus, type TabJournalOptions } from "./tab-journal";

export const VM = "11111111-1111-4111-8111-111111111111";
export const OTHER_VM = "22222222-2222-4222-8222-222222222222";
export const ADA = "ada";
export const ABOUT = {
  ...{ message: "m", expectedHead: "head", thumbnail: "cGljdHVyZQ==", idempotencyKey: "key" },
};

export class World {
  store = new HostileStore();
  browser = new BrowserLocks();
  /** What all tabs have said. */
  readonly statuses: JournalStatus[] = [];
  /** The secret's first byte, by owner and VM. */
  readonly secrets = new Map<string, number>();
  /** The service gives no keys. */
  offline = false;

  /** Another browser. */
  reset(): void {
    this.store = new HostileStore();
    this.browser = new BrowserLocks();
  }

  last(): JournalStatus | undefined {
    return this.statuses.at(-1);
  }

  answer(owner: string, vm: string): KeyAnswer {
    const place = `${owner}/${vm}`;
    if (!this.secrets.has(place)) this.secrets.set(place, this.secrets.size + 1);
    const raw = new Uint8Array(32).fill(this.secrets.get(place) ?? 0);
    return { key: btoa(String.fromCharCode(...raw)), owner };
  }

  fetchKey(owner = ADA, vm = VM): () => Promise<KeyAnswer> {
    return async () => {
      if (this.offline) throw new Error("no network");
      return this.answer(owner, vm);
    };
  }

  openTab(more: Partial<TabJournalOptions> = {}): { journal: TabJournal; kill(): void } {
    const locks = this.browser.tab();
    const journal = new TabJournal({
      vm: VM,
      session: "run",
      store: this.store,
      locks,
      fetchKey: this.fetchKey(),
      onStatus: (status) => this.statuses.push(status),
      limits: { batch: 2500 },
      ...more,
    });
    return { journal, kill: locks.kill };
  }

  find(owner = ADA, vm = VM): Promise<{ work: Leftover | undefined; damaged: boolean }> {
    const { store, browser } = this;
    const fetchKey = this.fetchKey(owner, vm);
    return findLeftover({ store, locks: browser.tab(), owner, vm, fetchKey, waitMs: 0 });
  }

  /** The chunks of the work that is found; undefined: none. Every frame of it is read. */
  async foundChunks(): Promise<number[] | undefined> {
    const { work } = await this.find();
    if (!work) return undefined;
    for (const { digest } of work.manifest.chunks) expect(await work.frame(digest)).toEqual(frameOf(digest));
    work.release();
    return work.manifest.chunks.map(({ digest }) => parseInt(digest, 16));
  }
}
