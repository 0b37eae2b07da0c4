/** futex(2), robust lists. */

import { E, Errno } from "../errno.ts";
import type { FutexKey } from "../futex.ts";
import { ofThreads, type Thread } from "../task.ts";
import { Block } from "../wait.ts";
import { CLOCK_MONOTONIC, CLOCK_REALTIME, clockNow, readTimespec } from "./clocks.ts";

const FUTEX_WAIT = 0;
const FUTEX_WAKE = 1;
const FUTEX_REQUEUE = 3;
const FUTEX_CMP_REQUEUE = 4;
const FUTEX_WAKE_OP = 5;
const FUTEX_LOCK_PI = 6;
const FUTEX_UNLOCK_PI = 7;
const FUTEX_TRYLOCK_PI = 8;
const FUTEX_WAIT_BITSET = 9;
const FUTEX_WAKE_BITSET = 10;
const FUTEX_LOCK_PI2 = 13;
const FUTEX_PRIVATE = 128;
const FUTEX_CLOCK_REALTIME = 256;
const EVERYTHING = 0xffffffff;
const OWNER_DIED = 0x40000000;
const WAITERS = 0x80000000;
const TID_MASK = 0x3fffffff;
const ROBUST_HEAD_SIZE = 24;

interface Word {
  address: number;
  key: FutexKey;
}

function word(thread: Thread, address: number, isPrivate: boolean): Word {
  if (address % 4 !== 0) throw new Errno(E.INVAL);
  // The memory must be there: its areas name the word.
  thread.memory.getU32(address);
  return { address, key: thread.process.kernel.futexes.key(thread.maps, address, isPrivate) };
}

/** Monotonic deadline of a timeout argument, which may be relative or absolute on either clock. */
function deadlineOf(thread: Thread, timeout: number, absolute: boolean, realtime: boolean): number {
  if (timeout === 0) return Infinity;
  const { kernel } = thread.process;
  const time = readTimespec(thread, timeout);
  if (!absolute) return kernel.monotonic() + time;
  const clock = realtime ? CLOCK_REALTIME : CLOCK_MONOTONIC;
  return kernel.monotonic() + time - clockNow(kernel, clock, thread.process);
}

/** Parks until woken. The restart record tells a later attempt what came. */
function wait(
  thread: Thread,
  target: Word,
  expected: number,
  bitset: number,
  deadline: () => number,
): number {
  const { kernel } = thread.process;
  const { restart } = thread;
  if (restart !== undefined) {
    if (restart["woken"] === 1) return 0;
    if (kernel.monotonic() >= (restart.deadline ?? Infinity)) {
      kernel.futexes.forget(thread);
      throw new Errno(E.TIMEDOUT);
    }
    throw new Block([thread.queue], restart.deadline ?? Infinity);
  }
  if (bitset === 0) throw new Errno(E.INVAL);
  const until = deadline();
  if (thread.memory.getU32(target.address) !== expected) throw new Errno(E.AGAIN);
  if (until <= kernel.monotonic()) throw new Errno(E.TIMEDOUT);
  thread.restart = until === Infinity ? {} : { deadline: until };
  kernel.futexes.add(thread, target.key, bitset);
  throw new Block([thread.queue], until);
}

function lockPi(thread: Thread, target: Word, deadline: () => number, tries: boolean): number {
  const { kernel } = thread.process;
  const { memory } = thread;
  const value = memory.getU32(target.address);
  const owner = value & TID_MASK;
  if (owner === thread.tid) {
    if (thread.restart?.["woken"] === 1) return 0;
    throw new Errno(E.DEADLK);
  }
  if (owner === 0 || (value & OWNER_DIED) !== 0) {
    kernel.futexes.forget(thread);
    const others = kernel.futexes.waiters(target.key) > 0 ? WAITERS : 0;
    memory.setU32(target.address, (thread.tid | others | (value & OWNER_DIED)) >>> 0);
    return 0;
  }
  if (tries) throw new Errno(E.AGAIN);
  if (kernel.threads.get(owner) === undefined) throw new Errno(E.SRCH);
  const until = thread.restart?.deadline ?? (thread.restart === undefined ? deadline() : Infinity);
  if (until <= kernel.monotonic()) {
    kernel.futexes.forget(thread);
    throw new Errno(E.TIMEDOUT);
  }
  memory.setU32(target.address, (value | WAITERS) >>> 0);
  if (thread.futex === undefined) kernel.futexes.add(thread, target.key, EVERYTHING);
  thread.restart = until === Infinity ? {} : { deadline: until };
  throw new Block([thread.queue], until);
}

/** The lock goes to the waiter that came first. */
function unlockPi(thread: Thread, target: Word): number {
  const { futexes } = thread.process.kernel;
  const value = thread.memory.getU32(target.address);
  if ((value & TID_MASK) !== thread.tid) throw new Errno(E.PERM);
  const next = futexes.first(target.key);
  if (next === undefined) {
    thread.memory.setU32(target.address, 0);
    return 0;
  }
  const others = futexes.waiters(target.key) > 1 ? WAITERS : 0;
  thread.memory.setU32(target.address, (next.tid | others) >>> 0);
  futexes.wake(target.key, 1);
  return 0;
}

function apply(operation: number, old: number, argument: number): number {
  switch (operation) {
    case 0:
      return argument;
    case 1:
      return old + argument;
    case 2:
      return old | argument;
    case 3:
      return old & ~argument;
    case 4:
      return old ^ argument;
    default:
      throw new Errno(E.NOSYS);
  }
}

function holds(comparison: number, old: number, argument: number): boolean {
  const results = [
    old === argument,
    old !== argument,
    old < argument,
    old <= argument,
    old > argument,
    old >= argument,
  ];
  const result = results[comparison];
  if (result === undefined) throw new Errno(E.NOSYS);
  return result;
}

function wakeOp(thread: Thread, first: Word, second: Word, a: readonly number[]): number {
  const encoded = a[5]! | 0;
  const shifted = (encoded & 0x80000000) !== 0;
  const argument = (encoded << 8) >> 20;
  const operand = shifted ? 1 << (argument & 31) : argument;
  const old = thread.memory.getI32(second.address);
  thread.memory.setU32(second.address, apply((encoded >>> 28) & 7, old, operand) >>> 0);
  const { futexes } = thread.process.kernel;
  let woken = futexes.wake(first.key, a[2]! | 0);
  if (holds((encoded >>> 24) & 15, old, (encoded << 20) >> 20)) {
    woken += futexes.wake(second.key, a[3]! | 0);
  }
  return woken;
}

function requeue(thread: Thread, first: Word, second: Word, a: readonly number[]): number {
  const { futexes } = thread.process.kernel;
  const [wakes, moves] = [a[2]! | 0, a[3]! | 0];
  if (wakes < 0 || moves < 0) throw new Errno(E.INVAL);
  return futexes.wake(first.key, wakes) + futexes.requeue(first.key, second.key, moves);
}

export const futexCalls = ofThreads({
  futex(thread, a) {
    const isPrivate = (a[1] & FUTEX_PRIVATE) !== 0;
    const realtime = (a[1] & FUTEX_CLOCK_REALTIME) !== 0;
    const operation = a[1] & 0x7f;
    const first = word(thread, a[0], isPrivate);
    const second = (): Word => word(thread, a[4], isPrivate);
    const until = (absolute: boolean, onRealtime: boolean) => (): number =>
      deadlineOf(thread, a[3], absolute, onRealtime);
    const { futexes } = thread.process.kernel;
    switch (operation) {
      case FUTEX_WAIT:
        return wait(thread, first, a[2] >>> 0, EVERYTHING, until(false, false));
      case FUTEX_WAIT_BITSET:
        return wait(thread, first, a[2] >>> 0, a[5] >>> 0, until(true, realtime));
      case FUTEX_WAKE:
        return futexes.wake(first.key, Math.max(1, a[2] | 0));
      case FUTEX_WAKE_BITSET:
        if (a[5] >>> 0 === 0) throw new Errno(E.INVAL);
        return futexes.wake(first.key, Math.max(1, a[2] | 0), a[5] >>> 0);
      case FUTEX_CMP_REQUEUE:
        if (thread.memory.getU32(a[0]) !== a[5] >>> 0) throw new Errno(E.AGAIN);
        return requeue(thread, first, second(), a);
      case FUTEX_REQUEUE:
        return requeue(thread, first, second(), a);
      case FUTEX_WAKE_OP:
        return wakeOp(thread, first, second(), a);
      case FUTEX_LOCK_PI:
        return lockPi(thread, first, until(true, true), false);
      case FUTEX_LOCK_PI2:
        return lockPi(thread, first, until(true, realtime), false);
      case FUTEX_TRYLOCK_PI:
        return lockPi(thread, first, () => Infinity, true);
      case FUTEX_UNLOCK_PI:
        return unlockPi(thread, first);
      default:
        throw new Errno(E.NOSYS);
    }
  },

  set_robust_list(thread, a) {
    if (a[1] !== ROBUST_HEAD_SIZE) throw new Errno(E.INVAL);
    thread.robustList = a[0];
    return 0;
  },

  get_robust_list(thread, a) {
    const tid = a[0] | 0;
    const target = tid === 0 ? thread : thread.process.kernel.threads.get(tid);
    if (target === undefined) throw new Errno(E.SRCH);
    thread.memory.setI64(a[1], target.robustList);
    thread.memory.setI64(a[2], ROBUST_HEAD_SIZE);
    return 0;
  },

  set_tid_address(thread, a) {
    thread.clearChildTid = a[0];
    return thread.tid;
  },
});
