/** Delivering signals to the thread that is about to run. */

import { SYSCALL_LENGTH } from "../calls.ts";
import { E } from "../errno.ts";
import { exitProcess, stopProcess } from "../exit.ts";
import { RAX } from "../registers.ts";
import { callName } from "../syscalls/numbers.ts";
import type { Thread } from "../task.ts";
import { pushFrame } from "./frame.ts";
import {
  bit,
  defaultAction,
  SA_NODEFER,
  SA_RESETHAND,
  SA_RESTART,
  SIG_DFL,
  SIG_IGN,
  SIGKILL,
  SIGSTOP,
  UNBLOCKABLE,
} from "./numbers.ts";
import type { Action, SignalInfo } from "./pending.ts";

/** Calls that a handler always interrupts, whatever SA_RESTART says (signal(7)). */
const NEVER_RESTARTED = new Set([
  "pause",
  "rt_sigsuspend",
  "rt_sigtimedwait",
  "nanosleep",
  "clock_nanosleep",
  "poll",
  "ppoll",
  "select",
  "pselect6",
  "epoll_wait",
  "epoll_pwait",
  "epoll_pwait2",
  "semop",
  "semtimedop",
  "msgrcv",
  "msgsnd",
  "io_getevents",
]);

function takeSignal(thread: Thread): SignalInfo | undefined {
  return thread.pending.take(~thread.mask) ?? thread.process.pending.take(~thread.mask);
}

/** The call that the thread was parked in is over, or will be made again after the handler. */
function interruptCall(thread: Thread, action: Action): void {
  if (thread.call < 0) return;
  const { registers, process } = thread;
  const number = thread.call;
  const name = callName(number);
  const timedFutex = name === "futex" && thread.restart?.deadline !== undefined;
  const restarts = (action.flags & SA_RESTART) !== 0 && !NEVER_RESTARTED.has(name) && !timedFutex;
  // What has moved some bytes ends with what it has.
  const done = thread.restart?.done ?? 0;
  thread.call = -1;
  thread.restart = undefined;
  process.kernel.futexes.forget(thread);
  if (!restarts || done > 0) {
    registers.rip += SYSCALL_LENGTH;
    registers.set(RAX, done > 0 ? done : -E.INTR);
  }
  process.kernel.tracer?.interrupted(thread, number, restarts && done === 0);
}

/** Delivers what is pending. False: the thread can't run now (ended or stopped). */
export function attend(thread: Thread): boolean {
  const { process } = thread;
  while (thread.signalPending) {
    const info = takeSignal(thread);
    if (info === undefined) break;
    const { signal } = info;
    const action = process.action(signal);
    process.kernel.tracer?.signal(thread, info);
    if (signal !== SIGKILL && signal !== SIGSTOP && action.handler === SIG_IGN) continue;
    if (action.handler !== SIG_DFL && signal !== SIGKILL && signal !== SIGSTOP) {
      runHandler(thread, info, action);
      continue;
    }
    const what = defaultAction(signal);
    if (what === "ignore") continue;
    // The machine's first process blocked it when it came.
    if (process.pid === 1 && info.forced !== true) continue;
    if (what === "stop") {
      // Nobody could continue an orphaned group: the terminal's stop signals do nothing there.
      if (signal !== SIGSTOP && process.kernel.groupIsOrphaned(process.pgid)) continue;
      stopProcess(process, signal);
      thread.state = "stopped";
      return false;
    }
    exitProcess(process, signal);
    return false;
  }
  if (thread.call < 0 && thread.savedMask !== undefined && thread.restart === undefined) {
    thread.mask = thread.savedMask;
    thread.savedMask = undefined;
  }
  return thread.state === "runnable";
}

function runHandler(thread: Thread, info: SignalInfo, action: Action): void {
  interruptCall(thread, action);
  const handler = { ...action };
  if ((action.flags & SA_RESETHAND) !== 0) action.handler = SIG_DFL;
  const before = thread.savedMask ?? thread.mask;
  thread.savedMask = undefined;
  if (!pushFrame(thread, info, handler, before)) return;
  let mask = thread.mask | handler.mask;
  if ((handler.flags & SA_NODEFER) === 0) mask |= bit(info.signal);
  thread.mask = mask & ~UNBLOCKABLE;
}
