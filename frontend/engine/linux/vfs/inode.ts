/**
 * Files of file systems. What is here checks neither permissions nor limits: `walk.ts`, `names.ts` and `open.ts` have done
 * so. Every operation does the whole or nothing: it throws `Errno` or `Block` before it has changed anything.
 */

import { E, Errno } from "../errno.ts";
import type { ByteString, Inode, OpenFile, Stat, Task, Time } from "../types.ts";
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from "./constants.ts";
import type { Walker } from "./context.ts";
import type { Location } from "./mounts.ts";

export interface StatFs {
  type: number;
  blockSize: number;
  blocks: number;
  free: number;
  available: number;
  files: number;
  freeFiles: number;
  nameLength: number;
}

/** A mounted file system (a super block). */
export interface FileSystem {
  /** As /proc/mounts names it: "ext4", "tmpfs". */
  readonly type: string;
  readonly dev: number;
  readonly root: FsInode;
  readonly readOnly: boolean;
  /** Names come and go without our doing: nothing of it is remembered (procfs). */
  readonly volatile: boolean;
  statfs(): StatFs;
  /** Everything that is only in memory goes to the device. Throws `Block`. */
  sync(): void;
}

/** What a new inode begins with; `mode` has the type. */
export interface NewInode {
  mode: number;
  uid: number;
  gid: number;
  rdev?: number;
  /** A symbolic link's. */
  target?: ByteString;
}

export interface Entry {
  name: ByteString;
  ino: number;
  /** DT_*. */
  type: number;
  /** Where the next one begins: the cookie that goes on behind this entry. */
  next: number;
}

/** What is not named stays. Changes ctime in any case. */
export interface Attributes {
  mode?: number;
  uid?: number;
  gid?: number;
  atime?: Time;
  mtime?: Time;
}

export abstract class FsInode implements Inode {
  abstract readonly fs: FileSystem;
  abstract readonly ino: number;
  abstract readonly mode: number;
  abstract readonly uid: number;
  abstract readonly gid: number;
  abstract readonly size: number;
  abstract readonly nlink: number;
  abstract readonly rdev: number;
  version = 0;
  private holds = 0;

  abstract stat(): Stat;

  // What a directory does. `.` and `..` are never asked for; names are valid.

  lookup(_name: ByteString): FsInode | undefined {
    throw new Errno(E.NOTDIR);
  }

  /** Any type of file; the name is known to be free. */
  create(_name: ByteString, _attributes: NewInode): FsInode {
    throw new Errno(this.isDirectory ? E.PERM : E.NOTDIR);
  }

  /** A regular file without a name (O_TMPFILE): nlink 0. */
  createUnnamed(_attributes: NewInode): FsInode {
    throw new Errno(E.OPNOTSUPP);
  }

  link(_name: ByteString, _inode: FsInode): void {
    throw new Errno(E.PERM);
  }

  /** Not a directory. */
  unlink(_name: ByteString, _inode: FsInode): void {
    throw new Errno(E.PERM);
  }

  /** Throws ENOTEMPTY. */
  rmdir(_name: ByteString, _inode: FsInode): void {
    throw new Errno(E.PERM);
  }

  /**
   * `inode` is what `name` is here, `target` what `newName` is in `to` (of this file system): replaced, or exchanged. Types
   * agree and no directory goes into itself: that has been seen to. Throws ENOTEMPTY.
   */
  rename(
    _name: ByteString,
    _inode: FsInode,
    _to: FsInode,
    _newName: ByteString,
    _target: FsInode | undefined,
    _exchange: boolean,
  ): void {
    throw new Errno(E.PERM);
  }

  /**
   * Entries behind `cookie` (0: from the beginning) without `.` and `..`, until `emit` returns false (that entry was not
   * taken). A cookie stays good while names come and go. Cookies 1 and 2 are the caller's (for `.` and `..`); entries have 3 or more.
   */
  readdir(_cookie: number, _emit: (entry: Entry) => boolean): void {
    throw new Errno(E.NOTDIR);
  }

  /** Whether a directory has no entries but `.` and `..`. */
  get empty(): boolean {
    let empty = true;
    this.readdir(2, () => (empty = false));
    return empty;
  }

  /** `walker`: who asks, where the text depends on that (/proc/self). */
  readlink(_walker?: Walker): ByteString {
    throw new Errno(E.INVAL);
  }

  /** A magic link's target (/proc/self/fd/1, /proc/self/exe): a place, whatever its text says. */
  follow(_walker: Walker): Location | undefined {
    return undefined;
  }

  // A regular file's content. Positions are not negative.

  read(_position: number, _into: Uint8Array): number {
    throw new Errno(E.INVAL);
  }

  /** Behind the end: the file grows, what is between is a hole. */
  write(_position: number, _from: Uint8Array): number {
    throw new Errno(E.INVAL);
  }

  truncate(_size: number): void {
    throw new Errno(E.INVAL);
  }

  /** FALLOC_FL_*. */
  fallocate(_mode: number, _offset: number, _length: number): void {
    throw new Errno(E.OPNOTSUPP);
  }

  /** Where the next data (or hole) begins at or behind `offset`, which is in the file; undefined: none before the end. */
  seek(offset: number, hole: boolean): number | undefined {
    return hole ? this.size : offset;
  }

  page(_index: number): Uint8Array {
    throw new Errno(E.NODEV);
  }

  pageDirtied(_index: number): void {}

  /** Everything of this file that is only in memory goes to the device. Throws `Block`. */
  sync(): void {}

  /** Fallback of reads: the time of the last one. Never throws. */
  accessed(): void {}

  setattr(_attributes: Attributes): void {
    throw new Errno(E.PERM);
  }

  /** `name` has its prefix ("user.x"). */
  getxattr(_name: ByteString): Uint8Array | undefined {
    throw new Errno(E.OPNOTSUPP);
  }

  /** undefined removes it (ENODATA when it is not there). */
  setxattr(_name: ByteString, _value: Uint8Array | undefined): void {
    throw new Errno(E.OPNOTSUPP);
  }

  listxattr(): ByteString[] {
    return [];
  }

  /**
   * Files that are more than their content (procfs, sysfs): opened by themselves. undefined: a plain regular file or
   * directory.
   */
  open(_task: Task, _flags: number, _location: Location): OpenFile | undefined {
    return undefined;
  }

  get isDirectory(): boolean {
    return (this.mode & S_IFMT) === S_IFDIR;
  }

  get isRegular(): boolean {
    return (this.mode & S_IFMT) === S_IFREG;
  }

  get isSymlink(): boolean {
    return (this.mode & S_IFMT) === S_IFLNK;
  }

  /** Whether a descriptor or a mapping holds it. */
  get isHeld(): boolean {
    return this.holds > 0;
  }

  hold(): void {
    this.holds += 1;
    if (this.holds === 1) held.add(this);
  }

  drop(): void {
    this.holds -= 1;
    if (this.holds > 0) return;
    held.delete(this);
    if (this.nlink === 0) this.forget();
  }

  /** The last name and the last holder are gone. Must not throw: what has to wait for a disk is done later. */
  forget(): void {}
}

/** Objects of held inodes stay the same ones, though file systems remember others weakly only. */
const held = new Set<FsInode>();
