/** The guest's clocks. */

import type { Time } from "../../../engine/linux/types.ts";

/** Milliseconds that the fine clock may be off before it is set again: a computer that slept, a person who sets the time. */
const MOST_DRIFT = 20;
let offset = Date.now() - performance.now();

/** Time of day; finer than `Date` tells it. */
export function realtime(): Time {
  const exact = Date.now() - performance.now();
  if (Math.abs(exact - offset) > MOST_DRIFT) offset = exact;
  const milliseconds = offset + performance.now();
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanoseconds: Math.floor((milliseconds - seconds * 1000) * 1e6) };
}

/** Time since the machine began. It stands still while the machine does. */

export class GuestClock {
  /** Nanoseconds that had passed when it began to run. */
  private base = 0;
  private since: number | undefined;

  now(): number {
    return this.base + (this.since === undefined ? 0 : (performance.now() - this.since) * 1e6);
  }

  run(): void {
    this.since ??= performance.now();
  }

  stop(): void {
    this.base = this.now();
    this.since = undefined;
  }

  continueFrom(nanoseconds: number): void {
    this.base = nanoseconds;
    if (this.since !== undefined) this.since = performance.now();
  }
}
