/**
 * The tab's own journal: the newest save that the service does not have yet, kept in this browser so that a crash of the
 * tab, the browser or the network loses nothing. The session calls it with every save that it prepares.
 */

import type { PreparedSave } from "../machine/client";

/** What the commit of a save needs beside its roots and chunks. */
export interface JournalEntry {
  message: string;
  /** The head that the snapshot goes on top of, null for a fresh VM. */
  expectedHead: string | null;
  /** Base64 PNG or WebP, at most 64 KiB; null: none. */
  thumbnail: string | null;
  /** The key that the save's own commit has: a commit whose answer was lost is then recognised. */
  idempotencyKey?: string;
}

export interface Journal {
  /**
   * Keeps `save` in place of what was kept before, which stays whole until this one is. Asks for the frames that it does not
   * hold yet, so the save must not be discarded before this resolves. Never rejects: without room or storage the one before
   * stays, the status line says so, and the save goes on.
   */
  keep(save: PreparedSave, about: JournalEntry): Promise<void>;
  /** What was kept, or is just being kept, is a snapshot now: forget it. Never rejects. */
  clear(): Promise<void>;
}
