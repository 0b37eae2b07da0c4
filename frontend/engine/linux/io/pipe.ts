/** Pipes: a queue of bytes with readers and writers; FIFOs are pipes that hang on an inode of a file system. */

import { E, Errno } from "../errno.ts";
import type { Inode, Task } from "../types.ts";
import { Block, WaitQueue } from "../wait.ts";
import { ByteQueue } from "./bytes.ts";
import {
  FIONREAD,
  O_ACCMODE,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  POLLERR,
  POLLHUP,
  READABLE,
  SIGPIPE,
  WRITABLE,
} from "./constants.ts";
import { PseudoFile, refusePosition, takeProgress } from "./pseudo.ts";

/** Writes up to this size are never mixed with others'. */
export const PIPE_BUF = 4096;
const DEFAULT_CAPACITY = 65536;
/** /proc/sys/fs/pipe-max-size. */
export const PIPE_MAX_SIZE = 1048576;

/** An open of a FIFO that waits for the other side; it counts as open meanwhile. Void once its task does something else. */
interface WaitingOpen {
  readonly task: Task;
  readonly token: number;
  readonly mode: number;
}

export class Pipe {
  readonly data = new ByteQueue();
  capacity = DEFAULT_CAPACITY;
  readers = 0;
  writers = 0;
  /** How often each side has been opened: a FIFO's open that waits sees an opener who has gone again. */
  readerOpens = 0;
  writerOpens = 0;
  readonly pollQueue = new WaitQueue();
  private waitingOpens: WaitingOpen[] = [];
  private nextToken = 1;

  get room(): number {
    return Math.max(0, this.capacity - this.data.length);
  }

  /** Wakes who reads, for bytes or their end. */
  changed(events: number): void {
    this.pollQueue.wake(Infinity, events);
  }

  opened(mode: number): void {
    if (mode !== O_WRONLY) {
      this.readers += 1;
      this.readerOpens += 1;
    }
    if (mode !== O_RDONLY) {
      this.writers += 1;
      this.writerOpens += 1;
    }
    this.changed(-1);
  }

  closed(mode: number): void {
    if (mode !== O_WRONLY) this.readers -= 1;
    if (mode !== O_RDONLY) this.writers -= 1;
    this.changed(-1);
    if (!this.inUse) this.data.clear();
  }

  /** The rules of opening a FIFO (fifo(7)); throws `Block` until the other side comes. */
  open(task: Task, mode: number, nonBlocking: boolean): void {
    const restart = task.restart;
    if (mode === O_RDWR || (mode === O_RDONLY && nonBlocking)) return this.opened(mode);
    if (restart?.["fifo"] === undefined) {
      const there = mode === O_RDONLY ? this.present(O_WRONLY) : this.present(O_RDONLY);
      if (there) return this.opened(mode);
      if (nonBlocking) throw new Errno(E.NXIO);
      const token = this.nextToken++;
      this.waitingOpens.push({ task, token, mode });
      const opens = mode === O_RDONLY ? this.writerOpens : this.readerOpens;
      task.restart = { ...restart, fifo: token, opens };
      // Who waits is there for the other side already: it may stand in its open, too.
      this.changed(-1);
    } else if ((mode === O_RDONLY ? this.writerOpens : this.readerOpens) !== restart["opens"]) {
      const token = restart["fifo"];
      this.waitingOpens = this.waitingOpens.filter((open) => open.token !== token);
      return this.opened(mode);
    }
    throw new Block([this.pollQueue]);
  }

  private present(mode: number): boolean {
    if ((mode === O_RDONLY ? this.readers : this.writers) > 0) return true;
    this.waitingOpens = this.waitingOpens.filter((open) => open.task.restart?.["fifo"] === open.token);
    return this.waitingOpens.some((open) => open.mode === mode);
  }

  get hasReaders(): boolean {
    return this.present(O_RDONLY);
  }

  get hasWriters(): boolean {
    return this.present(O_WRONLY);
  }

  /** Whether anybody has it open or is about to. */
  get inUse(): boolean {
    return this.hasReaders || this.hasWriters;
  }

  /** F_SETPIPE_SZ: rounded up to a power of two of pages; never below what is in it. */
  resize(task: Task, wanted: number): number {
    if (wanted <= 0 || wanted > 0x80000000) throw new Errno(E.INVAL);
    let size = 4096;
    while (size < wanted) size *= 2;
    if (size > PIPE_MAX_SIZE && task.process.credentials.euid !== 0) throw new Errno(E.PERM);
    if (size < this.data.length) throw new Errno(E.BUSY);
    this.capacity = size;
    this.changed(WRITABLE);
    return size;
  }
}

/** An end of a pipe, or both of a FIFO opened for reading and writing. */
export class PipeFile extends PseudoFile {
  readonly pipe: Pipe;
  readonly name: string;

  /** `pipe.writerOpens` as it was when this was opened without a writer: no hang-up before one has come and gone. */
  private readonly writersBefore: number;

  /** `pipe.opened` was called for it. */
  constructor(pipe: Pipe, inode: Inode, flags: number, name: string, writersBefore = -1) {
    super(inode, flags, pipe.pollQueue);
    this.pipe = pipe;
    this.name = name;
    this.writersBefore = writersBefore;
  }

  override read(task: Task, into: Uint8Array, position: number | null): number {
    refusePosition(position);
    this.mustRead();
    if (into.length === 0) return 0;
    this.waitForData(task);
    const count = this.pipe.data.take(into);
    if (count > 0) this.pipe.changed(WRITABLE);
    return count;
  }

  /** Goes on where there is something to read, or the end. For splice and tee, too. */
  waitForData(_task: Task, nonBlocking = this.nonBlocking): void {
    if (this.pipe.data.length > 0 || !this.pipe.hasWriters) return;
    if (nonBlocking) throw new Errno(E.AGAIN);
    throw new Block([this.pipe.pollQueue]);
  }

  /** The bytes there is room for now, at least `wanted`. Throws EPIPE (and sends SIGPIPE) without readers. */
  waitForRoom(task: Task, wanted: number, nonBlocking = this.nonBlocking): number {
    if (!this.pipe.hasReaders) {
      task.process.kernel.signalProcess(task.process, SIGPIPE);
      throw new Errno(E.PIPE);
    }
    if (this.pipe.room >= wanted) return this.pipe.room;
    if (nonBlocking) throw new Errno(E.AGAIN);
    throw new Block([this.pipe.pollQueue]);
  }

  override write(task: Task, from: Uint8Array, position: number | null): number {
    refusePosition(position);
    this.mustWrite();
    if (from.length === 0) return 0;
    let done = takeProgress(task);
    try {
      // What is not longer than PIPE_BUF goes as a whole.
      const wanted = from.length <= PIPE_BUF ? Math.min(from.length, this.pipe.capacity) : 1;
      while (done < from.length) {
        const room = this.waitForRoom(task, done === 0 ? wanted : 1);
        const part = from.subarray(done, done + room);
        this.pipe.data.push(part);
        done += part.length;
        this.pipe.changed(READABLE);
      }
      return done;
    } catch (problem) {
      if (problem instanceof Errno && done > 0) return done;
      if (problem instanceof Block && done > 0) {
        if (task.signalPending) return done;
        task.restart = { ...task.restart, done };
      }
      throw problem;
    }
  }

  override poll(): number {
    const mode = this.flags & O_ACCMODE;
    let events = 0;
    if (mode !== O_WRONLY) {
      if (this.pipe.data.length > 0) events |= READABLE;
      if (!this.pipe.hasWriters && this.pipe.writerOpens !== this.writersBefore) events |= POLLHUP;
    }
    if (mode !== O_RDONLY) {
      if (this.pipe.room >= PIPE_BUF) events |= WRITABLE;
      if (!this.pipe.hasReaders) events |= POLLERR;
    }
    return events;
  }

  override ioctl(task: Task, request: number, argument: number): number {
    if (request !== FIONREAD) return super.ioctl(task, request, argument);
    task.memory.setU32(argument, this.pipe.data.length);
    return 0;
  }

  override release(): void {
    this.pipe.closed(this.flags & O_ACCMODE);
  }
}
