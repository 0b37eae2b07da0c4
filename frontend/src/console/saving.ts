/** The saves of a session, one at a time, and what there is to save: whether anything was done since the last. */

import type { MachineClient } from "../machine/client";
import type { SyncClient } from "../sync/client";
import { Cancelled, Expected } from "../sync/errors";
import type { SaveReport, SavingView, SessionOptions } from "./model";
import { saveMachine } from "./saver";

/**
 * So many blocks a guest may write without anybody having done anything: it flushes what was in its memory at the save, and
 * that is in the snapshot already. More is work of its own.
 */
const WRITE_BACK_BLOCKS = 64;

export interface SaveRequest {
  machine: MachineClient;
  sync: SyncClient;
  message: string;
  /** The head that the snapshot goes on top of; by default the one that the machine started from. */
  expectedHead?: string | null;
}

export class Saving {
  /** Blocks of the disk that differ from the last snapshot. */
  dirtyBlocks = 0;
  readonly reports: SaveReport[] = [];
  private current: { view: SavingView; cancel: AbortController } | undefined;
  /** Input since the last save, and at all. */
  private touched = false;
  private everTouched = false;

  constructor(
    private readonly options: Pick<SessionOptions, "terminal" | "takePicture" | "journal">,
    private readonly changed: () => void,
  ) {}

  get view(): SavingView | undefined {
    return this.current?.view;
  }

  /** Something is in no snapshot yet. */
  get unsaved(): boolean {
    return this.touched || (this.everTouched && this.dirtyBlocks > WRITE_BACK_BLOCKS);
  }

  /** Somebody did something in this run that may be lost with it. */
  get worked(): boolean {
    return this.everTouched;
  }

  touch(): void {
    const first = !this.touched;
    this.touched = true;
    this.everTouched = true;
    if (first) this.changed();
  }

  /** The work was kept somewhere else. */
  forget(): void {
    this.everTouched = false;
  }

  cancel(): void {
    this.current?.cancel.abort(new Cancelled());
  }

  /** Rejects with `Expected`, `Cancelled` or the machine's error; the work then counts as unsaved. */
  async save({ machine, sync, message, ...more }: SaveRequest): Promise<SaveReport> {
    if (this.current) throw new Expected("save_in_progress", "A save is under way already.");
    const saving = {
      view: { phase: "preparing", progress: undefined } as SavingView,
      cancel: new AbortController(),
    };
    this.current = saving;
    try {
      const report = await saveMachine({
        ...more,
        machine,
        sync,
        message,
        terminal: this.options.terminal,
        takePicture: this.options.takePicture,
        journal: this.options.journal,
        signal: saving.cancel.signal,
        onFrozen: () => (this.touched = false),
        onView: (view) => {
          saving.view = view;
          this.changed();
        },
      });
      // Counted from the new snapshot now; the machine tells by itself only when the disk is used again.
      const stats = await machine.stats().catch(() => undefined);
      this.dirtyBlocks = stats?.disk.dirtyBlocks ?? 0;
      return report;
    } catch (error) {
      this.touched = true;
      throw error;
    } finally {
      this.current = undefined;
      this.changed();
    }
  }
}
