/** What an earlier run of this user left of a VM in this browser: found, checked whole, and continued. No DOM, no emulator. */

import { SyncClient, type SyncOptions } from "../sync/client";
import { Expected } from "../sync/errors";
import { save, type SaveProgress } from "../sync/save";
import { lockName, type Locks } from "./locks";
import { decodeManifest, type Manifest } from "./manifest";
import { Damaged, JournalKey, type KeyAnswer, type Sealer } from "./sealing";
import type { JournalRow, JournalStore } from "./store";

const DAY = 24 * 3600 * 1000;
/** For so long the choice of the last saved state can be taken back. */
export const ASIDE_MS = DAY;
/** For so long unsaved work waits for its owner. */
export const LEFTOVER_MS = 30 * DAY;

const RECOVERED = "Recovered unsaved work";

export interface Leftover {
  id: string;
  manifest: Manifest;
  /** The run that it is of, when nobody can be running under that name any more. */
  session: string | undefined;
  /** Where its frames are read. */
  frame(digest: string): Promise<Uint8Array>;
  /** Lets other tabs have it. */
  release(): void;
  /** The copy that a continuation made, should it not have come to its end: the next try goes on with it. */
  copy?: { vm: string; idempotencyKey: string };
}

export interface Search {
  store: JournalStore;
  locks: Locks;
  /** The name under which this user's journals are filed. */
  owner: string;
  vm: string;
  fetchKey: () => Promise<KeyAnswer>;
  /** So long a journal that seems alive is waited for: a page that is being reloaded may not be quite gone. */
  waitMs: number;
}

/**
 * The newest work left over of this VM, held for this tab. What does not verify is removed, and `damaged` says so. Asks for
 * the key only when there is something that it might be for. Rejects when the storage or the key is not to be had.
 */
export async function findLeftover(
  search: Search,
): Promise<{ work: Leftover | undefined; damaged: boolean }> {
  const { store, locks, vm } = search;
  let mine = (await store.rows()).filter(
    (row) => row.owner === search.owner && row.manifest && row.asideAt === null,
  );
  if (mine.length > 0 && search.waitMs === 0) {
    const held = await locks.held();
    mine = mine.filter((row) => !held.has(lockName(row.id)));
  }
  let damaged = false;
  if (mine.length === 0) return { work: undefined, damaged };
  mine.sort((a, b) => b.writtenAt - a.writtenAt);
  const key = await JournalKey.from(await search.fetchKey(), vm);
  for (const { id } of mine.filter((row) => row.vm === key.tag)) {
    const release = await locks.hold(lockName(id), search.waitMs);
    if (!release) continue;
    try {
      // Another tab may have dealt with it in the meantime.
      const row = await store.row(id);
      if (row?.manifest && row.asideAt === null) {
        return { work: { ...(await open(store, row, key, vm)), release }, damaged };
      }
    } catch (error) {
      if (!(error instanceof Damaged)) {
        release();
        throw error;
      }
      damaged = true;
      await store.remove([id]).catch(() => undefined);
    }
    release();
  }
  return { work: undefined, damaged };
}

async function open(
  store: JournalStore,
  row: JournalRow,
  key: JournalKey,
  vm: string,
): Promise<Omit<Leftover, "release">> {
  const sealer = await key.sealer(row.id);
  const manifest = decodeManifest(await sealer.open("manifest", row.manifest ?? new Uint8Array()));
  if (manifest.vm !== vm) throw new Damaged("it is of another VM");
  const numbers = new Map(manifest.chunks.map(({ digest, number }) => [digest, number]));
  const frame = (digest: string): Promise<Uint8Array> =>
    readFrame(store, sealer, row.id, digest, numbers.get(digest));
  // All of it now: what is offered must not turn out to be half a machine.
  for (const { digest } of manifest.chunks) await frame(digest);
  const session = row.wasAside ? undefined : manifest.session;
  return { id: row.id, manifest, session, frame };
}

async function readFrame(
  store: JournalStore,
  sealer: Sealer,
  id: string,
  digest: string,
  number: number | undefined,
): Promise<Uint8Array> {
  const sealed = number === undefined ? undefined : await store.frame(id, number);
  if (!sealed) throw new Damaged(`the frame of ${digest} is not there`);
  return sealer.open(`frame|${digest}`, sealed);
}

/** Work of this VM that was set aside, newest first, for who wants it back. */
export async function findAside(
  search: Omit<Search, "waitMs" | "locks">,
): Promise<{ id: string; savedAt: number }[]> {
  const rows = (await search.store.rows()).filter(
    (row) => row.owner === search.owner && row.asideAt !== null,
  );
  if (rows.length === 0) return [];
  const key = await JournalKey.from(await search.fetchKey(), search.vm);
  return rows
    .filter((row) => row.vm === key.tag)
    .map((row) => ({ id: row.id, savedAt: row.writtenAt }))
    .sort((a, b) => b.savedAt - a.savedAt);
}

/** Removes what nobody waits for any more, whoever's it is: never what a living tab holds. */
export async function sweep(store: JournalStore, locks: Locks, now = Date.now()): Promise<void> {
  const over = (await store.rows()).filter(
    (row) =>
      !row.manifest ||
      now - row.writtenAt > LEFTOVER_MS ||
      (row.asideAt !== null && now - row.asideAt > ASIDE_MS),
  );
  for (const { id } of over) {
    const release = await locks.hold(lockName(id));
    if (!release) continue;
    await store.remove([id]).finally(release);
  }
}

export interface ContinueOptions {
  store: JournalStore;
  /** This page's own run. */
  session: string;
  socketUrl: (vm: string) => string;
  openSocket: SyncOptions["openSocket"];
  timing?: SyncOptions["timing"];
  /** Makes a copy of the VM as of a snapshot (null: as its image was published) in its own tenant; resolves with its id. */
  copy: (snapshot: string | null) => Promise<string>;
  /** Do not even try to become the VM's new head: somebody has it open. */
  asCopy: boolean;
  onProgress: (progress: SaveProgress) => void;
  signal: AbortSignal;
}

/**
 * Saves what was left over: as the VM's new head, or, when that has moved, in a copy of the VM (whose id it answers). Then
 * the journal is gone. When it rejects, nothing of it is: `Expected`, `Cancelled` or `Damaged`.
 */
export async function continueLeftover(
  work: Leftover,
  options: ContinueOptions,
): Promise<string | undefined> {
  const { manifest } = work;
  try {
    if (options.asCopy) work.copy ??= await makeCopy([manifest.expectedHead], options);
    if (!work.copy) await upload(manifest.vm, manifest.idempotencyKey, work, options);
  } catch (error) {
    if (!(error instanceof Expected) || error.code !== "head_moved") throw error;
    // A fresh VM has no snapshot that a copy could be made of: then the newer one will do, the work brings all it needs.
    work.copy = await makeCopy([manifest.expectedHead ?? undefined, error.details["head"]], options);
  }
  if (work.copy) await upload(work.copy.vm, work.copy.idempotencyKey, work, options);
  await options.store.remove([work.id]);
  return work.copy?.vm;
}

async function makeCopy(
  bases: unknown[],
  { copy }: Pick<ContinueOptions, "copy">,
): Promise<NonNullable<Leftover["copy"]>> {
  for (const base of bases) {
    if (typeof base !== "string" && base !== null) continue;
    try {
      return { vm: await copy(base), idempotencyKey: crypto.randomUUID() };
    } catch (error) {
      if (!(error instanceof Expected) || error.code !== "not_found") throw error;
    }
  }
  throw new Expected(
    "no_base",
    "The saved state that this work goes on from was deleted. Bring it back in the history, then try again.",
  );
}

async function upload(
  vm: string,
  idempotencyKey: string,
  work: Leftover,
  options: ContinueOptions,
): Promise<void> {
  const { manifest } = work;
  const sync = new SyncClient({
    url: options.socketUrl(vm),
    session: work.session ?? options.session,
    openSocket: options.openSocket,
    ...(options.timing ? { timing: options.timing } : {}),
  });
  try {
    let { expectedHead } = manifest;
    // A copy that was made for this work: whatever its head is, it is the work's base.
    if (vm !== manifest.vm) expectedHead = await headOf(sync, options.signal);
    const { diskRoot, memoryRoot, thumbnail, reusedBytes } = manifest;
    // What nobody had asked to be saved has no message of its own.
    const message = manifest.message || RECOVERED;
    const chunks = manifest.chunks.map(({ digest, rawSize }) => [digest, rawSize] as const);
    await save(
      sync,
      {
        ...{ expectedHead, diskRoot, memoryRoot, message, thumbnail, idempotencyKey, reusedBytes, chunks },
        frame: (digest) => work.frame(digest),
      },
      options.onProgress,
      options.signal,
    );
  } finally {
    sync.close();
  }
}

async function headOf(sync: SyncClient, signal: AbortSignal): Promise<string | null> {
  const cancel = (): void => sync.close();
  if (signal.aborted) cancel();
  signal.addEventListener("abort", cancel, { once: true });
  try {
    await sync.whenOnline();
    return sync.state.kind === "online" ? sync.state.head : null;
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}
