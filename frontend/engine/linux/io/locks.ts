/** flock(2) and fcntl(2) locks of ranges: a process's (its table of descriptors) and an open file's (OFD). */

import { E, Errno } from "../errno.ts";
import type { FileTable, Inode, OpenFile, Task } from "../types.ts";
import { Block, WaitQueue } from "../wait.ts";
import type { FileLocks } from "../vfs/hooks.ts";
import { O_ACCMODE, O_RDONLY, O_WRONLY } from "./constants.ts";
import { inodeKey } from "./keys.ts";
import { type RangeLock, addRange, conflicting, removeRange } from "./ranges.ts";

const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const F_GETLK = 5;
const F_SETLK = 6;
const F_SETLKW = 7;
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_OFD_SETLKW = 38;
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;
/** Bytes of `struct flock`. */
const FLOCK_SIZE = 32;
const LAST = Number.MAX_SAFE_INTEGER;

/** Whose a range is. */
type Owner = FileTable | OpenFile;

interface FileLockState {
  ranges: RangeLock<Owner>[];
  whole: { file: OpenFile; exclusive: boolean }[];
  queue: WaitQueue;
}

/** Who waits for a range; void once the task does something else. */
interface Waiting {
  task: Task;
  token: number;
  owner: Owner;
  blocker: Owner;
}

export class Locks implements FileLocks {
  private readonly files = new Map<string, FileLockState>();
  private waiting: Waiting[] = [];
  private nextToken = 1;

  private state(inode: Inode): FileLockState {
    const key = inodeKey(inode);
    let state = this.files.get(key);
    if (state === undefined) {
      this.files.set(key, (state = { ranges: [], whole: [], queue: new WaitQueue() }));
    }
    return state;
  }

  /** Whoever waits looks again; what is not locked any more is forgotten. */
  private changed(inode: Inode, state: FileLockState): void {
    if (state.ranges.length === 0 && state.whole.length === 0) this.files.delete(inodeKey(inode));
    state.queue.wake();
  }

  flock(_task: Task, file: OpenFile, operation: number): number {
    const kind = operation & ~LOCK_NB;
    if (kind !== LOCK_SH && kind !== LOCK_EX && kind !== LOCK_UN) throw new Errno(E.INVAL);
    const state = this.state(file.inode);
    const exclusive = kind === LOCK_EX;
    const own = state.whole.find((lock) => lock.file === file);
    if (own !== undefined && kind !== LOCK_UN && own.exclusive === exclusive) return 0;
    // Changing the kind gives the lock up first, as on Linux.
    state.whole = state.whole.filter((lock) => lock.file !== file && lock.file.references > 0);
    if (own !== undefined) state.queue.wake();
    if (kind === LOCK_UN) {
      this.changed(file.inode, state);
      return 0;
    }
    if (state.whole.some((lock) => exclusive || lock.exclusive)) {
      if ((operation & LOCK_NB) !== 0) throw new Errno(E.AGAIN);
      throw new Block([state.queue]);
    }
    state.whole.push({ file, exclusive });
    return 0;
  }

  control(task: Task, file: OpenFile, command: number, argument: number): number {
    const { memory } = task;
    const ofFile = command >= F_OFD_GETLK;
    const owner: Owner = ofFile ? file : task.process.files;
    memory.readable(argument, FLOCK_SIZE);
    const type = memory.getU16(argument);
    const [start, end] = this.range(task, file, argument);
    if (ofFile && memory.getI32(argument + 24) !== 0) throw new Errno(E.INVAL);
    switch (command) {
      case F_GETLK:
      case F_OFD_GETLK:
        if (type !== F_RDLCK && type !== F_WRLCK) throw new Errno(E.INVAL);
        this.ask(task, file, argument, { owner, pid: 0, exclusive: type === F_WRLCK, start, end });
        return 0;
      case F_SETLK:
      case F_SETLKW:
      case F_OFD_SETLK:
      case F_OFD_SETLKW: {
        if (type !== F_RDLCK && type !== F_WRLCK && type !== F_UNLCK) throw new Errno(E.INVAL);
        const mode = file.flags & O_ACCMODE;
        if ((type === F_RDLCK && mode === O_WRONLY) || (type === F_WRLCK && mode === O_RDONLY)) {
          throw new Errno(E.BADF);
        }
        const pid = ofFile ? -1 : task.process.pid;
        const range = { owner, pid, exclusive: type === F_WRLCK, start, end };
        const waits = command === F_SETLKW || command === F_OFD_SETLKW;
        this.set(task, file.inode, range, type === F_UNLCK, waits);
        return 0;
      }
      default:
        throw new Errno(E.INVAL);
    }
  }

  /** First and last byte. */
  private range(task: Task, file: OpenFile, at: number): [number, number] {
    const { memory } = task;
    const whence = memory.getU16(at + 2);
    if (whence > 2) throw new Errno(E.INVAL);
    const base = whence === 0 ? 0 : whence === 1 ? file.offset : file.inode.stat().size;
    let start = base + memory.getI64(at + 8);
    const length = memory.getI64(at + 16);
    if (start > LAST) throw new Errno(E.OVERFLOW);
    let end = LAST;
    if (length > 0) {
      end = start + length - 1;
    } else if (length < 0) {
      end = start - 1;
      start += length;
    }
    if (start < 0) throw new Errno(E.INVAL);
    return [start, Math.min(end, LAST)];
  }

  private ask(task: Task, file: OpenFile, at: number, wanted: RangeLock<Owner>): void {
    const { memory } = task;
    const found = conflicting(this.files.get(inodeKey(file.inode))?.ranges ?? [], wanted);
    if (found === undefined) {
      memory.setU16(at, F_UNLCK);
      return;
    }
    memory.setU16(at, found.exclusive ? F_WRLCK : F_RDLCK);
    memory.setU16(at + 2, 0);
    memory.setI64(at + 8, found.start);
    memory.setI64(at + 16, found.end === LAST ? 0 : found.end - found.start + 1);
    memory.setU32(at + 24, found.pid >>> 0);
  }

  private set(task: Task, inode: Inode, range: RangeLock<Owner>, unlock: boolean, waits: boolean): void {
    const state = this.state(inode);
    if (unlock) {
      state.ranges = removeRange(state.ranges, range.owner, range.start, range.end);
      return this.changed(inode, state);
    }
    const blocker = conflicting(state.ranges, range);
    if (blocker === undefined) {
      state.ranges = addRange(state.ranges, range);
      // A lock for reading instead of one for writing may let others in.
      return this.changed(inode, state);
    }
    if (!waits) throw new Errno(E.AGAIN);
    // Locks of open files take no part in deadlocks: nobody in particular waits for them.
    if (range.pid !== -1) this.mustNotDeadlock(range.owner, blocker.owner);
    this.note(task, range.owner, blocker.owner);
    throw new Block([state.queue]);
  }

  private note(task: Task, owner: Owner, blocker: Owner): void {
    const token = (task.restart?.["lock"] as number | undefined) ?? this.nextToken++;
    task.restart = { ...task.restart, lock: token };
    this.waiting = this.waiting.filter((wait) => isWaiting(wait) && wait.token !== token);
    this.waiting.push({ task, token, owner, blocker });
  }

  private mustNotDeadlock(owner: Owner, blocker: Owner): void {
    let next: Owner | undefined = blocker;
    for (let i = 0; i < 10 && next !== undefined; i += 1) {
      const wait: Waiting | undefined = this.waiting.find(
        (other) => other.owner === next && isWaiting(other),
      );
      if (wait?.blocker === owner) throw new Errno(E.DEADLK);
      next = wait?.blocker;
    }
  }

  closed(files: FileTable, file: OpenFile): void {
    this.drop(file.inode, files);
  }

  released(file: OpenFile): void {
    const state = this.files.get(inodeKey(file.inode));
    if (state === undefined) return;
    state.whole = state.whole.filter((lock) => lock.file !== file);
    state.ranges = removeRange(state.ranges, file, 0, LAST);
    this.changed(file.inode, state);
  }

  private drop(inode: Inode, owner: Owner): void {
    if (this.files.size === 0) return;
    const state = this.files.get(inodeKey(inode));
    if (state === undefined || !state.ranges.some((lock) => lock.owner === owner)) return;
    state.ranges = removeRange(state.ranges, owner, 0, LAST);
    this.changed(inode, state);
  }

  /** Lines of /proc/locks. */
  *describe(): Iterable<string> {
    let number = 1;
    for (const [key, { ranges, whole }] of this.files) {
      const [dev, ino] = key.split(":").map(Number) as [number, number];
      const hex = (value: number): string => value.toString(16).padStart(2, "0");
      const where = `${hex((dev >>> 8) & 0xfff)}:${hex(dev & 0xff)}:${ino}`;
      for (const { exclusive } of whole) {
        yield `${number++}: FLOCK  ADVISORY  ${exclusive ? "WRITE" : "READ "} -1 ${where} 0 EOF`;
      }
      for (const { exclusive, pid, start, end } of ranges) {
        const kind = pid === -1 ? "OFDLCK" : "POSIX ";
        const last = end === LAST ? "EOF" : end;
        yield `${number++}: ${kind} ADVISORY  ${exclusive ? "WRITE" : "READ "} ${pid} ${where} ${start} ${last}`;
      }
    }
  }
}

function isWaiting(wait: Waiting): boolean {
  return wait.task.restart?.["lock"] === wait.token;
}
