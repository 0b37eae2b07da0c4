/** Open regular files, directories, and O_PATH descriptors. */

import { E, Errno } from "../errno.ts";
import type { ByteString, OpenFile, Task } from "../types.ts";
import { Block, WaitQueue } from "../wait.ts";
import * as C from "./constants.ts";
import { IN_ACCESS, IN_CLOSE_NOWRITE, IN_CLOSE_WRITE, IN_MODIFY } from "./hooks.ts";
import type { Entry, FsInode } from "./inode.ts";
import { describe, type Location, parentOf } from "./mounts.ts";
import { notify } from "./notify.ts";

const FIONREAD = 0x541b;
const NO_WAITERS = new WaitQueue();

/** What stands behind a place of a file system. */
export abstract class PlacedFile implements OpenFile {
  flags: number;
  offset = 0;
  references = 1;
  readonly pollQueue = NO_WAITERS;
  readonly location: Location;

  constructor(location: Location, flags: number) {
    this.location = location;
    this.flags = flags;
    this.inode.hold();
  }

  get inode(): FsInode {
    return this.location.dentry.inode;
  }

  get name(): ByteString {
    return describe(this.location, this.location.mount.vfs.root);
  }

  get canRead(): boolean {
    return (this.flags & C.O_ACCMODE) !== C.O_WRONLY;
  }

  get canWrite(): boolean {
    return (this.flags & C.O_ACCMODE) !== C.O_RDONLY;
  }

  abstract read(task: Task, into: Uint8Array, position: number | null): number;
  abstract write(task: Task, from: Uint8Array, position: number | null): number;

  poll(_task: Task): number {
    return C.POLLIN | C.POLLOUT | C.POLLRDNORM | C.POLLWRNORM;
  }

  ioctl(_task: Task, _request: number, _argument: number): number {
    throw new Errno(E.NOTTY);
  }

  release(): void {
    const { hooks } = this.location.mount.vfs;
    notify(this.location, this.canWrite ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
    hooks.locks?.released(this);
    this.inode.drop();
  }
}

export class RegularFile extends PlacedFile {
  read(_task: Task, into: Uint8Array, position: number | null): number {
    if (!this.canRead) throw new Errno(E.BADF);
    const count = this.inode.read(position ?? this.offset, into);
    if (position === null) this.offset += count;
    if (count > 0) {
      if ((this.flags & C.O_NOATIME) === 0) touchAccess(this.location);
      notify(this.location, IN_ACCESS);
    }
    return count;
  }

  write(task: Task, from: Uint8Array, position: number | null): number {
    if (!this.canWrite) throw new Errno(E.BADF);
    if (from.length === 0) return 0;
    const { inode } = this;
    const at = (this.flags & C.O_APPEND) !== 0 ? inode.size : (position ?? this.offset);
    const limit = task.process.limit(C.RLIMIT_FSIZE);
    if (at >= limit) {
      task.process.kernel.signalProcess(task.process, C.SIGXFSZ);
      throw new Errno(E.FBIG);
    }
    dropPrivileges(task, inode);
    const count = inode.write(at, at + from.length > limit ? from.subarray(0, limit - at) : from);
    if (position === null) this.offset = at + count;
    if ((this.flags & C.O_DSYNC) !== 0) syncNow(inode);
    notify(this.location, IN_MODIFY);
    return count;
  }

  override ioctl(task: Task, request: number, argument: number): number {
    if (request !== FIONREAD) return super.ioctl(task, request, argument);
    task.memory.setU32(argument, this.inode.size - this.offset);
    return 0;
  }
}

/** The write has happened and must not happen again: what waits for a block is written with the next sync. */
function syncNow(inode: FsInode): void {
  try {
    inode.sync();
  } catch (problem) {
    if (!(problem instanceof Block)) throw problem;
  }
}

/** relatime: a read is noted when the time of the last one is before the last change, or a day old. */
export function touchAccess(location: Location): void {
  const { mount, dentry } = location;
  if (mount.readOnly) return;
  const stat = dentry.inode.stat();
  const now = mount.vfs.now().seconds;
  const a = stat.atime;
  const before = (b: { seconds: number; nanoseconds: number }): boolean =>
    a.seconds < b.seconds || (a.seconds === b.seconds && a.nanoseconds <= b.nanoseconds);
  if (before(stat.mtime) || before(stat.ctime) || now - a.seconds >= 86400) dentry.inode.accessed();
}

/** Who is not root and changes a file takes away its set-id bits. */
export function dropPrivileges(task: Task, inode: FsInode): void {
  if (task.process.credentials.fsuid === 0) return;
  const mode = inode.mode;
  let kill = mode & C.S_ISUID;
  if ((mode & (C.S_ISGID | 0o010)) === (C.S_ISGID | 0o010)) kill |= C.S_ISGID;
  if (kill !== 0) inode.setattr({ mode: mode & ~kill });
}

export class DirectoryFile extends PlacedFile {
  read(): number {
    throw new Errno(E.ISDIR);
  }

  write(): number {
    throw new Errno(E.BADF);
  }

  /** Entries from the offset on, `.` and `..` first; the offset moves behind what `emit` took. */
  list(root: Location, emit: (entry: Entry) => boolean): void {
    const { inode, location } = this;
    let next = this.offset;
    const give = (entry: Entry): boolean => {
      if (!emit(entry)) return false;
      next = entry.next;
      return true;
    };
    const special = (name: string, ino: number, cookie: number): boolean =>
      give({ name, ino, type: C.DT_DIR, next: cookie });
    const done =
      (next >= 1 || special(".", inode.ino, 1)) &&
      (next >= 2 || special("..", parentOf(location, root).dentry.inode.ino, 2));
    try {
      if (done && !location.dentry.deleted) inode.readdir(next, give);
    } finally {
      this.offset = next;
    }
  }
}

/** O_PATH: a place, not its content. */
export class PathFile extends PlacedFile {
  read(): number {
    throw new Errno(E.BADF);
  }

  write(): number {
    throw new Errno(E.BADF);
  }

  override poll(): number {
    return 0x20;
  }

  override ioctl(): number {
    throw new Errno(E.BADF);
  }

  override release(): void {
    this.inode.drop();
  }
}
