/** Where journals are kept: what the rest asks of the browser's storage, so that tests can put a hostile one in its place. */

/** One tab run's journal. What it says about the machine is in `manifest`, sealed; the rest is what housekeeping needs. */
export interface JournalRow {
  id: string;
  /** Whose it is: the name that the service gives the user for this. */
  owner: string;
  /** Which VM it is of, as only who has the key can tell. */
  vm: string;
  /** Bytes of all its frames and its manifest. */
  bytes: number;
  /** ms since 1970. */
  writtenAt: number;
  /** When the person chose the last saved state instead; null: they have not. */
  asideAt: number | null;
  /** It was set aside once: another run may go on under the name of the one that wrote it. */
  wasAside: boolean;
  /** The sealed manifest of the kept save; null: none is whole yet. */
  manifest: Uint8Array | null;
}

export interface Write {
  row: JournalRow;
  /** Whether the row must be there already (else `Gone`), or must not. */
  isNew: boolean;
  frames: readonly (readonly [number: number, bytes: Uint8Array])[];
  /** Drop all frames of this journal but these; undefined: drop none. */
  retain?: ReadonlySet<number>;
  /** What `fence` answered before the key was fetched (else `Fenced`). */
  fence: number;
}

/** Every method is one transaction: carried out whole or not at all. */
export interface JournalStore {
  rows(): Promise<JournalRow[]>;
  row(id: string): Promise<JournalRow | undefined>;
  frame(id: string, number: number): Promise<Uint8Array | undefined>;
  /** Rejects with `NoRoom`, `Fenced`, `Gone`. */
  write(write: Write): Promise<void>;
  /** The person chose the last saved state, or (null) wants this back. */
  setAside(id: string, at: number | null): Promise<void>;
  /** Removes rows with all their frames. */
  remove(ids: readonly string[]): Promise<void>;
  /** How often somebody has signed out in this browser. */
  fence(): Promise<number>;
  /** Somebody signed out: removes all that is theirs, and fences off whoever fetched a key before. */
  signOut(owners: readonly string[]): Promise<void>;
}

export class NoRoom extends Error {
  override readonly name = "NoRoom";
}

/** Somebody signed out since the key was fetched. */
export class Fenced extends Error {
  override readonly name = "Fenced";
}

/** The journal was removed behind our back (the person cleared the site's data). */
export class Gone extends Error {
  override readonly name = "Gone";
}
