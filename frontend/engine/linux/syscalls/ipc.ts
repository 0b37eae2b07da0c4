/** shmget and semget with what belongs to them (System V IPC). */

import { PAGE_SIZE } from "../abi.ts";
import { E, Errno } from "../errno.ts";
import {
  IPC_LIMITS,
  mustAllow,
  mustOwn,
  type Owned,
  type Segment,
  type SemaphoreSet,
  SHM_DEST,
} from "../ipc.ts";
import { pageUp, PROT_EXEC, PROT_READ, PROT_WRITE } from "../memory/areas.ts";
import { SharedMemory } from "../memory/shared.ts";
import { ofThreads, type Thread } from "../task.ts";
import { Block, WaitQueue } from "../wait.ts";
import { readTimespec } from "./clocks.ts";
import { atPlace, IPC_INFO, tellSegments, tellSets } from "./system-v-info.ts";

export const IPC_RMID = 0;
export const IPC_SET = 1;
export const IPC_STAT = 2;
export const IPC_NOWAIT = 0o4000;
const SHM_RDONLY = 0o10000;
const SHM_RND = 0o20000;
const SHM_REMAP = 0o40000;
const SHM_EXEC = 0o100000;
const SEM_UNDO = 0x1000;
const SHM_LOCK = 11;
const SHM_UNLOCK = 12;
const SHM_STAT = 13;
const SHM_LOCKED = 0o2000;
const SHM_INFO = 14;
const SHM_STAT_ANY = 15;
const SEM_STAT = 18;
const SEM_INFO = 19;
const SEM_STAT_ANY = 20;
const GETPID = 11;
const GETVAL = 12;
const GETALL = 13;
const GETNCNT = 14;
const GETZCNT = 15;
const SETVAL = 16;
const SETALL = 17;

export function seconds(thread: Thread): number {
  return thread.process.kernel.realtime().seconds;
}

/** struct ipc64_perm. */
export function writeOwner(thread: Thread, at: number, object: Owned, mode: number): void {
  const { memory } = thread;
  memory.writable(at, 48).fill(0);
  [object.key, object.uid, object.gid, object.cuid, object.cgid, mode].forEach((value, index) => {
    memory.setU32(at + index * 4, value >>> 0);
  });
}

export function setOwner(thread: Thread, at: number, object: Owned): void {
  const { memory } = thread;
  object.uid = memory.getU32(at + 4);
  object.gid = memory.getU32(at + 8);
  object.mode = (object.mode & ~0o777) | (memory.getU32(at + 20) & 0o777);
  object.changed = seconds(thread);
}

function openSegment(thread: Thread, key: number, size: number, flags: number): number {
  const { process } = thread;
  const { ipc } = process.kernel;
  ipc.sweep();
  const segment = ipc.segments.open(
    key,
    flags,
    process.credentials,
    IPC_LIMITS.segments,
    (owned): Segment => {
      if (size < 1 || size > IPC_LIMITS.segmentBytes) throw new Errno(E.INVAL);
      const memory = new SharedMemory(pageUp(size));
      memory.hold();
      const times = { changed: seconds(thread), attachTime: 0, detachTime: 0 };
      return { ...owned, size, memory, removed: false, creator: process.pid, lastPid: 0, ...times };
    },
  );
  if (size > segment.size) throw new Errno(E.INVAL);
  return segment.id;
}

function attach(thread: Thread, id: number, address: number, flags: number): number {
  const { process, maps } = thread;
  const segment = process.kernel.ipc.segments.get(id);
  const readOnly = (flags & SHM_RDONLY) !== 0;
  mustAllow(segment, process.credentials, readOnly ? 4 : 6);
  let at: number | undefined;
  if (address !== 0) {
    const rounded = (flags & SHM_RND) !== 0 ? address - (address % PAGE_SIZE) : address;
    if (rounded % PAGE_SIZE !== 0) throw new Errno(E.INVAL);
    const end = rounded + segment.memory.size;
    if ((flags & SHM_REMAP) === 0 && !maps.areas.isFree(rounded, end)) throw new Errno(E.INVAL);
    at = rounded;
  }
  const start = maps.map(at, {
    length: segment.memory.size,
    prot: PROT_READ | (readOnly ? 0 : PROT_WRITE) | ((flags & SHM_EXEC) !== 0 ? PROT_EXEC : 0),
    shared: true,
    backing: segment.memory,
    offset: 0,
    name: `/SYSV${(segment.key >>> 0).toString(16).padStart(8, "0")} (deleted)`,
  });
  segment.lastPid = process.pid;
  segment.attachTime = seconds(thread);
  return start;
}

function detach(thread: Thread, address: number): number {
  const { maps, process } = thread;
  const area = maps.areas.find(address);
  if (area === undefined || area.start !== address) throw new Errno(E.INVAL);
  const { backing } = area;
  if (!(backing instanceof SharedMemory) || !area.name.startsWith("/SYSV")) throw new Errno(E.INVAL);
  maps.unmap(area.start, area.end - area.start);
  for (const segment of process.kernel.ipc.segments.values()) {
    if (segment.memory !== backing) continue;
    segment.lastPid = process.pid;
    segment.detachTime = seconds(thread);
  }
  process.kernel.ipc.sweep();
  return 0;
}

/** struct shmid64_ds. */
function writeSegment(thread: Thread, at: number, segment: Segment): void {
  const { memory } = thread;
  memory.writable(at, 112).fill(0);
  writeOwner(thread, at, segment, segment.mode | (segment.removed ? SHM_DEST : 0));
  memory.setI64(at + 48, segment.size);
  memory.setI64(at + 56, segment.attachTime);
  memory.setI64(at + 64, segment.detachTime);
  memory.setI64(at + 72, segment.changed);
  memory.setU32(at + 80, segment.creator);
  memory.setU32(at + 84, segment.lastPid);
  memory.setI64(at + 88, segment.memory.holders - 1);
}

function controlSegment(thread: Thread, id: number, command: number, at: number): number {
  const { process } = thread;
  const { ipc } = process.kernel;
  if (command === IPC_INFO || command === SHM_INFO) return tellSegments(thread, at, command === SHM_INFO);
  const byPlace = command === SHM_STAT || command === SHM_STAT_ANY;
  const segment = byPlace ? atPlace(ipc.segments, id) : ipc.segments.get(id);
  switch (command) {
    case IPC_RMID:
      mustOwn(segment, process.credentials);
      segment.removed = true;
      segment.key = 0;
      ipc.sweep();
      return 0;
    case IPC_SET:
      mustOwn(segment, process.credentials);
      setOwner(thread, at, segment);
      return 0;
    case SHM_LOCK:
    case SHM_UNLOCK:
      // Nothing is ever swapped out anyway.
      mustOwn(segment, process.credentials);
      segment.mode = (segment.mode & 0o777) | (command === SHM_LOCK ? SHM_LOCKED : 0);
      return 0;
    case IPC_STAT:
    case SHM_STAT:
    case SHM_STAT_ANY:
      if (command !== SHM_STAT_ANY) mustAllow(segment, process.credentials, 4);
      writeSegment(thread, at, segment);
      return byPlace ? segment.id : 0;
    default:
      throw new Errno(E.INVAL);
  }
}

function openSet(thread: Thread, key: number, count: number, flags: number): number {
  const { process } = thread;
  const { credentials, kernel } = process;
  const set = kernel.ipc.semaphores.open(key, flags, credentials, IPC_LIMITS.sets, (owned): SemaphoreSet => {
    if (count < 1 || count > IPC_LIMITS.semaphores) throw new Errno(E.INVAL);
    const semaphores = Array.from({ length: count }, () => ({ value: 0, pid: 0 }));
    return { ...owned, changed: seconds(thread), semaphores, operated: 0, queue: new WaitQueue() };
  });
  if (count > set.semaphores.length) throw new Errno(E.INVAL);
  return set.id;
}

function operate(thread: Thread, id: number, at: number, count: number, timeout: number): number {
  const { process, memory } = thread;
  const { kernel } = process;
  if (count < 1) throw new Errno(E.INVAL);
  if (count > IPC_LIMITS.operations) throw new Errno(E["2BIG"]);
  const set = kernel.ipc.semaphores.find(id);
  // It was there when the wait began: somebody has removed it.
  if (set === undefined) throw new Errno(thread.restart === undefined ? E.INVAL : E.IDRM);
  const values = set.semaphores.map(({ value }) => value);
  const undo = new Map(process.semaphoreUndo);
  for (let each = 0; each < count; each += 1) {
    const entry = at + each * 6;
    const index = memory.getU16(entry);
    const change = (memory.getU16(entry + 2) << 16) >> 16;
    const flags = memory.getU16(entry + 4);
    const value = values[index];
    if (value === undefined) throw new Errno(E.FBIG);
    mustAllow(set, process.credentials, change === 0 ? 4 : 2);
    if (change === 0 ? value !== 0 : value + change < 0) {
      if ((flags & IPC_NOWAIT) !== 0) throw new Errno(E.AGAIN);
      let deadline = thread.restart?.deadline ?? Infinity;
      if (thread.restart === undefined && timeout !== 0) {
        deadline = kernel.monotonic() + readTimespec(thread, timeout);
      }
      if (kernel.monotonic() >= deadline) throw new Errno(E.AGAIN);
      thread.restart = deadline === Infinity ? {} : { deadline };
      throw new Block([set.queue], deadline);
    }
    if (value + change > IPC_LIMITS.value) throw new Errno(E.RANGE);
    values[index] = value + change;
    if ((flags & SEM_UNDO) !== 0) undo.set(`${id}:${index}`, (undo.get(`${id}:${index}`) ?? 0) - change);
  }
  set.semaphores.forEach((semaphore, index) => {
    if (semaphore.value !== values[index]) semaphore.pid = process.pid;
    semaphore.value = values[index]!;
  });
  process.semaphoreUndo = undo;
  set.operated = seconds(thread);
  set.queue.wake();
  return 0;
}

function controlSet(thread: Thread, id: number, index: number, command: number, at: number): number {
  const { process, memory } = thread;
  const { ipc } = process.kernel;
  if (command === IPC_INFO || command === SEM_INFO) return tellSets(thread, at, command === SEM_INFO);
  const byPlace = command === SEM_STAT || command === SEM_STAT_ANY;
  const set = byPlace ? atPlace(ipc.semaphores, id) : ipc.semaphores.get(id);
  const who = process.credentials;
  const one = set.semaphores[index];
  const changed = (): number => {
    set.changed = seconds(thread);
    set.queue.wake();
    return 0;
  };
  switch (command) {
    case IPC_RMID:
      mustOwn(set, who);
      ipc.semaphores.remove(set);
      set.queue.wake();
      return 0;
    case IPC_SET:
      mustOwn(set, who);
      setOwner(thread, at, set);
      return 0;
    case IPC_STAT:
    case SEM_STAT:
    case SEM_STAT_ANY:
      if (command !== SEM_STAT_ANY) mustAllow(set, who, 4);
      // struct semid64_ds
      memory.writable(at, 104).fill(0);
      writeOwner(thread, at, set, set.mode);
      memory.setI64(at + 48, set.operated);
      memory.setI64(at + 64, set.changed);
      memory.setI64(at + 80, set.semaphores.length);
      return byPlace ? set.id : 0;
    case GETALL:
      mustAllow(set, who, 4);
      set.semaphores.forEach(({ value }, each) => memory.setU16(at + each * 2, value));
      return 0;
    case SETALL: {
      mustAllow(set, who, 2);
      const values = set.semaphores.map((_, each) => memory.getU16(at + each * 2));
      if (values.some((value) => value > IPC_LIMITS.value)) throw new Errno(E.RANGE);
      set.semaphores.forEach((semaphore, each) => (semaphore.value = values[each]!));
      return changed();
    }
    default:
      break;
  }
  if (one === undefined) throw new Errno(E.INVAL);
  switch (command) {
    case GETVAL:
      return one.value;
    case GETPID:
      return one.pid;
    case GETNCNT:
    case GETZCNT:
      // Who waits is only known to the queue of the whole set.
      return set.queue.empty ? 0 : 1;
    case SETVAL:
      mustAllow(set, who, 2);
      if ((at | 0) < 0 || (at | 0) > IPC_LIMITS.value) throw new Errno(E.RANGE);
      one.value = at | 0;
      one.pid = process.pid;
      return changed();
    default:
      throw new Errno(E.INVAL);
  }
}

export const ipcCalls = ofThreads({
  shmget: (thread, a) => openSegment(thread, a[0] | 0, a[1], a[2] | 0),
  shmat: (thread, a) => attach(thread, a[0] | 0, a[1], a[2] | 0),
  shmdt: (thread, a) => detach(thread, a[0]),
  shmctl: (thread, a) => controlSegment(thread, a[0] | 0, a[1] | 0, a[2]),
  semget: (thread, a) => openSet(thread, a[0] | 0, a[1] | 0, a[2] | 0),
  semop: (thread, a) => operate(thread, a[0] | 0, a[1], a[2], 0),
  semtimedop: (thread, a) => operate(thread, a[0] | 0, a[1], a[2], a[3]),
  semctl: (thread, a) => controlSet(thread, a[0] | 0, a[1] | 0, a[2] | 0, a[3]),
});
