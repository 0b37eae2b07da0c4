/** What happens at a time: a heap of plain entries, and the timers of processes. */

import type { WaitQueue } from "./wait.ts";

/** ITIMER_*: nanoseconds of the clock it counts. */
export interface IntervalTimer {
  /** When it next expires; for ITIMER_VIRTUAL and PROF of the process's CPU time. */
  expires: number;
  interval: number;
}

export interface PosixTimer {
  id: number;
  clock: number;
  /** SIGEV_SIGNAL 0, NONE 1, THREAD 2 (never seen here), THREAD_ID 4. */
  notify: number;
  signal: number;
  value: bigint;
  /** Thread that gets the signal; 0: the process. */
  tid: number;
  /** On the timer's clock; Infinity: not armed. */
  expires: number;
  interval: number;
  /** Expirations since its signal was queued. */
  overrun: number;
  /** What timer_getoverrun tells. */
  lastOverrun: number;
}

/** Exactly one of the targets is set. */
export interface TimerEntry {
  time: number;
  queue?: WaitQueue;
  /** Thread whose wait ends, when it is still that wait. */
  tid?: number;
  wait?: number;
  /** Process whose timers are to be looked at. */
  pid?: number;
}

export class TimerHeap {
  readonly entries: TimerEntry[] = [];

  get next(): number {
    return this.entries[0]?.time ?? Infinity;
  }

  add(entry: TimerEntry): void {
    if (entry.time === Infinity) return;
    const { entries } = this;
    let at = entries.length;
    entries.push(entry);
    while (at > 0) {
      const above = (at - 1) >>> 1;
      if (entries[above]!.time <= entry.time) break;
      entries[at] = entries[above]!;
      at = above;
    }
    entries[at] = entry;
  }

  /** Takes the first entry that is due at `now`. */
  take(now: number): TimerEntry | undefined {
    const { entries } = this;
    const first = entries[0];
    if (first === undefined || first.time > now) return undefined;
    const last = entries.pop()!;
    if (entries.length === 0) return first;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= entries.length) break;
      if (below + 1 < entries.length && entries[below + 1]!.time < entries[below]!.time) below += 1;
      if (entries[below]!.time >= last.time) break;
      entries[at] = entries[below]!;
      at = below;
    }
    entries[at] = last;
    return first;
  }
}
