/** Sending signals: what is dropped, who is woken, and stopping and continuing. */

import { GUEST_END } from "../abi.ts";
import { notifyParent } from "../exit.ts";
import type { ThreadGroup } from "../process.ts";
import { RIP, RSP } from "../registers.ts";
import type { Thread } from "../task.ts";
import {
  bit,
  CLD_CONTINUED,
  defaultAction,
  SIG_DFL,
  SIG_IGN,
  SIGCONT,
  SIGKILL,
  SIGSEGV,
  SIGSTOP,
  STOP_SIGNALS,
} from "./numbers.ts";
import type { SignalInfo } from "./pending.ts";

/** Whether the process does nothing on it. */
export function isIgnored(process: ThreadGroup, signal: number): boolean {
  if (signal === SIGKILL || signal === SIGSTOP) return false;
  const { handler } = process.action(signal);
  if (handler === SIG_IGN) return true;
  return handler === SIG_DFL && defaultAction(signal) === "ignore";
}

/** SIGKILL is on its way: not even a wait that signals don't interrupt goes on. */
export function mustDie(thread: Thread): boolean {
  return ((thread.pending.set | thread.process.pending.set) & bit(SIGKILL)) !== 0n;
}

/** The machine's first process gets only what it handles, or blocks and so waits for. */
function isProtected(process: ThreadGroup, signal: number): boolean {
  return process.pid === 1 && process.action(signal).handler === SIG_DFL;
}

function isDropped(process: ThreadGroup, signal: number, blocked: boolean): boolean {
  return !blocked && (isProtected(process, signal) || isIgnored(process, signal));
}

export function continueProcess(process: ThreadGroup): void {
  if (process.stopSignal === 0) return;
  process.stopSignal = 0;
  process.stopReport = 0;
  process.continueReport = true;
  process.kernel.scheduler.resume(process.threads);
  notifyParent(process, CLD_CONTINUED, SIGCONT);
}

function prepare(process: ThreadGroup, signal: number): void {
  if (signal === SIGCONT) {
    process.pending.discard(STOP_SIGNALS);
    for (const thread of process.threads) thread.pending.discard(STOP_SIGNALS);
    continueProcess(process);
  } else if ((bit(signal) & STOP_SIGNALS) !== 0n) {
    process.pending.discard(bit(SIGCONT));
    for (const thread of process.threads) thread.pending.discard(bit(SIGCONT));
  }
}

function wakeFor(thread: Thread, signal: number): void {
  const { scheduler } = thread.process.kernel;
  if (signal === SIGKILL) {
    if (thread.state === "stopped") scheduler.resume([thread]);
    else scheduler.wake(thread);
  } else if (thread.interruptible) {
    scheduler.wake(thread);
  }
}

/** To any thread of the process that does not block it. Signal 0 only asks whether the process is there. */
export function sendToProcess(process: ThreadGroup, info: SignalInfo): void {
  const { signal } = info;
  if (signal === 0 || process.threads.length === 0) return;
  prepare(process, signal);
  const willing = process.threads.find((thread) => (thread.mask & bit(signal)) === 0n);
  const leader = process.threads[0]!;
  const blocked = (leader.mask & bit(signal)) !== 0n;
  if (isDropped(process, signal, blocked)) return;
  if (!process.pending.add(info)) return;
  process.signalQueue.wake();
  if (willing !== undefined) wakeFor(willing, signal);
  if (signal === SIGKILL) for (const thread of process.threads) wakeFor(thread, signal);
}

export function sendToThread(thread: Thread, info: SignalInfo): void {
  const { signal } = info;
  const { process } = thread;
  if (signal === 0 || thread.state === "dead") return;
  prepare(process, signal);
  const blocked = (thread.mask & bit(signal)) !== 0n;
  if (isDropped(process, signal, blocked)) return;
  if (!thread.pending.add(info)) return;
  process.signalQueue.wake();
  if (!blocked) wakeFor(thread, signal);
}

/** A fault of the thread itself: blocking or ignoring it does not help. */
export function forceSignal(thread: Thread, info: SignalInfo): void {
  const { process } = thread;
  const action = process.action(info.signal);
  const blocked = (thread.mask & bit(info.signal)) !== 0n;
  if (blocked || action.handler === SIG_IGN) action.handler = SIG_DFL;
  thread.mask &= ~bit(info.signal);
  if (action.handler === SIG_DFL && info.signal === SIGSEGV) describeFault(thread, info);
  thread.pending.add({ ...info, forced: true });
}

function describeFault(thread: Thread, info: SignalInfo): void {
  const { registers, maps, process } = thread;
  const { rip } = registers;
  const area = rip < GUEST_END ? maps.areas.find(rip) : undefined;
  const where =
    area === undefined || area.name === ""
      ? ""
      : ` in ${area.name.slice(area.name.lastIndexOf("/") + 1)}[${area.start.toString(16)}+${(area.end - area.start).toString(16)}]`;
  process.kernel.log(
    `${thread.name}[${process.pid}]: segfault at ${(info.address ?? 0n).toString(16)} ip ${registers.getBig(RIP).toString(16).padStart(16, "0")} ` +
      `sp ${registers.get(RSP).toString(16).padStart(16, "0")} error ${thread.fault.error.toString(16)}${where}`,
  );
}
