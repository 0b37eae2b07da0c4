/** Clocks: what they show, sleeping, and setting the time (refused). Times are nanoseconds. */

import { E, Errno } from "../errno.ts";
import type { LinuxKernel } from "../kernel.ts";
import type { ThreadGroup } from "../process.ts";
import { ofThreads, type Thread } from "../task.ts";
import { Block } from "../wait.ts";

export const CLOCK_REALTIME = 0;
export const CLOCK_MONOTONIC = 1;
const CLOCK_PROCESS_CPUTIME = 2;
const CLOCK_THREAD_CPUTIME = 3;
const CLOCK_MONOTONIC_RAW = 4;
const CLOCK_REALTIME_COARSE = 5;
const CLOCK_MONOTONIC_COARSE = 6;
const CLOCK_BOOTTIME = 7;
const CLOCK_REALTIME_ALARM = 8;
const CLOCK_BOOTTIME_ALARM = 9;
const CLOCK_TAI = 11;
const TIMER_ABSTIME = 1;

export function knownClock(clock: number): boolean {
  return (clock >= CLOCK_REALTIME && clock <= CLOCK_BOOTTIME_ALARM) || clock === CLOCK_TAI || clock < 0;
}

function isRealtime(clock: number): boolean {
  return (
    clock === CLOCK_REALTIME ||
    clock === CLOCK_REALTIME_COARSE ||
    clock === CLOCK_REALTIME_ALARM ||
    clock === CLOCK_TAI
  );
}

/** Nanoseconds that the clock shows; realtime ones lose the last few hundred to the number format. */
export function clockNow(kernel: LinuxKernel, clock: number, process: ThreadGroup, thread?: Thread): number {
  if (isRealtime(clock)) {
    const { seconds, nanoseconds } = kernel.realtime();
    return seconds * 1e9 + nanoseconds;
  }
  switch (clock) {
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
      return kernel.monotonic();
    case CLOCK_PROCESS_CPUTIME:
      return process.usage.user + process.usage.system + kernel.scheduler.sliceTime;
    case CLOCK_THREAD_CPUTIME:
      return (thread?.cpuTime ?? 0) + kernel.scheduler.sliceTime;
    default:
      break;
  }
  if (clock >= 0) throw new Errno(E.INVAL);
  // A process's or thread's CPU clock: its number is inverted above three bits of kind.
  const pid = ~(clock >> 3);
  const perThread = (clock & 4) !== 0;
  if (perThread) {
    const other = pid === 0 ? thread : kernel.threads.get(pid);
    if (other === undefined) throw new Errno(E.INVAL);
    return other.cpuTime + (other === thread ? kernel.scheduler.sliceTime : 0);
  }
  const other = pid === 0 ? process : kernel.process(pid);
  if (other === undefined) throw new Errno(E.INVAL);
  const running = other === process ? kernel.scheduler.sliceTime : 0;
  return other.usage.user + other.usage.system + running;
}

/** A struct timespec in nanoseconds. EINVAL when it is none. */
export function readTimespec(thread: Thread, address: number): number {
  const seconds = thread.memory.getI64(address);
  const nanoseconds = thread.memory.getI64(address + 8);
  if (seconds < 0 || nanoseconds < 0 || nanoseconds >= 1e9) throw new Errno(E.INVAL);
  return seconds * 1e9 + nanoseconds;
}

export function writeTimespec(thread: Thread, address: number, time: number): void {
  thread.memory.setI64(address, Math.floor(time / 1e9));
  thread.memory.setI64(address + 8, Math.floor(time % 1e9));
}

/** Sleeps until a monotonic time; the rest goes to `left` when a signal ends it. */
function sleep(thread: Thread, deadline: number, left: number): number {
  const now = thread.process.kernel.monotonic();
  if (now >= deadline) return 0;
  if (left !== 0 && thread.signalPending) writeTimespec(thread, left, deadline - now);
  thread.restart = { ...thread.restart, deadline };
  throw new Block([thread.queue], deadline);
}

function clockSleep(thread: Thread, clock: number, flags: number, request: number, left: number): number {
  const { kernel } = thread.process;
  if (!knownClock(clock) || clock === CLOCK_THREAD_CPUTIME) throw new Errno(E.INVAL);
  const time = readTimespec(thread, request);
  const absolute = (flags & TIMER_ABSTIME) !== 0;
  const known = thread.restart?.deadline;
  if (known !== undefined && !(absolute && isRealtime(clock)))
    return sleep(thread, known, absolute ? 0 : left);
  const now = absolute ? clockNow(kernel, clock, thread.process, thread) : 0;
  return sleep(thread, kernel.monotonic() + (time - now), absolute ? 0 : left);
}

function writeRealtime(thread: Thread, address: number, divisor: number): void {
  const { seconds, nanoseconds } = thread.process.kernel.realtime();
  thread.memory.setI64(address, seconds);
  thread.memory.setI64(address + 8, Math.floor(nanoseconds / divisor));
}

export const clockCalls = ofThreads({
  clock_gettime(thread, a) {
    const clock = a[0] | 0;
    if (!knownClock(clock)) throw new Errno(E.INVAL);
    if (isRealtime(clock)) writeRealtime(thread, a[1], 1);
    else writeTimespec(thread, a[1], clockNow(thread.process.kernel, clock, thread.process, thread));
    return 0;
  },

  clock_getres(thread, a) {
    const clock = a[0] | 0;
    if (!knownClock(clock)) throw new Errno(E.INVAL);
    const coarse = clock === CLOCK_REALTIME_COARSE || clock === CLOCK_MONOTONIC_COARSE;
    if (a[1] !== 0) writeTimespec(thread, a[1], coarse ? 4_000_000 : 1);
    return 0;
  },

  clock_settime: () => -E.PERM,
  settimeofday: () => -E.PERM,
  adjtimex: () => -E.PERM,
  clock_adjtime: () => -E.PERM,

  gettimeofday(thread, a) {
    if (a[0] !== 0) writeRealtime(thread, a[0], 1000);
    if (a[1] !== 0) thread.memory.writable(a[1], 8).fill(0);
    return 0;
  },

  time(thread, a) {
    const { seconds } = thread.process.kernel.realtime();
    if (a[0] !== 0) thread.memory.setI64(a[0], seconds);
    return seconds;
  },

  nanosleep(thread, a) {
    return clockSleep(thread, CLOCK_MONOTONIC, 0, a[0], a[1]);
  },

  clock_nanosleep(thread, a) {
    return clockSleep(thread, a[0] | 0, a[1] | 0, a[2], a[3]);
  },
});
