/** A thread: a processor's state, and what it waits for. Its name in types.ts is `Task`. */

import { CPU_SIZE } from "./abi.ts";
import type { FutexKey } from "./futex.ts";
import type { Maps } from "./memory/maps.ts";
import { MappedMemory } from "./memory/user.ts";
import type { ThreadGroup } from "./process.ts";
import { Registers } from "./registers.ts";
import { UNBLOCKABLE } from "./signals/numbers.ts";
import { PendingSignals } from "./signals/pending.ts";
import type { Arguments, Restart, SystemCalls, Task } from "./types.ts";
import { type Waiter, WaitQueue } from "./wait.ts";

export type ThreadState = "runnable" | "parked" | "stopped" | "dead";

/** A system call that sets the registers itself (execve, rt_sigreturn, exit) returns this. */
export const NO_RESULT = -Infinity;

export interface AlternateStack {
  address: number;
  size: number;
  flags: number;
}

export class Thread implements Task, Waiter {
  tid: number;
  process: ThreadGroup;
  maps: Maps;
  memory: MappedMemory;
  /** The processor; current only while it is not loaded into the core. */
  readonly cpu = new Uint8Array(CPU_SIZE);
  state: ThreadState = "runnable";
  /** comm: at most 15 bytes. */
  name = "";
  restart: Restart | undefined;
  /** Number of the system call that will be made again; -1: none. `rip` is on its SYSCALL instruction then. */
  call = -1;
  /** Blocked signals. */
  mask = 0n;
  /** The mask that comes back when the call that changed it ends. */
  savedMask: bigint | undefined;
  readonly pending = new PendingSignals();
  /** What the processor said at its last fault: vector, error code, and the address if it was a page fault. */
  readonly fault = { trap: 0, error: 0, address: 0n };
  alternateStack: AlternateStack = { address: 0, size: 0, flags: 2 };
  /** Written with 0 and woken as a futex when the thread ends; 0: nothing. */
  clearChildTid = 0;
  robustList = 0;
  /** Queue of its own: for futexes and for sleeping. */
  readonly queue = new WaitQueue();
  /** While it waits for a futex. */
  futex: { key: FutexKey; bitset: number } | undefined;
  waitingOn: readonly WaitQueue[] = [];
  interruptible = true;
  /** Which of its waits this is, so that old timers don't end it. */
  wait = 0;
  /** SCHED_* and the real-time priority. */
  policy = 0;
  priority = 0;
  resetOnFork = false;
  /** Nanoseconds it has run. */
  cpuTime = 0;
  startTime = 0;

  constructor(tid: number, process: ThreadGroup, maps: Maps) {
    this.tid = tid;
    this.process = process;
    this.maps = maps;
    this.memory = new MappedMemory(maps);
    maps.enter();
  }

  /** After execve. The old address space is left. */
  replaceMaps(maps: Maps): void {
    maps.enter();
    const old = this.maps;
    if (old.space.loaded === this) old.space.loaded = undefined;
    this.maps = maps;
    this.memory = new MappedMemory(maps);
    old.leave();
  }

  /** Its registers, wherever they are now. */
  get registers(): Registers {
    const { space } = this.maps;
    if (space.loaded === this) return space.registers;
    return new Registers(new DataView(this.cpu.buffer), 0);
  }

  /** Signals that would be delivered now. */
  get deliverable(): bigint {
    return (this.pending.set | this.process.pending.set) & ~this.mask;
  }

  get signalPending(): boolean {
    const { set } = this.pending;
    const shared = this.process.pending.set;
    if (set === 0n && shared === 0n) return false;
    return ((set | shared) & ~this.mask) !== 0n;
  }

  temporaryMask(mask: bigint): void {
    if (this.savedMask !== undefined) return;
    this.savedMask = this.mask;
    this.mask = mask & ~UNBLOCKABLE;
  }

  woken(): void {
    this.process.kernel.scheduler.wake(this);
  }
}

/** System calls that know the whole of `Thread`: the kernel makes every task, so every task is one. */
export function ofThreads(calls: Record<string, (thread: Thread, a: Arguments) => number>): SystemCalls {
  return calls as unknown as SystemCalls;
}
