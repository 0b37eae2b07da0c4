/** eventfd, timerfd, signalfd and pidfd. */

import { E, Errno } from "../errno.ts";
import { O_CLOEXEC, O_NONBLOCK } from "../io/constants.ts";
import { EventFile } from "../io/events/eventfd.ts";
import { ProcessFile } from "../io/events/pidfd.ts";
import { SignalFile } from "../io/events/signalfd.ts";
import { TimerFile } from "../io/events/timerfd.ts";
import type { ThreadGroup } from "../process.ts";
import { UNBLOCKABLE } from "../signals/numbers.ts";
import { decodeInfo, SIGINFO_SIZE } from "../signals/pending.ts";
import { sendToProcess } from "../signals/send.ts";
import type { OpenFile, SystemCalls, Task } from "../types.ts";
import { ProcDirectory } from "../vfs/proc/nodes.ts";
import { readTimespec, writeTimespec } from "./polling.ts";

const EFD_SEMAPHORE = 1;
const TFD_TIMER_ABSTIME = 1;
const TFD_TIMER_CANCEL_ON_SET = 2;
const CLOCK_REALTIME = 0;
const CLOCK_REALTIME_ALARM = 8;
/** Realtime, monotonic, boottime and their alarms. */
const TIMER_CLOCKS = [CLOCK_REALTIME, 1, 7, CLOCK_REALTIME_ALARM, 9];

function add(task: Task, file: OpenFile, flags: number): number {
  return task.process.files.add(file, (flags & O_CLOEXEC) !== 0);
}

function mustBe(flags: number, allowed: number): void {
  if ((flags & ~allowed) !== 0) throw new Errno(E.INVAL);
}

function eventfd(task: Task, count: number, flags: number): number {
  mustBe(flags, EFD_SEMAPHORE | O_CLOEXEC | O_NONBLOCK);
  return add(
    task,
    new EventFile(task, count >>> 0, (flags & EFD_SEMAPHORE) !== 0, flags & O_NONBLOCK),
    flags,
  );
}

function timerFile(task: Task, fd: number): TimerFile {
  const file = task.process.files.get(fd);
  if (!(file instanceof TimerFile)) throw new Errno(E.INVAL);
  return file;
}

function writeSetting(task: Task, file: TimerFile, at: number): void {
  const { value, interval } = file.setting;
  writeTimespec(task.memory, at, interval);
  writeTimespec(task.memory, at + 16, value);
}

function setTimer(task: Task, fd: number, flags: number, at: number, old: number): number {
  mustBe(flags, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
  const { kernel } = task.process;
  const interval = readTimespec(task.memory, at)!;
  const value = readTimespec(task.memory, at + 16)!;
  const file = timerFile(task, fd);
  if (old !== 0) writeSetting(task, file, old);
  const now = kernel.monotonic();
  let expires = Infinity;
  if (value > 0 && (flags & TFD_TIMER_ABSTIME) === 0) {
    expires = now + value;
  } else if (value > 0 && (file.clock === CLOCK_REALTIME || file.clock === CLOCK_REALTIME_ALARM)) {
    const { seconds, nanoseconds } = kernel.realtime();
    expires = now + (Math.floor(value / 1e9) - seconds) * 1e9 + ((value % 1e9) - nanoseconds);
  } else if (value > 0) {
    expires = value;
  }
  file.set(expires, interval);
  return 0;
}

function signalfd(task: Task, fd: number, at: number, size: number, flags: number): number {
  if (size !== 8) throw new Errno(E.INVAL);
  mustBe(flags, O_CLOEXEC | O_NONBLOCK);
  const { memory } = task;
  const asked = BigInt(memory.getU32(at)) | (BigInt(memory.getU32(at + 4)) << 32n);
  const mask = asked & ~UNBLOCKABLE;
  if (fd === -1) return add(task, new SignalFile(task, mask, flags & O_NONBLOCK), flags);
  const file = task.process.files.get(fd);
  if (!(file instanceof SignalFile)) throw new Errno(E.INVAL);
  file.mask = mask;
  file.woken();
  return fd;
}

function pidfdOpen(task: Task, pid: number, flags: number): number {
  mustBe(flags, O_NONBLOCK);
  if (pid <= 0) throw new Errno(E.INVAL);
  const process = task.process.kernel.process(pid);
  if (process === undefined) throw new Errno(E.SRCH);
  return add(task, new ProcessFile(task, process as ThreadGroup, flags), O_CLOEXEC);
}

/** A directory of /proc does for a pidfd, too. */
function processOf(task: Task, fd: number): ThreadGroup {
  const file = task.process.files.get(fd);
  if (file instanceof ProcessFile) return file.process;
  const inode = "inode" in file ? file.inode : undefined;
  const pid = inode instanceof ProcDirectory ? /^\/(\d+)$/.exec(inode.path)?.[1] : undefined;
  if (pid === undefined) throw new Errno(E.BADF);
  const process = task.process.kernel.process(Number(pid));
  if (process === undefined) throw new Errno(E.SRCH);
  return process as ThreadGroup;
}

function pidfdSendSignal(task: Task, fd: number, signal: number, at: number, flags: number): number {
  mustBe(flags, 0);
  const process = processOf(task, fd);
  if (signal < 0 || signal > 64) throw new Errno(E.INVAL);
  const { credentials, pid } = task.process;
  if (process.threads.length === 0 && task.process.kernel.process(process.pid) !== process) {
    throw new Errno(E.SRCH);
  }
  const allowed =
    credentials.euid === 0 ||
    [process.credentials.uid, process.credentials.suid].some(
      (uid) => uid === credentials.euid || uid === credentials.uid,
    );
  if (!allowed) throw new Errno(E.PERM);
  let info = { signal, code: 0, pid, uid: credentials.uid };
  if (at !== 0) {
    info = { ...info, ...decodeInfo(task.memory.readable(at, SIGINFO_SIZE)) };
    if (info.signal !== signal) throw new Errno(E.INVAL);
    if (process !== task.process && (info.code >= 0 || info.code === -6)) throw new Errno(E.PERM);
  }
  sendToProcess(process, info);
  return 0;
}

export const eventCalls: SystemCalls = {
  eventfd: (task, a) => eventfd(task, a[0], 0),
  eventfd2: (task, a) => eventfd(task, a[0], a[1] | 0),
  timerfd_create: (task, a) => {
    mustBe(a[1] | 0, O_CLOEXEC | O_NONBLOCK);
    if (!TIMER_CLOCKS.includes(a[0] | 0)) throw new Errno(E.INVAL);
    return add(task, new TimerFile(task, a[0] | 0, a[1] & O_NONBLOCK), a[1]);
  },
  timerfd_settime: (task, a) => setTimer(task, a[0] | 0, a[1] | 0, a[2], a[3]),
  timerfd_gettime: (task, a) => {
    writeSetting(task, timerFile(task, a[0] | 0), a[1]);
    return 0;
  },
  signalfd: (task, a) => signalfd(task, a[0] | 0, a[1], a[2], 0),
  signalfd4: (task, a) => signalfd(task, a[0] | 0, a[1], a[2], a[3] | 0),
  pidfd_open: (task, a) => pidfdOpen(task, a[0] | 0, a[1] | 0),
  pidfd_send_signal: (task, a) => pidfdSendSignal(task, a[0] | 0, a[1] | 0, a[2], a[3] | 0),
};
