/** What a session does without being asked: it notices when the guest works, and saves now and then. */

import type { MachineClient } from "../machine/client";
import { Autosave, type AutosaveHooks } from "./autosave";
import type { Holding } from "./holding";
import type { SessionOptions } from "./model";
import type { Saving } from "./saving";

/** Instructions a millisecond above which a guest is at work: an idle one takes a tenth of it. */
const BUSY_RATE = 5000;

export interface BackgroundOptions extends Pick<AutosaveHooks, "round" | "journalRound" | "changed"> {
  journal: SessionOptions["journal"];
  saving: Saving;
  holding: Holding;
  /** The machine, while it runs or is paused and nothing speaks against saving it. */
  machine(): MachineClient | undefined;
}

export class Background {
  readonly autosave: Autosave;
  /** ms since 1970: the last output or input. */
  private lastActivity = 0;
  private instructions: { count: number; at: number } | undefined;

  constructor(private readonly options: BackgroundOptions) {
    const { saving } = options;
    this.autosave = new Autosave({
      possible: () => this.possible(),
      worthSaving: () => (this.possible() === "offline" ? saving.worthKeeping : saving.worthSaving),
      quietMs: () => Date.now() - this.lastActivity,
      sample: () => this.sampleWork(),
      round: options.round,
      journalRound: options.journalRound,
      changed: options.changed,
    });
  }

  /** The person or the guest did something just now. */
  active(): void {
    this.lastActivity = Date.now();
  }

  private possible(): "online" | "offline" | "no" {
    const { saving, holding, journal } = this.options;
    if (!this.options.machine() || saving.busy) return "no";
    const { conflict } = holding;
    const { kind } = holding.sync.state;
    if (kind === "online") return conflict ? "no" : "online";
    const offline = kind === "connecting" && !conflict;
    return journal && (offline || conflict?.kind === "signed_out") ? "offline" : "no";
  }

  /** Whether the guest computes something: it may do that without printing a line. */
  private async sampleWork(): Promise<void> {
    const stats = await this.options
      .machine()
      ?.stats()
      .catch(() => undefined);
    if (!stats) return;
    const now = { count: stats.instructions, at: Date.now() };
    const before = this.instructions;
    this.instructions = now;
    if (!before || now.at <= before.at) return;
    const rate = ((now.count - before.count) >>> 0) / (now.at - before.at);
    if (rate > BUSY_RATE) this.options.saving.guestMoved(true);
  }
}
