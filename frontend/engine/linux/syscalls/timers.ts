/** Interval timers, alarm and POSIX timers. */

import { E, Errno } from "../errno.ts";
import type { ThreadGroup } from "../process.ts";
import { SI_KERNEL, SI_TIMER, SIGALRM, SIGPROF, SIGVTALRM, SIGNALS } from "../signals/numbers.ts";
import { sendToProcess, sendToThread } from "../signals/send.ts";
import { ofThreads, type Thread } from "../task.ts";
import type { PosixTimer } from "../timers.ts";
import { clockNow, knownClock, readTimespec, writeTimespec } from "./clocks.ts";

const ITIMER_REAL = 0;
const ITIMER_PROF = 2;
const TIMER_ABSTIME = 1;
const SIGEV_SIGNAL = 0;
const SIGEV_NONE = 1;
const SIGEV_THREAD_ID = 4;
/** How often timers that count CPU time are looked at. */
const CPU_CHECK = 10_000_000;
const ITIMER_SIGNALS = [SIGALRM, SIGVTALRM, SIGPROF];

function cpuTime(process: ThreadGroup): number {
  return process.usage.user + process.usage.system;
}

/** What the clock of an interval timer shows. */
function intervalClock(process: ThreadGroup, which: number): number {
  return which === ITIMER_REAL ? process.kernel.monotonic() : cpuTime(process);
}

function arm(process: ThreadGroup, time: number): void {
  process.kernel.timers.add({ time, pid: process.pid });
}

/** When a timer of that kind is to be looked at: exactly for clocks, now and then for CPU time. */
function lookAt(process: ThreadGroup, expires: number, now: number): number {
  return process.kernel.monotonic() + Math.max(0, expires - now);
}

/** Sends what has expired and arms the next time. */
export function expireTimers(process: ThreadGroup): void {
  process.intervalTimers.forEach((timer, which) => {
    if (timer === undefined) return;
    const now = intervalClock(process, which);
    if (timer.expires > now) {
      const wait = which === ITIMER_REAL ? timer.expires - now : CPU_CHECK;
      if (which !== ITIMER_REAL) arm(process, process.kernel.monotonic() + wait);
      return;
    }
    sendToProcess(process, { signal: ITIMER_SIGNALS[which]!, code: SI_KERNEL });
    if (timer.interval === 0) {
      process.intervalTimers[which] = undefined;
      return;
    }
    timer.expires += Math.ceil((now - timer.expires + 1) / timer.interval) * timer.interval;
    arm(process, lookAt(process, timer.expires, now));
  });
  for (const timer of process.posixTimers.values()) expirePosix(process, timer);
}

function expirePosix(process: ThreadGroup, timer: PosixTimer): void {
  if (timer.expires === Infinity) return;
  const now = clockNow(process.kernel, timer.clock, process);
  if (timer.expires > now) return;
  const passed = timer.interval === 0 ? 1 : Math.floor((now - timer.expires) / timer.interval) + 1;
  if (timer.interval === 0) {
    timer.expires = Infinity;
  } else {
    timer.expires += passed * timer.interval;
    arm(process, lookAt(process, timer.expires, now));
  }
  if (timer.notify === SIGEV_NONE) return;
  const info = { signal: timer.signal, code: SI_TIMER, pid: timer.id, uid: passed - 1, value: timer.value };
  timer.lastOverrun = passed - 1;
  const thread = timer.tid === 0 ? undefined : process.kernel.threads.get(timer.tid);
  if (thread !== undefined) sendToThread(thread, info);
  else sendToProcess(process, info);
}

function remaining(process: ThreadGroup, which: number): [number, number] {
  const timer = process.intervalTimers[which];
  if (timer === undefined) return [0, 0];
  return [Math.max(1000, timer.expires - intervalClock(process, which)), timer.interval];
}

function setInterval(process: ThreadGroup, which: number, value: number, interval: number): void {
  if (value === 0) {
    process.intervalTimers[which] = undefined;
    return;
  }
  const now = intervalClock(process, which);
  process.intervalTimers[which] = { expires: now + value, interval };
  arm(process, lookAt(process, now + value, now));
}

function writeInterval(thread: Thread, address: number, [value, interval]: [number, number]): void {
  const { memory } = thread;
  memory.setI64(address, Math.floor(interval / 1e9));
  memory.setI64(address + 8, Math.floor((interval % 1e9) / 1000));
  memory.setI64(address + 16, Math.floor(value / 1e9));
  memory.setI64(address + 24, Math.floor((value % 1e9) / 1000));
}

function readTimeval(thread: Thread, address: number): number {
  const seconds = thread.memory.getI64(address);
  const micro = thread.memory.getI64(address + 8);
  if (seconds < 0 || micro < 0 || micro >= 1e6) throw new Errno(E.INVAL);
  return seconds * 1e9 + micro * 1000;
}

function whichInterval(which: number): number {
  if (which < ITIMER_REAL || which > ITIMER_PROF) throw new Errno(E.INVAL);
  return which;
}

function posixTimer(thread: Thread, id: number): PosixTimer {
  const timer = thread.process.posixTimers.get(id);
  if (timer === undefined) throw new Errno(E.INVAL);
  return timer;
}

function writePosix(thread: Thread, timer: PosixTimer, address: number): void {
  const now = clockNow(thread.process.kernel, timer.clock, thread.process);
  writeTimespec(thread, address, timer.interval);
  writeTimespec(thread, address + 16, timer.expires === Infinity ? 0 : Math.max(1, timer.expires - now));
}

export const timerCalls = ofThreads({
  getitimer(thread, a) {
    writeInterval(thread, a[1], remaining(thread.process, whichInterval(a[0] | 0)));
    return 0;
  },

  setitimer(thread, a) {
    const which = whichInterval(a[0] | 0);
    const interval = a[1] === 0 ? 0 : readTimeval(thread, a[1]);
    const value = a[1] === 0 ? 0 : readTimeval(thread, a[1] + 16);
    const old = remaining(thread.process, which);
    if (a[2] !== 0) writeInterval(thread, a[2], old);
    setInterval(thread.process, which, value, interval);
    return 0;
  },

  alarm(thread, a) {
    const [left] = remaining(thread.process, ITIMER_REAL);
    setInterval(thread.process, ITIMER_REAL, (a[0] >>> 0) * 1e9, 0);
    return left === 0 ? 0 : Math.max(1, Math.round(left / 1e9));
  },

  timer_create(thread, a) {
    const { process, memory } = thread;
    const clock = a[0] | 0;
    if (!knownClock(clock)) throw new Errno(E.INVAL);
    const timer: PosixTimer = {
      id: process.nextPosixTimer,
      clock,
      notify: SIGEV_SIGNAL,
      signal: SIGALRM,
      value: BigInt(process.nextPosixTimer),
      tid: 0,
      expires: Infinity,
      interval: 0,
      overrun: 0,
      lastOverrun: 0,
    };
    if (a[1] !== 0) {
      timer.value = memory.getBig(a[1]);
      timer.signal = memory.getI32(a[1] + 8);
      timer.notify = memory.getI32(a[1] + 12);
      if (timer.notify !== SIGEV_NONE && (timer.signal < 1 || timer.signal > SIGNALS)) {
        throw new Errno(E.INVAL);
      }
      if (timer.notify === SIGEV_THREAD_ID) {
        timer.tid = memory.getI32(a[1] + 16);
        if (process.kernel.threads.get(timer.tid)?.process !== process) throw new Errno(E.INVAL);
      }
    }
    memory.setU32(a[2], timer.id);
    process.posixTimers.set(timer.id, timer);
    process.nextPosixTimer += 1;
    return 0;
  },

  timer_settime(thread, a) {
    const { process } = thread;
    const timer = posixTimer(thread, a[0] | 0);
    const interval = readTimespec(thread, a[2]);
    const value = readTimespec(thread, a[2] + 16);
    if (a[3] !== 0) writePosix(thread, timer, a[3]);
    const now = clockNow(process.kernel, timer.clock, process);
    timer.interval = interval;
    timer.overrun = 0;
    timer.lastOverrun = 0;
    if (value === 0) timer.expires = Infinity;
    else timer.expires = ((a[1] | 0) & TIMER_ABSTIME) !== 0 ? value : now + value;
    if (timer.expires !== Infinity) arm(process, lookAt(process, timer.expires, now));
    return 0;
  },

  timer_gettime(thread, a) {
    writePosix(thread, posixTimer(thread, a[0] | 0), a[1]);
    return 0;
  },

  timer_getoverrun(thread, a) {
    return posixTimer(thread, a[0] | 0).lastOverrun;
  },

  timer_delete(thread, a) {
    posixTimer(thread, a[0] | 0);
    thread.process.posixTimers.delete(a[0] | 0);
    return 0;
  },
});
