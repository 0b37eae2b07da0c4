/** wait4 and waitid; getrusage and times, which speak of the same. */

import { E, Errno } from "../errno.ts";
import { reap, TICK } from "../exit.ts";
import { ProcessFile } from "../io/events/pidfd.ts";
import { addUsage, type ThreadGroup, type Usage } from "../process.ts";
import { CLD_CONTINUED, CLD_DUMPED, CLD_EXITED, CLD_KILLED, CLD_STOPPED } from "../signals/numbers.ts";
import { SIGCHLD, SIGCONT } from "../signals/numbers.ts";
import { encodeInfo } from "../signals/pending.ts";
import { ofThreads, type Thread } from "../task.ts";
import { Block } from "../wait.ts";

const WNOHANG = 1;
const WUNTRACED = 2;
const WEXITED = 4;
const WCONTINUED = 8;
const WNOWAIT = 0x01000000;
const WNOTHREAD = 0x20000000;
const WALL = 0x40000000;
const WCLONE = 0x80000000;
const P_ALL = 0;
const P_PID = 1;
const P_PGID = 2;
const P_PIDFD = 3;
const RUSAGE_SELF = 0;
const RUSAGE_CHILDREN = -1;
const RUSAGE_THREAD = 1;

/** What is told of a child. `status` as wait4 gives it. */
interface Report {
  process: ThreadGroup;
  status: number;
  code: number;
  value: number;
  usage: Usage;
}

function wholeUsage(process: ThreadGroup): Usage {
  const usage = { ...process.usage };
  addUsage(usage, process.childrenUsage);
  return usage;
}

function report(child: ThreadGroup, options: number): Report | undefined {
  const keep = (options & WNOWAIT) !== 0;
  const base = { process: child, usage: wholeUsage(child) };
  if (child.zombie && (options & WEXITED) !== 0) {
    const status = child.exitStatus ?? 0;
    const signal = status & 0x7f;
    if (!keep) reap(child);
    if (signal === 0) return { ...base, status, code: CLD_EXITED, value: status >>> 8 };
    return { ...base, status, code: (status & 0x80) !== 0 ? CLD_DUMPED : CLD_KILLED, value: signal };
  }
  if (child.stopReport !== 0 && (options & WUNTRACED) !== 0) {
    const signal = child.stopReport;
    if (!keep) child.stopReport = 0;
    return { ...base, status: (signal << 8) | 0x7f, code: CLD_STOPPED, value: signal };
  }
  if (child.continueReport && (options & WCONTINUED) !== 0) {
    if (!keep) child.continueReport = false;
    return { ...base, status: 0xffff, code: CLD_CONTINUED, value: SIGCONT };
  }
  return undefined;
}

/** Waits for a child that `wanted` accepts; undefined with WNOHANG. */
function waitFor(
  thread: Thread,
  wanted: (child: ThreadGroup) => boolean,
  options: number,
): Report | undefined {
  const { process } = thread;
  let some = false;
  for (const child of process.children) {
    if (!wanted(child)) continue;
    const clone = child.exitSignal !== SIGCHLD;
    if ((options & WALL) === 0 && clone !== ((options & WCLONE) !== 0)) continue;
    some = true;
    const found = report(child, options);
    if (found !== undefined) return found;
  }
  if (!some) throw new Errno(E.CHILD);
  if ((options & WNOHANG) !== 0) return undefined;
  throw new Block([process.childQueue]);
}

function writeTime(thread: Thread, address: number, time: number): void {
  thread.memory.setI64(address, Math.floor(time / 1e9));
  thread.memory.setI64(address + 8, Math.floor((time % 1e9) / 1000));
}

function writeUsage(thread: Thread, address: number, usage: Usage): void {
  const bytes = thread.memory.writable(address, 144);
  bytes.fill(0);
  writeTime(thread, address, usage.user);
  writeTime(thread, address + 16, usage.system);
  thread.memory.setI64(address + 32, Math.floor(usage.peakMemory));
  thread.memory.setI64(address + 64, usage.minorFaults);
  thread.memory.setI64(address + 128, usage.voluntarySwitches);
  thread.memory.setI64(address + 136, usage.involuntarySwitches);
}

function ownUsage(thread: Thread, who: number): Usage {
  const { process } = thread;
  const running = process.kernel.scheduler.sliceTime;
  if (who === RUSAGE_CHILDREN) return process.childrenUsage;
  const usage = { ...process.usage, user: process.usage.user + running };
  usage.peakMemory = Math.max(usage.peakMemory, thread.maps.peakBytes / 1024);
  if (who === RUSAGE_SELF) return usage;
  if (who === RUSAGE_THREAD) return { ...usage, user: thread.cpuTime + running };
  throw new Errno(E.INVAL);
}

export const waitingCalls = ofThreads({
  wait4(thread, a) {
    const pid = a[0] | 0;
    const options = a[2] >>> 0;
    if ((options & ~(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WALL | WCLONE)) !== 0) {
      throw new Errno(E.INVAL);
    }
    const group = pid === 0 ? thread.process.pgid : -pid;
    const wanted = (child: ThreadGroup): boolean =>
      pid === -1 || (pid > 0 ? child.pid === pid : child.pgid === group);
    // Errors of the arguments come before a child is gone.
    if (a[1] !== 0) thread.memory.writable(a[1], 4);
    if (a[3] !== 0) thread.memory.writable(a[3], 144);
    const found = waitFor(thread, wanted, options | WEXITED);
    if (found === undefined) return 0;
    if (a[1] !== 0) thread.memory.setU32(a[1], found.status);
    if (a[3] !== 0) writeUsage(thread, a[3], found.usage);
    return found.process.pid;
  },

  waitid(thread, a) {
    let type = a[0] | 0;
    let id = a[1] | 0;
    if (type === P_PIDFD) {
      const file = thread.process.files.get(id);
      if (!(file instanceof ProcessFile)) throw new Errno(E.BADF);
      type = P_PID;
      id = file.process.pid;
    }
    const options = a[3] >>> 0;
    if ((options & (WEXITED | WUNTRACED | WCONTINUED)) === 0) throw new Errno(E.INVAL);
    if (type < P_ALL || type > P_PGID || (type === P_PID && id <= 0)) throw new Errno(E.INVAL);
    const group = id === 0 ? thread.process.pgid : id;
    const wanted = (child: ThreadGroup): boolean =>
      type === P_ALL || (type === P_PID ? child.pid === id : child.pgid === group);
    if (a[2] !== 0) thread.memory.writable(a[2], 128);
    if (a[4] !== 0) thread.memory.writable(a[4], 144);
    const found = waitFor(thread, wanted, options);
    if (a[2] !== 0) {
      const info = thread.memory.writable(a[2], 128);
      if (found === undefined) {
        info.fill(0, 0, 28);
      } else {
        const { process, code, value } = found;
        const uid = process.credentials.uid;
        info.set(encodeInfo({ signal: SIGCHLD, code, pid: process.pid, uid, status: value }));
      }
    }
    if (found !== undefined && a[4] !== 0) writeUsage(thread, a[4], found.usage);
    return 0;
  },

  getrusage(thread, a) {
    writeUsage(thread, a[1], ownUsage(thread, a[0] | 0));
    return 0;
  },

  times(thread, a) {
    const { process } = thread;
    const ticks = (time: number): number => Math.floor(time / TICK);
    if (a[0] !== 0) {
      const own = ownUsage(thread, RUSAGE_SELF);
      const children = process.childrenUsage;
      [own.user, own.system, children.user, children.system].forEach((time, index) => {
        thread.memory.setI64(a[0] + index * 8, ticks(time));
      });
    }
    return ticks(process.kernel.monotonic());
  },
});
