/** Who runs: a queue of runnable threads, slices, parking and waking. */

import { EXIT_BUDGET, EXIT_SYSCALL } from "./abi.ts";
import { attemptCall } from "./calls.ts";
import { handleExit } from "./faults.ts";
import type { LinuxKernel } from "./kernel.ts";
import { LoadAverages } from "./load.ts";
import type { AddressSpace } from "./memory/space.ts";
import type { Paging } from "./memory/paging.ts";
import { attend } from "./signals/deliver.ts";
import type { ThreadGroup } from "./process.ts";
import { RLIMIT_CPU } from "./limits.ts";
import { SI_KERNEL, SIGKILL, SIGXCPU } from "./signals/numbers.ts";
import { mustDie, sendToProcess } from "./signals/send.ts";
import type { Thread } from "./task.ts";
import type { Block } from "./wait.ts";

/** Instructions of a slice, and what a system call counts as. */
const SLICE = 1_000_000;
const CALL_COST = 1_000;

export class Scheduler {
  static readonly transient = { current: () => undefined };
  private readonly kernel: LinuxKernel;
  private readonly queue: Thread[] = [];
  /** The paging of the space that ran last: its shared pages are current. */
  private current: Paging | undefined;
  /** Statistics. */
  instructions = 0;
  nanoseconds = 0;
  switches = 0;
  readonly load = new LoadAverages();
  /** The running thread gives the rest of its slice away. */
  yields = false;
  private sliceBegan: number | undefined;

  constructor(kernel: LinuxKernel) {
    this.kernel = kernel;
  }

  /** Nanoseconds that the running thread has used of its slice; not yet in its CPU time. */
  get sliceTime(): number {
    return this.sliceBegan === undefined ? 0 : this.kernel.monotonic() - this.sliceBegan;
  }

  get runnable(): boolean {
    return this.queue.length > 0;
  }

  /** A thread that has just been made. */
  add(thread: Thread): void {
    thread.state = "runnable";
    this.queue.push(thread);
  }

  /** Makes a parked thread try again. */
  wake(thread: Thread): void {
    if (thread.state !== "parked") return;
    for (const queue of thread.waitingOn) queue.remove(thread);
    thread.waitingOn = [];
    thread.wait += 1;
    this.add(thread);
  }

  /** Lets a stopped process run on. */
  resume(threads: Iterable<Thread>): void {
    for (const thread of threads) if (thread.state === "stopped") this.add(thread);
  }

  park(thread: Thread, block: Block): void {
    thread.state = "parked";
    thread.interruptible = block.interruptible;
    thread.waitingOn = block.queues;
    for (const queue of block.queues) queue.add(thread);
    if (block.deadline !== Infinity) {
      this.kernel.timers.add({ time: block.deadline, tid: thread.tid, wait: thread.wait });
    }
    thread.process.usage.voluntarySwitches += 1;
  }

  /** Takes a thread out for good. */
  remove(thread: Thread): void {
    for (const queue of thread.waitingOn) queue.remove(thread);
    thread.waitingOn = [];
    thread.state = "dead";
    const at = this.queue.indexOf(thread);
    if (at >= 0) this.queue.splice(at, 1);
  }

  /** Runs the next thread for a slice. False: nobody can run. */
  runNext(): boolean {
    const thread = this.queue.shift();
    if (thread === undefined) return false;
    if (thread.process.stopSignal !== 0 && !mustDie(thread)) {
      thread.state = "stopped";
      return true;
    }
    const began = this.kernel.monotonic();
    this.sliceBegan = began;
    this.run(thread);
    this.sliceBegan = undefined;
    const elapsed = this.kernel.monotonic() - began;
    thread.cpuTime += elapsed;
    thread.process.usage.user += elapsed;
    this.nanoseconds += elapsed;
    this.load.count(elapsed, this.queue.length + 1, began + elapsed);
    limitCpuTime(thread.process);
    this.switches += 1;
    if (thread.state === "runnable") {
      if (this.queue.length > 0) thread.process.usage.involuntarySwitches += 1;
      this.queue.push(thread);
    }
    return true;
  }

  /** Makes that address space the one whose shared memory is current. */
  enter(thread: Thread): AddressSpace {
    const { paging, space } = thread.maps;
    if (this.current !== paging) {
      if (this.current?.sharesPages === true) this.current.writeBack();
      this.current = paging;
      if (paging.sharesPages) paging.refresh();
    }
    space.load(thread);
    return space;
  }

  private run(thread: Thread): void {
    let budget = SLICE;
    let space = this.enter(thread);
    while (budget > 0) {
      // A call that was parked is made again before signals are looked at: it may have what it waited for.
      if (thread.call >= 0) {
        if (!attemptCall(thread)) return;
        budget -= CALL_COST;
        if (thread.maps.space === space) space.load(thread);
        else space = this.enter(thread);
        continue;
      }
      if (!attend(thread)) return;
      const before = space.instructions();
      const reason = thread.maps.paging.run(budget);
      const ran = (space.instructions() - before) >>> 0;
      budget -= ran;
      this.instructions += ran;
      if (reason === EXIT_SYSCALL) {
        budget -= CALL_COST;
        if (!attemptCall(thread)) return;
        if (thread.maps.space === space) space.load(thread);
        else space = this.enter(thread);
        if (this.yields) {
          this.yields = false;
          return;
        }
      } else if (reason !== EXIT_BUDGET) {
        if (!handleExit(thread, reason)) return;
      }
    }
  }
}

/** RLIMIT_CPU: SIGXCPU each second beyond the soft limit, SIGKILL at the hard one. */
function limitCpuTime(process: ThreadGroup): void {
  const { soft, hard } = process.limits[RLIMIT_CPU]!;
  if (soft === Infinity && hard === Infinity) return;
  const seconds = process.usage.user / 1e9;
  if (seconds >= hard) sendToProcess(process, { signal: SIGKILL, code: SI_KERNEL });
  else if (seconds >= Math.max(soft, process.cpuWarning)) {
    process.cpuWarning = seconds + 1;
    sendToProcess(process, { signal: SIGXCPU, code: SI_KERNEL });
  }
}
