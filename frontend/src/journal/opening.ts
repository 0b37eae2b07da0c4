/** What a console page does with journals when it opens: whether there is work to offer, and a journal for its own run. */

import type { Descriptor } from "../console/api";
import { browserStore } from "./indexed-db";
import { WebLocks, type Locks } from "./locks";
import { findAside, findLeftover, sweep, type Leftover } from "./recovery";
import type { KeyAnswer } from "./sealing";
import type { JournalStore } from "./store";
import { TabJournal, type JournalStatus } from "./tab-journal";

/** A page that is being reloaded gives its lock back only when it has ended. */
const RELOAD_WAIT_MS = 1000;
/** A network that swallows the question must not hold up a save. */
const KEY_MS = 10_000;
/** Sweeping can wait until the machine runs. */
const SWEEP_AFTER_MS = 10_000;

export interface BrowserJournals {
  store: JournalStore;
  locks: Locks;
  owner: string;
  vm: string;
  fetchKey: () => Promise<KeyAnswer>;
}

/** Undefined where the browser has no storage, no locks or (pages that are not secure) no encryption. */
export function browserJournals(
  options: Pick<BrowserJournals, "owner" | "vm" | "fetchKey">,
): BrowserJournals | undefined {
  const store = browserStore();
  // Older browsers have no locks, whatever the types say.
  if (!options.owner || !isSecureContext || !navigator.locks || !store) return undefined;
  const fetchKey = (): Promise<KeyAnswer> => inTime(options.fetchKey());
  return { ...options, fetchKey, store, locks: new WebLocks(navigator.locks) };
}

/** Work left over of the VM, unless the saved state that is about to be opened is that very work. */
export async function leftoverOf(
  journals: BrowserJournals,
  descriptor: Descriptor | undefined,
): Promise<{ work: Leftover | undefined; damaged: boolean }> {
  const [navigation] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
  const waitMs = navigation?.type === "reload" ? RELOAD_WAIT_MS : 0;
  for (;;) {
    const { work, damaged } = await findLeftover({ ...journals, waitMs });
    if (!work || !descriptor) return { work, damaged };
    const { diskRoot, memoryRoot } = work.manifest;
    if (descriptor.disk.root !== diskRoot || descriptor.memory?.root !== memoryRoot) return { work, damaged };
    // It was committed, and the page ended before it could forget it.
    await journals.store.remove([work.id]);
    work.release();
  }
}

export function startJournal(
  journals: BrowserJournals,
  session: string,
  onStatus: (status: JournalStatus) => void,
): TabJournal {
  setTimeout(() => void sweep(journals.store, journals.locks).catch(() => undefined), SWEEP_AFTER_MS);
  return new TabJournal({ ...journals, session, onStatus });
}

/** The newest work of this VM that was set aside and can be brought back. */
export async function asideOf(
  journals: BrowserJournals,
): Promise<{ savedAt: number; bringBack(): Promise<void> } | undefined> {
  const [newest] = await findAside(journals);
  return newest && { ...newest, bringBack: () => journals.store.setAside(newest.id, null) };
}

function inTime<T>(work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("the service does not answer")), KEY_MS);
    work.then(resolve, reject);
  });
}
