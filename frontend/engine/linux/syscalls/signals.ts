/** Signals: actions, masks, waiting for them, sending them. */

import { E, Errno } from "../errno.ts";
import type { ThreadGroup } from "../process.ts";
import { RSP } from "../registers.ts";
import { onAlternateStack, popFrame } from "../signals/frame.ts";
import {
  bit,
  SI_TKILL,
  SI_USER,
  SIGCONT,
  SIGKILL,
  SIGNALS,
  SIGSTOP,
  SS_AUTODISARM,
  SS_DISABLE,
  SS_ONSTACK,
  UNBLOCKABLE,
} from "../signals/numbers.ts";
import { decodeInfo, encodeInfo, type SignalInfo } from "../signals/pending.ts";
import { isIgnored, sendToProcess, sendToThread } from "../signals/send.ts";
import { NO_RESULT, ofThreads, type Thread } from "../task.ts";
import { Block } from "../wait.ts";
import { readTimespec } from "./clocks.ts";

const SIGSET_SIZE = 8;
const SIG_BLOCK = 0;
const SIG_UNBLOCK = 1;
const SIG_SETMASK = 2;
const MINSIGSTKSZ = 2048;

function checkSetSize(size: number): void {
  if (size !== SIGSET_SIZE) throw new Errno(E.INVAL);
}

function checkSignal(signal: number, from = 0): number {
  if (signal < from || signal > SIGNALS) throw new Errno(E.INVAL);
  return signal;
}

function setAction(thread: Thread, signal: number, from: number, old: number): number {
  const { memory, process } = thread;
  checkSignal(signal, 1);
  if (from !== 0 && (signal === SIGKILL || signal === SIGSTOP)) throw new Errno(E.INVAL);
  const now = process.action(signal);
  const next =
    from === 0
      ? undefined
      : {
          handler: memory.getI64(from),
          flags: memory.getU32(from + 8),
          restorer: memory.getI64(from + 16),
          mask: memory.getBig(from + 24) & ~UNBLOCKABLE,
        };
  if (old !== 0) {
    memory.writable(old, 32);
    memory.setI64(old, now.handler);
    memory.setI64(old + 8, now.flags);
    memory.setI64(old + 16, now.restorer);
    memory.setBig(old + 24, now.mask);
  }
  if (next === undefined) return 0;
  Object.assign(now, next);
  if (isIgnored(process, signal)) {
    process.pending.discard(bit(signal));
    for (const each of process.threads) each.pending.discard(bit(signal));
  }
  return 0;
}

/** Whether the caller may signal the other (kill(2)). */
function maySignal(thread: Thread, target: ThreadGroup, signal: number): boolean {
  const own = thread.process.credentials;
  const its = target.credentials;
  if (own.euid === 0) return true;
  if (signal === SIGCONT && target.session === thread.process.session) return true;
  return [own.uid, own.euid].some((uid) => uid === its.uid || uid === its.suid);
}

function fromUser(thread: Thread, signal: number, code: number): SignalInfo {
  return { signal, code, pid: thread.process.pid, uid: thread.process.credentials.uid };
}

function send(thread: Thread, target: ThreadGroup, info: SignalInfo): void {
  if (!maySignal(thread, target, info.signal)) throw new Errno(E.PERM);
  sendToProcess(target, info);
}

function kill(thread: Thread, pid: number, signal: number): number {
  const { process } = thread;
  const { kernel } = process;
  checkSignal(signal);
  const info = fromUser(thread, signal, SI_USER);
  if (pid > 0) {
    const target = kernel.process(pid) ?? kernel.threads.get(pid)?.process;
    if (target === undefined) throw new Errno(E.SRCH);
    send(thread, target, info);
    return 0;
  }
  const everybody = [...kernel.processes()].filter((other) => other.pid !== 1 && other !== process);
  const group = pid === 0 ? process.pgid : -pid;
  const targets = pid === -1 ? everybody : [...kernel.group(group)];
  if (targets.length === 0) throw new Errno(E.SRCH);
  const allowed = targets.filter((target) => maySignal(thread, target, signal));
  if (allowed.length === 0) throw new Errno(E.PERM);
  for (const target of allowed) sendToProcess(target, info);
  return 0;
}

function threadBy(thread: Thread, tgid: number | undefined, tid: number): Thread {
  if (tid <= 0 || (tgid !== undefined && tgid <= 0)) throw new Errno(E.INVAL);
  const target = thread.process.kernel.threads.get(tid);
  if (target === undefined || (tgid !== undefined && target.process.pid !== tgid)) throw new Errno(E.SRCH);
  return target;
}

function killThread(thread: Thread, tgid: number | undefined, tid: number, info: SignalInfo): number {
  checkSignal(info.signal);
  const target = threadBy(thread, tgid, tid);
  if (!maySignal(thread, target.process, info.signal)) throw new Errno(E.PERM);
  sendToThread(target, info);
  return 0;
}

function queuedInfo(thread: Thread, address: number, signal: number, toSelf: boolean): SignalInfo {
  const info = decodeInfo(thread.memory.readable(address, 128).slice());
  // Only to itself may a process pretend that the kernel or kill sent it.
  if ((info.code >= 0 || info.code === SI_TKILL) && !toSelf) throw new Errno(E.PERM);
  return { ...info, signal: checkSignal(signal) };
}

function timedWait(thread: Thread, a: readonly number[]): number {
  checkSetSize(a[3]!);
  const wanted = thread.memory.getBig(a[0]!) & ~UNBLOCKABLE;
  const take = (): SignalInfo | undefined =>
    thread.pending.take(wanted) ?? thread.process.pending.take(wanted);
  if (a[1] !== 0) thread.memory.writable(a[1]!, 128);
  const info = take();
  if (info !== undefined) {
    if (a[1] !== 0) thread.memory.writable(a[1]!, 128).set(encodeInfo(info));
    return info.signal;
  }
  const { kernel } = thread.process;
  let deadline = thread.restart?.deadline ?? Infinity;
  if (thread.restart === undefined && a[2] !== 0) {
    deadline = kernel.monotonic() + readTimespec(thread, a[2]!);
  }
  if (kernel.monotonic() >= deadline) throw new Errno(E.AGAIN);
  thread.restart = { deadline };
  throw new Block([thread.process.signalQueue], deadline);
}

function setStack(thread: Thread, from: number, old: number): number {
  const { memory, alternateStack } = thread;
  const onIt = onAlternateStack(thread, thread.registers.get(RSP));
  const next =
    from === 0
      ? undefined
      : { address: memory.getI64(from), flags: memory.getU32(from + 8), size: memory.getI64(from + 16) };
  if (old !== 0) {
    memory.setI64(old, alternateStack.address);
    memory.setI64(old + 8, (alternateStack.flags | (onIt ? SS_ONSTACK : 0)) >>> 0);
    memory.setI64(old + 16, alternateStack.size);
  }
  if (next === undefined) return 0;
  if (onIt) throw new Errno(E.PERM);
  const mode = (next.flags & ~SS_AUTODISARM) >>> 0;
  if (mode !== 0 && mode !== SS_DISABLE && mode !== SS_ONSTACK) throw new Errno(E.INVAL);
  if (mode === SS_DISABLE) {
    thread.alternateStack = { address: 0, size: 0, flags: SS_DISABLE };
    return 0;
  }
  if (next.size < MINSIGSTKSZ) throw new Errno(E.NOMEM);
  thread.alternateStack = { ...next, flags: (next.flags & ~SS_ONSTACK) >>> 0 };
  return 0;
}

export const signalCalls = ofThreads({
  rt_sigaction(thread, a) {
    checkSetSize(a[3]);
    return setAction(thread, a[0] | 0, a[1], a[2]);
  },

  rt_sigprocmask(thread, a) {
    checkSetSize(a[3]);
    const old = thread.mask;
    let next = old;
    if (a[1] !== 0) {
      const set = thread.memory.getBig(a[1]);
      const how = a[0] | 0;
      if (how === SIG_BLOCK) next = old | set;
      else if (how === SIG_UNBLOCK) next = old & ~set;
      else if (how === SIG_SETMASK) next = set;
      else throw new Errno(E.INVAL);
    }
    if (a[2] !== 0) thread.memory.setBig(a[2], old);
    thread.mask = next & ~UNBLOCKABLE;
    return 0;
  },

  rt_sigpending(thread, a) {
    if (a[1] > SIGSET_SIZE) throw new Errno(E.INVAL);
    thread.memory.setBig(a[0], (thread.pending.set | thread.process.pending.set) & thread.mask);
    return 0;
  },

  rt_sigsuspend(thread, a) {
    checkSetSize(a[1]);
    thread.temporaryMask(thread.memory.getBig(a[0]));
    throw new Block([]);
  },

  rt_sigtimedwait: (thread, a) => timedWait(thread, a),

  rt_sigreturn(thread) {
    popFrame(thread);
    return NO_RESULT;
  },

  sigaltstack: (thread, a) => setStack(thread, a[0], a[1]),

  pause() {
    throw new Block([]);
  },

  kill: (thread, a) => kill(thread, a[0] | 0, a[1] | 0),
  tkill: (thread, a) => killThread(thread, undefined, a[0] | 0, fromUser(thread, a[1] | 0, SI_TKILL)),
  tgkill: (thread, a) => killThread(thread, a[0] | 0, a[1] | 0, fromUser(thread, a[2] | 0, SI_TKILL)),

  rt_sigqueueinfo(thread, a) {
    const { process } = thread;
    const target = process.kernel.process(a[0] | 0);
    const info = queuedInfo(thread, a[2], a[1] | 0, target === process);
    if (target === undefined) throw new Errno(E.SRCH);
    send(thread, target, info);
    return 0;
  },

  rt_tgsigqueueinfo(thread, a) {
    const info = queuedInfo(thread, a[3], a[2] | 0, (a[0] | 0) === thread.process.pid);
    return killThread(thread, a[0] | 0, a[1] | 0, info);
  },
});
