/** One save of a running machine: freeze, pack in the worker, send, and tell the worker how it ended. */

import type { Journal } from "../journal/journal";
import { MOST_EXTRA, type MachineClient, type PreparedSave, type SaveOptions } from "../machine/client";
import type { SyncClient } from "../sync/client";
import { save, store } from "../sync/save";
import { trim } from "./guest";
import type { SaveReport, SavingView, SessionTerminals } from "./model";
import { SharedFrames } from "./shared-frames";

export interface SaveMachineOptions {
  machine: MachineClient;
  sync: SyncClient;
  terminals: SessionTerminals;
  takePicture: () => Promise<string | null>;
  message: string;
  kind: "save" | "auto";
  /** The head that the snapshot goes on top of; by default the one that the machine started from. */
  expectedHead?: string | null;
  journal?: Journal | undefined;
  signal: AbortSignal;
  onView: (view: SavingView) => void;
  /** Everything up to now is in the save, nothing later is. */
  onFrozen: () => void;
}

/** Rejects with `Expected`, `Cancelled` or the machine's error; the work is then still in the machine. */
export async function saveMachine(options: SaveMachineOptions): Promise<SaveReport> {
  const { sync, signal } = options;
  const began = performance.now();
  options.onView({ phase: "preparing", progress: undefined });
  // Somebody will open it elsewhere. An autosave is for emergencies, and must not slow the guest down.
  if (options.kind === "save") await trim(options.machine);
  const { prepared, thumbnail, expectedHead, idempotencyKey, kept } = await prepare(options);
  const stored: string[] = [];
  let result;
  try {
    signal.throwIfAborted();
    result = await save(
      sync,
      {
        expectedHead,
        diskRoot: prepared.diskRoot,
        memoryRoot: prepared.memoryRoot,
        message: options.message,
        kind: options.kind,
        thumbnail,
        idempotencyKey,
        reusedBytes: prepared.reusedBytes,
        chunks: prepared.chunks.map(({ digest, rawSize }) => [digest, rawSize] as const),
        frame: (digest) => prepared.frame(digest),
        stored: (digest) => stored.push(digest),
        // What the journal had before is older than the snapshot: a tab that dies now must not find that.
        beforeCommit: () => kept,
      },
      (progress) => options.onView({ phase: progress.phase, progress }),
      signal,
    );
  } catch (error) {
    await kept;
    await prepared.discard(stored).catch(() => undefined);
    throw error;
  }
  await prepared.committed(result.snapshot.id);
  await options.journal?.clear().catch(() => undefined);
  return {
    snapshot: result.snapshot.id,
    kind: options.kind,
    uploadedBytes: result.uploadedBytes,
    totalMs: Math.round(performance.now() - began),
    pausedMs: prepared.pausedMs,
    preparedMs: prepared.preparedMs,
    dirtyBlocks: prepared.dirtyBlocks,
    changedPages: prepared.changedPages,
    packedBytes: prepared.packedBytes,
    reusedBytes: prepared.reusedBytes,
    retries: result.retries,
  };
}

/** Puts the work into the journal only: for a time without a connection. */
export async function keepMachine(
  options: Pick<
    SaveMachineOptions,
    "machine" | "terminals" | "takePicture" | "journal" | "onFrozen" | "message"
  >,
): Promise<void> {
  const { prepared, kept } = await prepare(options);
  await kept;
  await prepared.discard();
}

/** Sends ahead what has changed, while the guest runs: a save right after it has little left to do. */
export async function sendAhead(
  machine: MachineClient,
  sync: SyncClient,
  signal: AbortSignal,
): Promise<number> {
  const round = await machine.prepareRound();
  if (!round) return 0;
  const stored: string[] = [];
  try {
    const sent = await store(
      sync,
      {
        chunks: round.chunks.map(({ digest, rawSize }) => [digest, rawSize] as const),
        frame: (digest) => round.frame(digest),
        stored: (digest) => stored.push(digest),
      },
      signal,
    );
    stored.push(...round.chunks.map(({ digest }) => digest)); // the others were there already
    return sent;
  } finally {
    await round.discard(stored).catch(() => undefined);
  }
}

/** Freezes and packs, and hands the result to the journal: `kept` resolves when that has it, or cannot have it. */
async function prepare(
  options: Pick<
    SaveMachineOptions,
    "machine" | "terminals" | "takePicture" | "journal" | "onFrozen" | "message" | "expectedHead"
  >,
): Promise<{
  prepared: PreparedSave;
  thumbnail: string | null;
  expectedHead: string | null;
  idempotencyKey: string;
  kept: Promise<void>;
}> {
  let picture: Promise<string | null> | undefined;
  const extra: SaveOptions["extra"] = async () => {
    options.onFrozen();
    const screen = await options.terminals.serialize(MOST_EXTRA);
    // A picture is nice to have: a save does not fail for want of one.
    picture = options.takePicture().catch(() => null);
    return screen;
  };
  const prepared = withSharedFrames(await options.machine.prepareSave({ extra }));
  const { message, journal } = options;
  const expectedHead = options.expectedHead === undefined ? prepared.parentSnapshot : options.expectedHead;
  const thumbnail = prepared.thumbnail ?? (await picture) ?? null;
  const idempotencyKey = crypto.randomUUID();
  const about = { message, expectedHead, thumbnail, idempotencyKey };
  // A tab whose storage is full or away can save all the same.
  const kept = (journal?.keep(prepared, about) ?? Promise.resolve()).catch(() => undefined);
  return { prepared, thumbnail, expectedHead, idempotencyKey, kept };
}

/** The journal and the upload take the frames side by side: the guest's thread makes each once. */
function withSharedFrames(prepared: PreparedSave): PreparedSave {
  const frames = new SharedFrames((digest) => prepared.frame(digest));
  return { ...prepared, frame: (digest) => frames.frame(digest) };
}
