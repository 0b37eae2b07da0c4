/** sched_*: one processor, fair slices; and prctl. */

import { E, Errno } from "../errno.ts";
import { SIGNALS } from "../signals/numbers.ts";
import { ofThreads, type Thread } from "../task.ts";
import {
  controlCapabilities,
  PR_CAP_AMBIENT,
  PR_CAPBSET_DROP,
  PR_CAPBSET_READ,
  PR_GET_KEEPCAPS,
  PR_GET_SECUREBITS,
  PR_SET_KEEPCAPS,
  PR_SET_SECUREBITS,
} from "./capabilities.ts";

const SCHED_OTHER = 0;
const SCHED_FIFO = 1;
const SCHED_RR = 2;
const SCHED_BATCH = 3;
const SCHED_IDLE = 5;
/** Not to be had, but known. */
const SCHED_DEADLINE = 6;
const SCHED_RESET_ON_FORK = 0x40000000;
const POLICIES = [SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE];
/** A thread number that nobody has. */
const NOBODY = 0x7fffffff;
const SLICE = 10_000_000;

const PR_SET_PDEATHSIG = 1;
const PR_GET_PDEATHSIG = 2;
const PR_GET_DUMPABLE = 3;
const PR_SET_DUMPABLE = 4;
const PR_SET_NAME = 15;
const PR_GET_NAME = 16;
const PR_GET_SECCOMP = 21;
const PR_SET_SECCOMP = 22;
const PR_SET_TIMERSLACK = 29;
const PR_GET_TIMERSLACK = 30;
const PR_SET_CHILD_SUBREAPER = 36;
const PR_GET_CHILD_SUBREAPER = 37;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_GET_NO_NEW_PRIVS = 39;
const PR_GET_THP_DISABLE = 42;
const PR_SET_VMA = 0x53564d41;

function threadBy(thread: Thread, tid: number): Thread {
  if (tid < 0) throw new Errno(E.INVAL);
  const found = tid === 0 ? thread : thread.process.kernel.threads.get(tid);
  if (found === undefined) throw new Errno(E.SRCH);
  return found;
}

function isRealtime(policy: number): boolean {
  return policy === SCHED_FIFO || policy === SCHED_RR;
}

/** Kept and told; threads run as if there were none. */
function setPolicy(caller: Thread, tid: number, given: number | undefined, priority: number): number {
  const target = threadBy(caller, tid);
  const policy = (given ?? target.policy) & ~SCHED_RESET_ON_FORK;
  if (!POLICIES.includes(policy)) throw new Errno(E.INVAL);
  if (isRealtime(policy) ? priority < 1 || priority > 99 : priority !== 0) throw new Errno(E.INVAL);
  const { credentials } = caller.process;
  if (credentials.euid !== 0) {
    const { uid, euid } = target.process.credentials;
    if (isRealtime(policy) && (policy !== target.policy || priority > target.priority))
      throw new Errno(E.PERM);
    if (credentials.euid !== uid && credentials.euid !== euid) throw new Errno(E.PERM);
  }
  if (given !== undefined) target.resetOnFork = (given & SCHED_RESET_ON_FORK) !== 0;
  target.policy = policy;
  target.priority = priority;
  return 0;
}

/** EINVAL for what is no policy. */
function priorityOf(policy: number, ofRealtime: number): number {
  if (!POLICIES.includes(policy) && policy !== SCHED_DEADLINE) throw new Errno(E.INVAL);
  return isRealtime(policy) ? ofRealtime : 0;
}

function control(thread: Thread, option: number, a: readonly number[]): number {
  const { process, memory } = thread;
  const value = a[1]!;
  switch (option) {
    case PR_SET_PDEATHSIG:
      if (value < 0 || value > SIGNALS) throw new Errno(E.INVAL);
      process.parentDeathSignal = value;
      return 0;
    case PR_GET_PDEATHSIG:
      memory.setU32(value, process.parentDeathSignal);
      return 0;
    case PR_GET_DUMPABLE:
      return process.dumpable;
    case PR_SET_DUMPABLE:
      if (value !== 0 && value !== 1) throw new Errno(E.INVAL);
      process.dumpable = value;
      return 0;
    case PR_SET_NAME:
      thread.name = nameAt(thread, value);
      return 0;
    case PR_GET_NAME: {
      const bytes = memory.writable(value, 16);
      bytes.fill(0);
      for (let at = 0; at < thread.name.length; at += 1) bytes[at] = thread.name.charCodeAt(at);
      return 0;
    }
    case PR_SET_TIMERSLACK:
      process.timerSlack = value <= 0 ? 50000 : value;
      return 0;
    case PR_GET_TIMERSLACK:
      return process.timerSlack;
    case PR_SET_CHILD_SUBREAPER:
      process.childSubreaper = value !== 0;
      return 0;
    case PR_GET_CHILD_SUBREAPER:
      memory.setU32(value, process.childSubreaper ? 1 : 0);
      return 0;
    case PR_SET_NO_NEW_PRIVS:
      if (value !== 1) throw new Errno(E.INVAL);
      process.noNewPrivileges = true;
      return 0;
    case PR_GET_NO_NEW_PRIVS:
      return process.noNewPrivileges ? 1 : 0;
    case PR_CAPBSET_READ:
    case PR_CAPBSET_DROP:
    case PR_GET_KEEPCAPS:
    case PR_SET_KEEPCAPS:
    case PR_GET_SECUREBITS:
    case PR_SET_SECUREBITS:
    case PR_CAP_AMBIENT:
      return controlCapabilities(thread, option, a);
    case PR_GET_SECCOMP:
    case PR_GET_THP_DISABLE:
      return 0;
    case PR_SET_VMA:
    case PR_SET_SECCOMP:
    default:
      throw new Errno(E.INVAL);
  }
}

/** At most 15 bytes, as the kernel cuts it. */
function nameAt(thread: Thread, address: number): string {
  let name = "";
  for (let at = 0; at < 15; at += 1) {
    const byte = thread.memory.getU8(address + at);
    if (byte === 0) break;
    name += String.fromCharCode(byte);
  }
  return name;
}

export const schedulingCalls = ofThreads({
  prctl: (thread, a) => control(thread, a[0] | 0, a),

  sched_yield(thread) {
    thread.process.kernel.scheduler.yields = true;
    return 0;
  },

  sched_getaffinity(thread, a) {
    if (a[1] < 8 || a[1] % 8 !== 0) throw new Errno(E.INVAL);
    // Here, other than below, a negative number is a thread that is not there.
    threadBy(thread, (a[0] | 0) < 0 ? NOBODY : a[0] | 0);
    thread.memory.setI64(a[2], 1);
    return 8;
  },

  sched_setaffinity(thread, a) {
    const set = thread.memory.readable(a[2], Math.min(a[1], 128));
    const target = threadBy(thread, (a[0] | 0) < 0 ? NOBODY : a[0] | 0);
    const { euid } = thread.process.credentials;
    const { credentials } = target.process;
    if (euid !== 0 && euid !== credentials.euid && euid !== credentials.uid) throw new Errno(E.PERM);
    if (((set[0] ?? 0) & 1) === 0) throw new Errno(E.INVAL);
    return 0;
  },

  sched_getscheduler(thread, a) {
    const { policy, resetOnFork } = threadBy(thread, a[0] | 0);
    return policy | (resetOnFork ? SCHED_RESET_ON_FORK : 0);
  },

  sched_setscheduler(thread, a) {
    if ((a[1] | 0) < 0) throw new Errno(E.INVAL);
    return setPolicy(thread, a[0] | 0, a[1] | 0, thread.memory.getI32(a[2]));
  },

  sched_getparam(thread, a) {
    thread.memory.setU32(a[1], threadBy(thread, a[0] | 0).priority);
    return 0;
  },

  sched_setparam(thread, a) {
    return setPolicy(thread, a[0] | 0, undefined, thread.memory.getI32(a[1]));
  },

  sched_getattr(thread, a) {
    const target = threadBy(thread, a[0] | 0);
    if (a[2] < 48) throw new Errno(E.INVAL);
    thread.memory.writable(a[1], 48).fill(0);
    thread.memory.setU32(a[1], 48);
    thread.memory.setU32(a[1] + 4, target.policy);
    thread.memory.setU32(a[1] + 8, target.resetOnFork ? 1 : 0);
    if (isRealtime(target.policy)) thread.memory.setU32(a[1] + 20, target.priority);
    else thread.memory.setU32(a[1] + 16, target.process.nice >>> 0);
    return 0;
  },

  sched_get_priority_max: (_thread, a) => priorityOf(a[0] | 0, 99),
  sched_get_priority_min: (_thread, a) => priorityOf(a[0] | 0, 1),

  sched_rr_get_interval(thread, a) {
    threadBy(thread, a[0] | 0);
    thread.memory.setI64(a[1], 0);
    thread.memory.setI64(a[1] + 8, SLICE);
    return 0;
  },
});
