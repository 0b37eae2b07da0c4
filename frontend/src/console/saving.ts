/** The saves of a session, one at a time, and what there is to save: whether anything was done since the last. */

import type { MachineClient } from "../machine/client";
import type { SyncClient } from "../sync/client";
import { Cancelled, ConnectionLost, Expected } from "../sync/errors";
import type { SaveReport, SavingView, SessionOptions } from "./model";
import { keepMachine, saveMachine, sendAhead } from "./saver";

/**
 * So many blocks a guest may write without anybody having done anything: it flushes what was in its memory at the save, and
 * that is in the snapshot already. More is work of its own.
 */
const WRITE_BACK_BLOCKS = 64;

export interface SaveRequest {
  machine: MachineClient;
  sync: SyncClient;
  message: string;
  kind?: "save" | "auto";
  /** The head that the snapshot goes on top of; by default the one that the machine started from. */
  expectedHead?: string | null;
}

export class Saving {
  /** Blocks of the disk that differ from the last snapshot. */
  dirtyBlocks = 0;
  readonly reports: SaveReport[] = [];
  private current: { view: SavingView; cancel: AbortController; done: Promise<unknown> } | undefined;
  private round: { cancel: AbortController; done: Promise<unknown> } | undefined;
  /** Input since the last save, and at all. */
  private touched = false;
  private everTouched = false;
  /** The guest has printed, or worked hard, since the last save. */
  private moved = false;
  /** All of it is in the journal. */
  private isKept = false;

  constructor(
    private readonly options: Pick<SessionOptions, "terminals" | "takePicture" | "journal">,
    private readonly changed: () => void,
  ) {}

  /** The save that a person or a script has asked for. */
  get view(): SavingView | undefined {
    return this.current?.view;
  }

  /** A save is being made, asked for or not. */
  get busy(): boolean {
    return this.current !== undefined || this.round !== undefined;
  }

  /** Something is in no snapshot yet. */
  get unsaved(): boolean {
    return this.touched || (this.everTouched && this.dirtyBlocks > WRITE_BACK_BLOCKS);
  }

  /** Somebody did something in this run that may be lost with it. */
  get worked(): boolean {
    return this.everTouched;
  }

  /** Whether a round has something to do: work, or a guest that goes on with it by itself. */
  get worthSaving(): boolean {
    return this.unsaved || this.moved;
  }

  /** Whether a round without a connection has something to do: the journal may have it all. */
  get worthKeeping(): boolean {
    return this.worthSaving && !this.isKept;
  }

  touch(): void {
    this.isKept = false;
    const first = !this.touched;
    this.touched = true;
    this.everTouched = true;
    if (first) this.changed();
  }

  /** The guest did something on its own. That is nobody's work to lose until somebody has worked here (`busy`: it computes). */
  guestMoved(busy: boolean): void {
    if (!busy && !this.everTouched) return;
    this.moved = true;
    this.isKept = false;
  }

  /** The work was kept somewhere else. */
  forget(): void {
    this.everTouched = false;
    this.touched = false;
    this.moved = false;
  }

  cancel(): void {
    this.current?.cancel.abort(new Cancelled());
  }

  /** Resolves when no save is under way, however they end. */
  async settled(): Promise<void> {
    while (this.current ?? this.round) await (this.current ?? this.round)?.done.catch(() => undefined);
  }

  /**
   * Rejects with `Expected`, `Cancelled` or the machine's error; the work then counts as unsaved. A round that is under way makes
   * room: what it has sent need not be sent again.
   */
  async save(request: SaveRequest): Promise<SaveReport> {
    if (this.current) throw new Expected("save_in_progress", "A save is under way already.");
    const cancel = new AbortController();
    const saving = {
      view: { phase: "preparing", progress: undefined } as SavingView,
      cancel,
      done: Promise.resolve() as Promise<unknown>,
    };
    this.current = saving;
    this.changed();
    const work = (async () => {
      try {
        this.round?.cancel.abort(new Cancelled());
        await this.round?.done.catch(() => undefined);
        return await this.carryOut({ kind: "save", ...request }, cancel.signal, (view) => {
          saving.view = view;
          this.changed();
        });
      } finally {
        this.current = undefined;
        this.changed();
      }
    })();
    saving.done = work;
    return work;
  }

  /** An autosave round: sends ahead what has changed, then commits. Rejects as `save` does. */
  runRound(machine: MachineClient, sync: SyncClient): Promise<SaveReport> {
    return this.background(async (signal) => {
      await sendAhead(machine, sync, signal).catch((error: unknown) => {
        // What the service refuses it refuses again below, when the journal has the work.
        if (!(error instanceof Expected) || error instanceof ConnectionLost) throw error;
      });
      signal.throwIfAborted();
      return this.carryOut({ machine, sync, message: "", kind: "auto" }, signal, () => undefined);
    });
  }

  /** A round without a connection: what there is goes into the journal. */
  runJournalRound(machine: MachineClient): Promise<void> {
    return this.background(async () => {
      const { terminals, takePicture, journal } = this.options;
      let before = { touched: this.touched, moved: this.moved };
      const onFrozen = (): void => {
        before = { touched: this.touched, moved: this.moved };
        this.touched = this.moved = false;
        this.isKept = true;
      };
      try {
        await keepMachine({ machine, terminals, takePicture, journal, message: "", onFrozen });
      } catch (error) {
        this.isKept = false;
        throw error;
      } finally {
        // The service does not have it.
        this.touched ||= before.touched;
        this.moved ||= before.moved;
      }
    });
  }

  private async background<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.busy) throw new Expected("save_in_progress", "A save is under way already.");
    const cancel = new AbortController();
    const done = work(cancel.signal).finally(() => {
      this.round = undefined;
      this.changed();
    });
    this.round = { cancel, done };
    this.changed();
    return done;
  }

  private async carryOut(
    { machine, sync, message, kind = "save", expectedHead }: SaveRequest,
    signal: AbortSignal,
    onView: (view: SavingView) => void,
  ): Promise<SaveReport> {
    const { terminals, takePicture, journal } = this.options;
    let frozen = false;
    const onFrozen = (): void => {
      frozen = true;
      this.touched = false;
      this.moved = false;
    };
    try {
      const report = await saveMachine({
        ...(expectedHead === undefined ? {} : { expectedHead }),
        ...{ machine, sync, message, kind, terminals, takePicture, journal, signal, onView, onFrozen },
      });
      // Counted from the new snapshot now; the machine tells by itself only when the disk is used again.
      const stats = await machine.stats().catch(() => undefined);
      this.dirtyBlocks = stats?.disk.dirtyBlocks ?? 0;
      this.reports.push(report);
      if (this.reports.length > MOST_REPORTS) this.reports.shift();
      return report;
    } catch (error) {
      if (frozen) this.touched = true;
      throw error;
    }
  }
}

/** Kept for the statistics. */
const MOST_REPORTS = 200;
