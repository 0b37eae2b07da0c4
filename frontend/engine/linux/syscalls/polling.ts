/** poll, ppoll, select and pselect6. */

import { E, Errno } from "../errno.ts";
import { POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI } from "../io/constants.ts";
import { POLLRDBAND, POLLRDNORM, POLLWRBAND, POLLWRNORM } from "../io/constants.ts";
import { deadlineOf, waitForAny } from "../io/polling.ts";
import { Block } from "../wait.ts";
import type { OpenFile, SystemCalls, Task, UserMemory } from "../types.ts";

const RLIMIT_NOFILE = 7;
const POLLFD_SIZE = 8;
/** Sets are at most this long. */
const MOST_FDS = 1 << 20;

const READ_SET = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR;
const WRITE_SET = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR;
const EXCEPT_SET = POLLPRI;

/** `struct timespec` in nanoseconds; undefined for a null pointer. */
export function readTimespec(memory: UserMemory, address: number): number | undefined {
  if (address === 0) return undefined;
  const seconds = memory.getI64(address);
  const nanoseconds = memory.getI64(address + 8);
  if (seconds < 0 || nanoseconds < 0 || nanoseconds >= 1e9) throw new Errno(E.INVAL);
  return seconds * 1e9 + nanoseconds;
}

export function writeTimespec(memory: UserMemory, address: number, nanoseconds: number): void {
  memory.setI64(address, Math.floor(nanoseconds / 1e9));
  memory.setI64(address + 8, Math.floor(nanoseconds % 1e9));
}

/** 64 bits of a signal set; 0 for a null pointer means: keep the mask. */
export function applyMask(task: Task, address: number, size: number): void {
  if (address === 0) return;
  if (size !== 8) throw new Errno(E.INVAL);
  const { memory } = task;
  task.temporaryMask(BigInt(memory.getU32(address)) | (BigInt(memory.getU32(address + 4)) << 32n));
}

function poll(task: Task, address: number, count: number, timeout: number | undefined): number {
  const { memory, process } = task;
  if (count > Math.min(process.limit(RLIMIT_NOFILE), MOST_FDS)) throw new Errno(E.INVAL);
  if (count > 0) memory.writable(address, count * POLLFD_SIZE);
  const deadline = deadlineOf(task, timeout);
  const files: OpenFile[] = [];
  const results: number[] = [];
  let ready = 0;
  for (let i = 0; i < count; i += 1) {
    const fd = memory.getI32(address + i * POLLFD_SIZE);
    const wanted = memory.getU16(address + i * POLLFD_SIZE + 4);
    let events = 0;
    if (fd >= 0) {
      const file = fileOrNone(task, fd);
      if (file === undefined) {
        events = POLLNVAL;
      } else {
        events = file.poll(task) & (wanted | POLLERR | POLLHUP);
        files.push(file);
      }
    }
    results.push(events);
    if (events !== 0) ready += 1;
  }
  if (ready === 0 && process.kernel.monotonic() < deadline) throw waitForAny(task, files, deadline);
  results.forEach((events, i) => memory.setU16(address + i * POLLFD_SIZE + 6, events));
  return ready;
}

function fileOrNone(task: Task, fd: number): OpenFile | undefined {
  try {
    return task.process.files.get(fd);
  } catch (problem) {
    if (problem instanceof Errno) return undefined;
    throw problem;
  }
}

/** How much of a timeout is left, as Linux writes it back; nothing once the time is over. */
function timeLeft(task: Task, deadline: number): number {
  return Math.max(0, deadline - task.process.kernel.monotonic());
}

/** Waits, and tells what is left of the time: at the end, and where a signal may end the wait. */
function timed(
  task: Task,
  timeout: number | undefined,
  tell: (left: number) => void,
  wait: () => number,
): number {
  const deadline = deadlineOf(task, timeout);
  try {
    const ready = wait();
    if (timeout !== undefined) tell(timeLeft(task, deadline));
    return ready;
  } catch (problem) {
    const mayEnd = problem instanceof Block && task.signalPending;
    if (mayEnd && timeout !== undefined) tell(timeLeft(task, deadline));
    throw problem;
  }
}

function ppoll(task: Task, a: readonly number[]): number {
  const [address, count, time, mask, maskSize] = a as [number, number, number, number, number];
  const timeout = readTimespec(task.memory, time);
  applyMask(task, mask, maskSize);
  const tell = (left: number): void => writeTimespec(task.memory, time, left);
  return timed(task, timeout, tell, () => poll(task, address, count >>> 0, timeout));
}

function select(
  task: Task,
  count: number,
  addresses: readonly [number, number, number],
  timeout: number | undefined,
): number {
  const { memory, process } = task;
  if (count < 0) throw new Errno(E.INVAL);
  const top = Math.min(count, MOST_FDS);
  const length = Math.ceil(top / 64) * 8;
  const wanted = addresses.map((at) => (at === 0 ? undefined : memory.readable(at, length).slice()));
  const results = addresses.map((at) => (at === 0 ? undefined : new Uint8Array(length)));
  const kinds = [READ_SET, WRITE_SET, EXCEPT_SET];
  const deadline = deadlineOf(task, timeout);
  const files: OpenFile[] = [];
  let ready = 0;
  for (let fd = 0; fd < top; fd += 1) {
    const bit = 1 << (fd & 7);
    if (!wanted.some((set) => set !== undefined && (set[fd >>> 3]! & bit) !== 0)) continue;
    const file = process.files.get(fd);
    const events = file.poll(task);
    files.push(file);
    wanted.forEach((set, kind) => {
      if (set === undefined || (set[fd >>> 3]! & bit) === 0 || (events & kinds[kind]!) === 0) return;
      results[kind]![fd >>> 3]! |= bit;
      ready += 1;
    });
  }
  if (ready === 0 && process.kernel.monotonic() < deadline) throw waitForAny(task, files, deadline);
  results.forEach((set, kind) => set !== undefined && memory.writable(addresses[kind]!, length).set(set));
  return ready;
}

/** The last argument is a `struct timeval`, in which the time left is written. */
function selectCall(task: Task, a: readonly number[]): number {
  const { memory } = task;
  const time = a[4]!;
  let timeout: number | undefined;
  if (time !== 0) {
    const seconds = memory.getI64(time);
    const micros = memory.getI64(time + 8);
    if (seconds < 0 || micros < 0) throw new Errno(E.INVAL);
    timeout = seconds * 1e9 + micros * 1e3;
  }
  const tell = (left: number): void => {
    memory.setI64(time, Math.floor(left / 1e9));
    memory.setI64(time + 8, Math.floor((left % 1e9) / 1e3));
  };
  return timed(task, timeout, tell, () => select(task, a[0]! | 0, [a[1]!, a[2]!, a[3]!], timeout));
}

/** The last argument is a pair of a signal set's address and its size. */
function pselect6(task: Task, a: readonly number[]): number {
  const { memory } = task;
  const time = a[4]!;
  const pair = a[5]!;
  const timeout = readTimespec(memory, time);
  if (pair !== 0) applyMask(task, memory.getI64(pair), memory.getI64(pair + 8));
  const tell = (left: number): void => writeTimespec(memory, time, left);
  return timed(task, timeout, tell, () => select(task, a[0]! | 0, [a[1]!, a[2]!, a[3]!], timeout));
}

export const pollingCalls: SystemCalls = {
  poll: (task, a) => {
    const milliseconds = a[2] | 0;
    return poll(task, a[0], a[1] >>> 0, milliseconds < 0 ? undefined : milliseconds * 1e6);
  },
  ppoll,
  select: selectCall,
  pselect6,
};
