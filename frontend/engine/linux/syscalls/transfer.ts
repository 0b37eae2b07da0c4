/** Bytes from file to file: sendfile, splice, tee, copy_file_range. */

import { E, Errno } from "../errno.ts";
import { PipeFile } from "../io/pipe.ts";
import { takeProgress } from "../io/pseudo.ts";
import type { OpenFile, SystemCalls, Task } from "../types.ts";
import { MOST_BYTES, O_APPEND, O_NONBLOCK, POLLIN, POLLOUT } from "../vfs/constants.ts";
import { RegularFile } from "../vfs/open-files.ts";
import { Block } from "../wait.ts";
import { usableFile } from "./file-arguments.ts";

const AT_ONCE = 65536;

/** A position in memory that moves with what was done; address 0: the file's own offset. */
class Position {
  private readonly reader: Task;
  private readonly address: number;
  private readonly file: OpenFile;
  value: number;

  constructor(task: Task, file: OpenFile, address: number) {
    this.reader = task;
    this.address = address;
    this.file = file;
    this.value = address === 0 ? file.offset : task.memory.getI64(address);
    if (this.value < 0) throw new Errno(E.INVAL);
  }

  advance(count: number): void {
    this.value += count;
    if (this.address === 0) this.file.offset = this.value;
    else this.reader.memory.setI64(this.address, this.value);
  }
}

/**
 * Moves until nothing is left to read or `length` is done; `step` moves some bytes and what they were counted by, 0 ends it.
 * Where it has to wait the call is made again with what is left.
 */
function repeat(task: Task, length: number, step: (most: number) => number): number {
  let done = takeProgress(task);
  try {
    while (done < length) {
      const most = Math.min(AT_ONCE, length - done);
      const count = step(most);
      done += count;
      if (count === 0) break;
    }
  } catch (problem) {
    if (done > 0 && (problem instanceof Errno || task.signalPending)) return done;
    if (problem instanceof Block && done > 0) task.restart = { ...task.restart, done };
    throw problem;
  }
  return done;
}

/** What was written before it had to wait counts as written: the rest is another step's. */
function partly(task: Task, write: Writer): Writer {
  return (bytes) => {
    try {
      return write(bytes);
    } catch (problem) {
      const done = problem instanceof Block ? takeProgress(task) : 0;
      if (done === 0) throw problem;
      return done;
    }
  };
}

/** Nothing is taken from `from` before `to` has it: so an attempt that blocks can be made again. */
function fromFile(task: Task, from: RegularFile, position: Position, to: Writer, most: number): number {
  const bytes = new Uint8Array(most);
  const count = from.read(task, bytes, position.value);
  if (count === 0) return 0;
  const written = to(bytes.subarray(0, count));
  position.advance(written);
  return written;
}

type Writer = (bytes: Uint8Array) => number;

function clamp(length: number): number {
  return length < 0 ? MOST_BYTES : Math.min(length, MOST_BYTES);
}

function sendfile(task: Task, out: OpenFile, from: OpenFile, offset: number, length: number): number {
  if (!(from instanceof RegularFile)) throw new Errno(E.INVAL);
  if (!from.canRead) throw new Errno(E.BADF);
  if ((out.flags & O_APPEND) !== 0) throw new Errno(E.INVAL);
  const position = new Position(task, from, offset);
  const writer = partly(task, (bytes) => out.write(task, bytes, null));
  return repeat(task, clamp(length), (most) => fromFile(task, from, position, writer, most));
}

const SPLICE_F_NONBLOCK = 2;

function writerTo(task: Task, file: OpenFile, offset: number): Writer {
  if (file instanceof PipeFile && offset !== 0) throw new Errno(E.SPIPE);
  if (offset === 0) return (bytes) => file.write(task, bytes, null);
  if (!(file instanceof RegularFile)) throw new Errno(E.SPIPE);
  const position = new Position(task, file, offset);
  return (bytes) => {
    const count = file.write(task, bytes, position.value);
    position.advance(count);
    return count;
  };
}

/** Bytes that are in a pipe now; none and nobody writes: the end. Throws `Block`. */
function available(pipe: PipeFile, nonBlocking: boolean): number {
  const { length } = pipe.pipe.data;
  if (length > 0 || !pipe.pipe.hasWriters) return length;
  if (nonBlocking || (pipe.flags & O_NONBLOCK) !== 0) throw new Errno(E.AGAIN);
  if ((pipe.poll() & POLLIN) !== 0) return 0;
  throw new Block([pipe.pollQueue]);
}

function splice(
  task: Task,
  from: OpenFile,
  fromOffset: number,
  to: OpenFile,
  toOffset: number,
  length: number,
  flags: number,
): number {
  if (!(from instanceof PipeFile) && !(to instanceof PipeFile)) throw new Errno(E.INVAL);
  if (!(from instanceof PipeFile) && (to.flags & O_APPEND) !== 0) throw new Errno(E.INVAL);
  if (length === 0) return 0;
  const nonBlocking = (flags & SPLICE_F_NONBLOCK) !== 0;
  const write = writerTo(task, to, toOffset);
  const most = Math.min(clamp(length), AT_ONCE);
  if (from instanceof PipeFile) {
    if (fromOffset !== 0) throw new Errno(E.SPIPE);
    const count = Math.min(most, available(from, nonBlocking));
    if (count === 0) return 0;
    const bytes = new Uint8Array(Math.min(count, room(to, nonBlocking)));
    from.pipe.data.peek(bytes);
    const written = write(bytes);
    from.read(task, bytes.subarray(0, written), null);
    return written;
  }
  if (from instanceof RegularFile) {
    const position = new Position(task, from, fromOffset);
    return fromFile(task, from, position, write, Math.min(most, room(to, nonBlocking)));
  }
  if (fromOffset !== 0) throw new Errno(E.SPIPE);
  const bytes = new Uint8Array(Math.min(most, room(to, nonBlocking)));
  const count = from.read(task, bytes, null);
  return count === 0 ? 0 : write(bytes.subarray(0, count));
}

/** How much a pipe takes without waiting; waits until it takes something. */
function room(to: OpenFile, nonBlocking: boolean): number {
  if (!(to instanceof PipeFile)) return AT_ONCE;
  const free = to.pipe.room;
  // Nobody reads: the write itself says so, with its signal.
  if (free > 0 || !to.pipe.hasReaders) return Math.max(1, free);
  if (nonBlocking || (to.flags & O_NONBLOCK) !== 0) throw new Errno(E.AGAIN);
  if ((to.poll() & POLLOUT) !== 0) return 1;
  throw new Block([to.pollQueue]);
}

function tee(task: Task, from: OpenFile, to: OpenFile, length: number, flags: number): number {
  if (!(from instanceof PipeFile) || !(to instanceof PipeFile)) throw new Errno(E.INVAL);
  if (from.pipe === to.pipe) throw new Errno(E.INVAL);
  const nonBlocking = (flags & SPLICE_F_NONBLOCK) !== 0;
  const count = Math.min(clamp(length), available(from, nonBlocking));
  if (count === 0) return 0;
  const bytes = new Uint8Array(Math.min(count, room(to, nonBlocking)));
  from.pipe.data.peek(bytes);
  return to.write(task, bytes, null);
}

function copyRange(
  task: Task,
  from: OpenFile,
  fromOffset: number,
  to: OpenFile,
  toOffset: number,
  length: number,
): number {
  if (!(from instanceof RegularFile) || !(to instanceof RegularFile)) {
    const isDirectory = [from, to].some((file) => (file.inode.stat().mode & 0o170000) === 0o040000);
    throw new Errno(isDirectory ? E.ISDIR : E.INVAL);
  }
  if (!from.canRead || !to.canWrite || (to.flags & O_APPEND) !== 0) throw new Errno(E.BADF);
  const source = new Position(task, from, fromOffset);
  const target = new Position(task, to, toOffset);
  const count = clamp(length);
  const isFirst = task.restart?.done === undefined;
  if (isFirst && from.inode === to.inode && Math.abs(source.value - target.value) < count)
    throw new Errno(E.INVAL);
  const put = partly(task, (bytes) => to.write(task, bytes, target.value));
  const write: Writer = (bytes) => {
    const written = put(bytes);
    target.advance(written);
    return written;
  };
  return repeat(task, count, (most) => fromFile(task, from, source, write, most));
}

export const transferCalls: SystemCalls = {
  sendfile: (task, a) => sendfile(task, usableFile(task, a[0]), usableFile(task, a[1]), a[2], a[3]),
  splice: (task, a) =>
    splice(task, usableFile(task, a[0]), a[1], usableFile(task, a[2]), a[3], a[4], a[5] | 0),
  tee: (task, a) => tee(task, usableFile(task, a[0]), usableFile(task, a[1]), a[2], a[3] | 0),
  copy_file_range: (task, a) => {
    if (a[5] !== 0) throw new Errno(E.INVAL);
    return copyRange(task, usableFile(task, a[0]), a[1], usableFile(task, a[2]), a[3], a[4]);
  },
};
