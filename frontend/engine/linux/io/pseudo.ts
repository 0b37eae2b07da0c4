/** Files without a file system: pipes, sockets, anonymous inodes. */

import { E, Errno } from "../errno.ts";
import type { Inode, Kernel, OpenFile, Stat, Task } from "../types.ts";
import { WaitQueue } from "../wait.ts";
import { FIONBIO, O_ACCMODE, O_NONBLOCK, O_RDONLY, O_WRONLY } from "./constants.ts";

/** Device numbers of the pseudo file systems, as /proc/self/mountinfo would show them. */
export const PIPE_DEVICE = 0x0d;
export const SOCKET_DEVICE = 0x08;
export const ANONYMOUS_DEVICE = 0x0e;

/** A number that no other pseudo inode of the machine has. */
export function nextInode(kernel: Kernel): number {
  kernel.lastInode += 1;
  return kernel.lastInode;
}

/** O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC, O_CLOEXEC: F_GETFL does not tell them. */
const AT_OPEN_ONLY = 0o2001700;

export class PseudoInode implements Inode {
  readonly ino: number;
  readonly version = 0;
  private readonly attributes: Stat;

  constructor(task: Task, dev: number, mode: number) {
    const { kernel, credentials } = task.process;
    this.ino = nextInode(kernel);
    const now = kernel.realtime();
    this.attributes = {
      dev,
      ino: this.ino,
      mode,
      nlink: 1,
      uid: credentials.fsuid,
      gid: credentials.fsgid,
      rdev: 0,
      size: 0,
      blksize: 4096,
      blocks: 0,
      atime: now,
      mtime: now,
      ctime: now,
    };
  }

  stat(): Stat {
    return { ...this.attributes };
  }

  /** What fchmod and fchown of a pipe or socket change. */
  change(changes: Partial<Pick<Stat, "mode" | "uid" | "gid">>): void {
    Object.assign(this.attributes, changes);
  }

  page(): Uint8Array {
    throw new Errno(E.NODEV);
  }

  pageDirtied(): void {}
  hold(): void {}
  drop(): void {}
}

/** What most such files answer; each says what it can do. */
export abstract class PseudoFile implements OpenFile {
  flags: number;
  offset = 0;
  references = 1;
  readonly pollQueue: WaitQueue;
  readonly inode: Inode;
  abstract readonly name: string;

  constructor(inode: Inode, flags: number, pollQueue = new WaitQueue()) {
    this.inode = inode;
    this.flags = flags & ~AT_OPEN_ONLY;
    this.pollQueue = pollQueue;
  }

  read(_task: Task, _into: Uint8Array, _position: number | null): number {
    throw new Errno(E.INVAL);
  }

  write(_task: Task, _from: Uint8Array, _position: number | null): number {
    throw new Errno(E.INVAL);
  }

  abstract poll(task: Task): number;

  ioctl(task: Task, request: number, argument: number): number {
    if (request === FIONBIO) return this.setNonBlocking(task, argument);
    throw new Errno(E.NOTTY);
  }

  release(): void {}

  protected setNonBlocking(task: Task, argument: number): number {
    if (task.memory.getU32(argument) !== 0) this.flags |= O_NONBLOCK;
    else this.flags &= ~O_NONBLOCK;
    return 0;
  }

  get nonBlocking(): boolean {
    return (this.flags & O_NONBLOCK) !== 0;
  }

  /** Throws EBADF where the access mode forbids it, as read and write do. */
  protected mustRead(): void {
    if ((this.flags & O_ACCMODE) === O_WRONLY) throw new Errno(E.BADF);
  }

  protected mustWrite(): void {
    if ((this.flags & O_ACCMODE) === O_RDONLY) throw new Errno(E.BADF);
  }
}

/** Positions mean nothing to streams: pread and pwrite fail. */
export function refusePosition(position: number | null): void {
  if (position !== null) throw new Errno(E.SPIPE);
}

/**
 * Bytes that earlier attempts of this call have moved. They count once: a call that moves more afterwards begins anew; who
 * blocks with some done notes them again.
 */
export function takeProgress(task: Task): number {
  const done = task.restart?.done;
  if (done === undefined) return 0;
  delete task.restart!.done;
  return done;
}
