/** One save of a running machine: freeze, pack in the worker, send, and tell the worker how it ended. */

import type { Journal } from "../journal/journal";
import { MOST_EXTRA, type MachineClient } from "../machine/client";
import type { SyncClient } from "../sync/client";
import { save } from "../sync/save";
import type { SaveReport, SavingView, SessionTerminal } from "./model";

export interface SaveMachineOptions {
  machine: MachineClient;
  sync: SyncClient;
  terminal: SessionTerminal;
  takePicture: () => Promise<string | null>;
  message: string;
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
  const { machine, sync, terminal, signal } = options;
  const began = performance.now();
  options.onView({ phase: "preparing", progress: undefined });
  let picture: Promise<string | null> | undefined;
  const prepared = await machine.prepareSave({
    extra: async () => {
      options.onFrozen();
      const screen = await terminal.serialize(MOST_EXTRA);
      // A picture is nice to have: a save does not fail for want of one.
      picture = options.takePicture().catch(() => null);
      return screen;
    },
  });
  let result;
  try {
    signal.throwIfAborted();
    const { message } = options;
    const expectedHead = options.expectedHead === undefined ? prepared.parentSnapshot : options.expectedHead;
    const idempotencyKey = crypto.randomUUID();
    const thumbnail = prepared.thumbnail ?? (await picture) ?? null;
    // A tab whose storage is full or away can save all the same.
    await options.journal
      ?.keep(prepared, { message, expectedHead, thumbnail, idempotencyKey })
      .catch(() => undefined);
    signal.throwIfAborted();
    result = await save(
      sync,
      {
        expectedHead,
        diskRoot: prepared.diskRoot,
        memoryRoot: prepared.memoryRoot,
        message,
        thumbnail,
        idempotencyKey,
        reusedBytes: prepared.reusedBytes,
        chunks: prepared.chunks.map(({ digest, rawSize }) => [digest, rawSize] as const),
        frame: (digest) => prepared.frame(digest),
      },
      (progress) => options.onView({ phase: progress.phase, progress }),
      signal,
    );
  } catch (error) {
    await prepared.discard().catch(() => undefined);
    throw error;
  }
  await prepared.committed(result.snapshot.id);
  await options.journal?.clear().catch(() => undefined);
  return {
    snapshot: result.snapshot.id,
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
