/** Counts for --stats. */

import type { LinuxKernel, Tracer } from "../linux/kernel.ts";
import { callName } from "../linux/syscalls/numbers.ts";
import type { Thread } from "../linux/task.ts";
import type { Arguments } from "../linux/types.ts";

interface Count {
  calls: number;
  milliseconds: number;
}

/** Counts calls and how long each took (waiting included), and passes everything on to another tracer. */
export class Statistics implements Tracer {
  readonly #next: Tracer | undefined;
  readonly #counts = new Map<number, Count>();
  readonly #began = new Map<number, number>();
  readonly #start = performance.now();

  constructor(next: Tracer | undefined) {
    this.#next = next;
  }

  enter(thread: Thread, number: number, a: Arguments): void {
    this.#began.set(thread.tid, performance.now());
    this.#next?.enter(thread, number, a);
  }

  leave(thread: Thread, number: number, a: Arguments, result: number): void {
    const count = this.#counts.get(number) ?? { calls: 0, milliseconds: 0 };
    count.calls += 1;
    count.milliseconds += performance.now() - (this.#began.get(thread.tid) ?? performance.now());
    this.#counts.set(number, count);
    this.#next?.leave(thread, number, a, result);
  }

  interrupted(thread: Thread, number: number, restarts: boolean): void {
    this.#next?.interrupted(thread, number, restarts);
  }

  signal(...event: Parameters<Tracer["signal"]>): void {
    this.#next?.signal(...event);
  }

  report(kernel: LinuxKernel): string {
    const { scheduler } = kernel;
    const seconds = (performance.now() - this.#start) / 1000;
    const busy = scheduler.nanoseconds / 1e9;
    const mips = busy === 0 ? 0 : scheduler.instructions / busy / 1e6;
    const calls = [...this.#counts.values()].reduce((sum, { calls: each }) => sum + each, 0);
    const lines = [
      `${scheduler.instructions} instructions in ${seconds.toFixed(3)} s (${busy.toFixed(3)} s running, ${mips.toFixed(1)} MIPS)`,
      `${calls} system calls, ${kernel.forks} forks and threads, ${kernel.faults} page faults, ${scheduler.switches} slices`,
    ];
    const ranked = [...this.#counts].sort(([, left], [, right]) => right.milliseconds - left.milliseconds);
    for (const [number, count] of ranked.slice(0, 20)) {
      lines.push(
        `  ${callName(number).padEnd(20)} ${String(count.calls).padStart(8)} calls ${count.milliseconds.toFixed(1).padStart(10)} ms`,
      );
    }
    return `${lines.join("\n")}\n`;
  }
}
