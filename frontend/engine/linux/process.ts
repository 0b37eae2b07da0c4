/** A process (thread group): what its threads share. */

import type { LinuxKernel } from "./kernel.ts";
import type { Undo } from "./ipc.ts";
import type { Limit } from "./limits.ts";
import type { Action } from "./signals/pending.ts";
import { PendingSignals } from "./signals/pending.ts";
import { SIG_DFL, SIG_IGN, SIGNALS } from "./signals/numbers.ts";
import type { Thread } from "./task.ts";
import type { IntervalTimer, PosixTimer } from "./timers.ts";
import type { Credentials, FileSystemContext, FileTable, Process, Session } from "./types.ts";
import { WaitQueue } from "./wait.ts";

/** Times in nanoseconds, memory in KiB. */
export interface Usage {
  user: number;
  system: number;
  peakMemory: number;
  minorFaults: number;
  voluntarySwitches: number;
  involuntarySwitches: number;
}

export function noUsage(): Usage {
  return { user: 0, system: 0, peakMemory: 0, minorFaults: 0, voluntarySwitches: 0, involuntarySwitches: 0 };
}

export function addUsage(sum: Usage, more: Usage): void {
  sum.user += more.user;
  sum.system += more.system;
  sum.peakMemory = Math.max(sum.peakMemory, more.peakMemory);
  sum.minorFaults += more.minorFaults;
  sum.voluntarySwitches += more.voluntarySwitches;
  sum.involuntarySwitches += more.involuntarySwitches;
}

export class ThreadGroup implements Process {
  readonly pid: number;
  parent: ThreadGroup | undefined;
  readonly kernel: LinuxKernel;
  readonly children = new Set<ThreadGroup>();
  readonly threads: Thread[] = [];
  pgid: number;
  session: Session;
  files: FileTable;
  fs: FileSystemContext;
  credentials: Credentials;
  limits: Limit[];
  /** Signals for any of its threads. */
  readonly pending = new PendingSignals();
  readonly actions: Action[];
  /** Woken when a child of it ends, stops or continues. */
  readonly childQueue = new WaitQueue();
  /** Woken when it has called execve or ended: whom vfork keeps waiting. */
  readonly vforkQueue = new WaitQueue();
  vforkDone = false;
  /** Whoever waits for its end (pidfd). */
  readonly endQueue = new WaitQueue();
  /** Woken when a signal has become pending (signalfd). */
  readonly signalQueue = new WaitQueue();
  /** Signal that stopped it; 0: it runs. */
  stopSignal = 0;
  /** What wait has still to tell of: a stop (signal), or that it continued. */
  stopReport = 0;
  continueReport = false;
  /** Wait status once it has ended. */
  exitStatus: number | undefined;
  zombie = false;
  /** The signal that its parent gets. */
  exitSignal: number;
  /** It has called execve since fork: setpgid of its parent is refused then. */
  hasExecuted = false;
  childSubreaper = false;
  dumpable = 1;
  noNewPrivileges = false;
  parentDeathSignal = 0;
  nice = 0;
  /** Of ioprio_set: class and level; 0: none. */
  ioPriority = 0;
  /** Seconds of CPU time at which SIGXCPU comes next. */
  cpuWarning = 0;
  personality = 0;
  timerSlack = 50000;
  readonly usage: Usage = noUsage();
  readonly childrenUsage: Usage = noUsage();
  readonly startTime: number;
  /** ITIMER_REAL, VIRTUAL, PROF. */
  readonly intervalTimers: (IntervalTimer | undefined)[] = [undefined, undefined, undefined];
  readonly posixTimers = new Map<number, PosixTimer>();
  nextPosixTimer = 0;
  /** SEM_UNDO: what is given back when it ends. */
  semaphoreUndo: Undo = new Map();

  constructor(
    kernel: LinuxKernel,
    pid: number,
    parent: ThreadGroup | undefined,
    shared: {
      pgid: number;
      session: Session;
      files: FileTable;
      fs: FileSystemContext;
      credentials: Credentials;
      limits: Limit[];
      actions: Action[];
      exitSignal: number;
    },
  ) {
    this.kernel = kernel;
    this.pid = pid;
    this.parent = parent;
    this.pgid = shared.pgid;
    this.session = shared.session;
    this.files = shared.files;
    this.fs = shared.fs;
    this.credentials = shared.credentials;
    this.limits = shared.limits;
    this.actions = shared.actions;
    this.exitSignal = shared.exitSignal;
    this.startTime = kernel.monotonic();
  }

  get sid(): number {
    return this.session.sid;
  }

  set sid(value: number) {
    this.session = this.kernel.session(value);
  }

  /** The thread that stands for the process; the first one unless it has ended. */
  get leader(): Thread | undefined {
    return this.threads[0];
  }

  /** Its command's name (comm), at most 15 bytes. */
  get name(): string {
    return this.threads[0]?.name ?? this.lastName;
  }

  lastName = "";

  limit(resource: number): number {
    return this.limits[resource]?.soft ?? Infinity;
  }

  /** What to do on that signal; `signal` 1 to 64. */
  action(signal: number): Action {
    return this.actions[signal]!;
  }
}

export function defaultActions(): Action[] {
  return Array.from({ length: SIGNALS + 1 }, () => ({ handler: SIG_DFL, flags: 0, restorer: 0, mask: 0n }));
}

/** For fork. */
export function copyActions(actions: readonly Action[]): Action[] {
  return actions.map((action) => ({ ...action }));
}

/** For execve: handlers are gone, what is ignored stays so. */
export function resetActions(actions: Action[]): void {
  actions.forEach((action, signal) => {
    actions[signal] = {
      handler: action.handler === SIG_IGN ? SIG_IGN : SIG_DFL,
      flags: 0,
      restorer: 0,
      mask: 0n,
    };
  });
}
