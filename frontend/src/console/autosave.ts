/** When a machine saves by itself: on a timer and when the guest has become quiet, as long as something has changed. */

import { Cancelled, ConnectionLost, Expected } from "../sync/errors";

export type AutosaveView =
  | { kind: "off" }
  /** `at`: ms since 1970 of the last autosave that became a snapshot. */
  | { kind: "on"; at: number | undefined }
  | { kind: "saving" }
  /** The tenant's storage is full. */
  | { kind: "full" }
  | { kind: "failing"; message: string };

export interface AutosaveHooks {
  /** `online`: save; `offline`: into the journal only; `no`: not at this moment. */
  possible(): "online" | "offline" | "no";
  /** Whether there is anything to save. */
  worthSaving(): boolean;
  /** ms since the guest or the person last did something. */
  quietMs(): number;
  /** Looks at how hard the guest works; called every few seconds. */
  sample(): Promise<void>;
  round(): Promise<unknown>;
  journalRound(): Promise<unknown>;
  changed(): void;
}

const TICK = 1000;
const SAMPLE_EVERY = 5000;
/** The guest is quiet when nothing has happened for so long, ms. */
const QUIET = 3000;
/** Quiet or not, rounds are at least so far apart, ms. */
const APART = 10_000;
const LONGEST_BACKOFF = 10 * 60_000;
/** Somebody may make room at any time; asking costs one message. */
const FULL_BACKOFF = 60_000;

export class Autosave {
  private timer: ReturnType<typeof setInterval> | undefined;
  private seconds = 0;
  private current: AutosaveView = { kind: "off" };
  private savedAt: number | undefined;
  private running = false;
  private lastRound: number;
  private lastSample: number;
  /** ms; since when there is something to save. */
  private since: number | undefined;
  private failures = 0;
  private notBefore = 0;

  constructor(
    private readonly hooks: AutosaveHooks,
    private readonly now: () => number = Date.now,
  ) {
    this.lastRound = this.lastSample = now();
  }

  get view(): AutosaveView {
    return this.running ? { kind: "saving" } : this.current;
  }

  /** 0: off. */
  set(seconds: number): void {
    this.seconds = seconds;
    clearInterval(this.timer);
    this.timer = seconds > 0 ? setInterval(() => this.tick(), TICK) : undefined;
    this.show(seconds > 0 ? { kind: "on", at: this.savedAt } : { kind: "off" });
  }

  /** An explicit save went through: what stood in the way of rounds may be gone. */
  saved(): void {
    this.failures = this.notBefore = 0;
    this.savedAt = undefined;
    this.lastRound = this.now();
    if (this.seconds > 0) this.show({ kind: "on", at: undefined });
  }

  close(): void {
    clearInterval(this.timer);
  }

  /** Runs a round if it is time for one. */
  tick(): void {
    const now = this.now();
    const possible = this.hooks.possible();
    if (this.running || possible === "no") return;
    if (now - this.lastSample >= SAMPLE_EVERY) {
      this.lastSample = now;
      void this.hooks.sample();
    }
    if (!this.hooks.worthSaving()) {
      this.since = undefined;
      return;
    }
    this.since ??= now;
    if (now < this.notBefore) return;
    const every = this.seconds * 1000;
    const onTimer = now - Math.max(this.lastRound, this.since) >= every;
    const onIdle = now - this.lastRound >= Math.min(APART, every) && this.hooks.quietMs() >= QUIET;
    if (onTimer || onIdle) void this.run(possible);
  }

  private async run(how: "online" | "offline"): Promise<void> {
    this.running = true;
    this.hooks.changed();
    try {
      if (how === "online") {
        await this.hooks.round();
        this.savedAt = this.now();
        this.since = undefined;
      } else await this.hooks.journalRound();
      this.failures = 0;
      this.current = { kind: "on", at: this.savedAt };
    } catch (error) {
      this.failed(error);
    } finally {
      this.lastRound = this.now();
      this.running = false;
      this.hooks.changed();
    }
  }

  private failed(error: unknown): void {
    if (error instanceof Cancelled || error instanceof ConnectionLost) return; // an explicit save, or the network: no fault
    const backoff = this.seconds * 1000 * 2 ** Math.min(++this.failures, 10);
    this.notBefore = this.now() + Math.min(LONGEST_BACKOFF, backoff);
    if (error instanceof Expected && error.code === "quota_exceeded") {
      this.notBefore = this.now() + FULL_BACKOFF;
      this.current = { kind: "full" };
    } else
      this.current = { kind: "failing", message: error instanceof Error ? error.message : String(error) };
  }

  private show(view: AutosaveView): void {
    this.current = view;
    this.hooks.changed();
  }
}
