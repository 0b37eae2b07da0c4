/** How threads and processes end, and who is told. */

import { exitFutexes } from "./futex.ts";
import { addUsage, type ThreadGroup } from "./process.ts";
import type { Thread } from "./task.ts";
import {
  CLD_DUMPED,
  CLD_EXITED,
  CLD_KILLED,
  CLD_STOPPED,
  SA_NOCLDSTOP,
  SA_NOCLDWAIT,
  SI_USER,
  SIG_IGN,
  SIGCHLD,
  SIGCONT,
  SIGHUP,
} from "./signals/numbers.ts";
import { sendToProcess } from "./signals/send.ts";

/** Nanoseconds of a clock tick (USER_HZ 100). */
export const TICK = 10_000_000;

/** SIGCHLD, and whoever waits tries again. */
export function notifyParent(process: ThreadGroup, code: number, status: number): void {
  const { parent } = process;
  if (parent === undefined) return;
  const ended = code === CLD_EXITED || code === CLD_KILLED || code === CLD_DUMPED;
  const action = parent.action(SIGCHLD);
  const signal = ended ? process.exitSignal : SIGCHLD;
  if (signal > 0 && (ended || (action.flags & SA_NOCLDSTOP) === 0)) {
    sendToProcess(parent, {
      signal,
      code,
      pid: process.pid,
      uid: process.credentials.uid,
      status,
      utime: Math.floor(process.usage.user / TICK),
      stime: Math.floor(process.usage.system / TICK),
    });
  }
  parent.childQueue.wake();
}

/** A thread ends; the last one takes the process with it. `status` as wait tells it. */
export function exitThread(thread: Thread, status: number): void {
  const { process } = thread;
  const { kernel } = process;
  if (thread.state === "dead") return;
  const usage = thread.maps.peakBytes / 1024;
  process.usage.peakMemory = Math.max(process.usage.peakMemory, usage);
  exitFutexes(thread);
  kernel.scheduler.remove(thread);
  if (thread.maps.space.loaded === thread) thread.maps.space.loaded = undefined;
  kernel.threads.delete(thread.tid);
  process.lastName = thread.name;
  const last = process.threads.length === 1;
  if (last) releaseVfork(process);
  thread.maps.leave();
  process.threads.splice(process.threads.indexOf(thread), 1);
  if (last) endProcess(process, process.exitStatus ?? status);
}

/** All threads end, with that wait status. */
export function exitProcess(process: ThreadGroup, status: number): void {
  process.exitStatus ??= status;
  for (const thread of [...process.threads]) exitThread(thread, status);
}

/** The parent that vfork keeps waiting goes on. */
export function releaseVfork(process: ThreadGroup): void {
  if (process.vforkDone) return;
  process.vforkDone = true;
  process.vforkQueue.wake();
}

function endProcess(process: ThreadGroup, status: number): void {
  const { kernel, session } = process;
  process.exitStatus = status;
  process.zombie = true;
  process.intervalTimers.fill(undefined);
  process.posixTimers.clear();
  kernel.ipc.undo(process.semaphoreUndo);
  kernel.closeFiles(process);
  const wereChildren = [...process.children];
  const groups = new Set([...wereChildren.map((child) => child.pgid), process.pgid]);
  const orphanedBefore = new Map([...groups].map((group) => [group, kernel.groupIsOrphaned(group, process)]));
  giveChildrenAway(process);
  for (const group of groups) {
    if (orphanedBefore.get(group) === true || !kernel.groupIsOrphaned(group, process)) continue;
    const members = [...kernel.group(group)];
    if (!members.some((member) => member.stopSignal !== 0)) continue;
    for (const member of members) {
      sendToProcess(member, { signal: SIGHUP, code: SI_USER });
      sendToProcess(member, { signal: SIGCONT, code: SI_USER });
    }
  }
  if (process.pid === session.sid) {
    session.terminal?.sessionEnded(session);
    session.terminal = undefined;
  }
  process.endQueue.wake();
  const { parent } = process;
  const signal = status & 0x7f;
  const code = signal === 0 ? CLD_EXITED : (status & 0x80) !== 0 ? CLD_DUMPED : CLD_KILLED;
  const action = parent?.action(SIGCHLD);
  const unwanted =
    parent === undefined ||
    (process.exitSignal === SIGCHLD && (action!.handler === SIG_IGN || (action!.flags & SA_NOCLDWAIT) !== 0));
  if (parent !== undefined) notifyParent(process, code, signal === 0 ? status >>> 8 : signal);
  kernel.processEnded(process);
  if (unwanted) reap(process);
}

function giveChildrenAway(process: ThreadGroup): void {
  const { kernel } = process;
  let heir = process.parent;
  while (heir !== undefined && !(heir.childSubreaper && !heir.zombie)) heir = heir.parent;
  if (heir === undefined) {
    const first = kernel.process(1);
    heir = first === process || first?.zombie === true ? undefined : first;
  }
  for (const child of process.children) {
    child.parent = heir;
    heir?.children.add(child);
    child.exitSignal = SIGCHLD;
    if (child.parentDeathSignal !== 0 && !child.zombie) {
      sendToProcess(child, { signal: child.parentDeathSignal, code: SI_USER, pid: process.pid });
    }
    if (!child.zombie) continue;
    if (heir === undefined) reap(child);
    else notifyParent(child, CLD_EXITED, (child.exitStatus ?? 0) >>> 8);
  }
  process.children.clear();
}

/** Its status has been told: nothing of it remains. */
export function reap(process: ThreadGroup): void {
  const { parent, kernel } = process;
  if (parent !== undefined) {
    parent.children.delete(process);
    addUsage(parent.childrenUsage, process.usage);
    addUsage(parent.childrenUsage, process.childrenUsage);
  }
  kernel.forget(process);
}

export function stopProcess(process: ThreadGroup, signal: number): void {
  if (process.stopSignal !== 0) return;
  process.stopSignal = signal;
  process.stopReport = signal;
  process.continueReport = false;
  notifyParent(process, CLD_STOPPED, signal);
}
