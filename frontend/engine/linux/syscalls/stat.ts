/** What files are: the stat family, access, readlink, statfs. */

import { E, Errno } from "../errno.ts";
import type { OpenFile, Stat, SystemCalls, Task, Time } from "../types.ts";
import * as C from "../vfs/constants.ts";
import type { StatFs } from "../vfs/inode.ts";
import { type Location, type Mount, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RELATIME } from "../vfs/mounts.ts";
import { PlacedFile } from "../vfs/open-files.ts";
import { identityOf, mustPermit, realIdentity } from "../vfs/permissions.ts";
import { walk } from "../vfs/walk.ts";
import { fileOf, pathArgument, placeAt, walkOptions } from "./file-arguments.ts";

const STAT_SIZE = 144;
const STATX_SIZE = 256;
const STATX_BASIC_STATS = 0x7ff;
const STATX_MNT_ID = 0x1000;
const STATX_ATTR_MOUNT_ROOT = 0x2000;

function writer(task: Task, address: number, size: number): DataView {
  const bytes = task.memory.writable(address, size);
  bytes.fill(0);
  return new DataView(bytes.buffer, bytes.byteOffset, size);
}

function setI64(view: DataView, at: number, value: number): void {
  view.setBigInt64(at, BigInt(value), true);
}

function setTime(view: DataView, at: number, time: Time): void {
  setI64(view, at, time.seconds);
  view.setUint32(at + 8, time.nanoseconds, true);
}

function putStat(task: Task, address: number, stat: Stat): number {
  const view = writer(task, address, STAT_SIZE);
  setI64(view, 0, stat.dev);
  setI64(view, 8, stat.ino);
  setI64(view, 16, stat.nlink);
  view.setUint32(24, stat.mode, true);
  view.setUint32(28, stat.uid, true);
  view.setUint32(32, stat.gid, true);
  setI64(view, 40, stat.rdev);
  setI64(view, 48, stat.size);
  setI64(view, 56, stat.blksize);
  setI64(view, 64, stat.blocks);
  setTime(view, 72, stat.atime);
  setTime(view, 88, stat.mtime);
  setTime(view, 104, stat.ctime);
  return 0;
}

function putStatx(task: Task, address: number, stat: Stat, place: Location | undefined): number {
  const view = writer(task, address, STATX_SIZE);
  view.setUint32(0, STATX_BASIC_STATS | (place === undefined ? 0 : STATX_MNT_ID), true);
  view.setUint32(4, stat.blksize, true);
  view.setUint32(16, stat.nlink, true);
  view.setUint32(20, stat.uid, true);
  view.setUint32(24, stat.gid, true);
  view.setUint16(28, stat.mode, true);
  setI64(view, 32, stat.ino);
  setI64(view, 40, stat.size);
  setI64(view, 48, stat.blocks);
  setTime(view, 64, stat.atime);
  setTime(view, 96, stat.ctime);
  setTime(view, 112, stat.mtime);
  view.setUint32(128, C.majorOf(stat.rdev), true);
  view.setUint32(132, C.minorOf(stat.rdev), true);
  view.setUint32(136, C.majorOf(stat.dev), true);
  view.setUint32(140, C.minorOf(stat.dev), true);
  if (place === undefined) return 0;
  setI64(view, 56, STATX_ATTR_MOUNT_ROOT);
  if (place.dentry === place.mount.root) setI64(view, 8, STATX_ATTR_MOUNT_ROOT);
  setI64(view, 144, place.mount.id);
  return 0;
}

/** By path, or of the descriptor itself with AT_EMPTY_PATH. */
function statAt(task: Task, dirfd: number, path: string, flags: number): [Stat, Location | undefined] {
  const follow = (flags & C.AT_SYMLINK_NOFOLLOW) === 0;
  const place = placeAt(task, dirfd, path, flags, follow);
  return place === undefined
    ? [fileOf(task, dirfd).inode.stat(), undefined]
    : [place.dentry.inode.stat(), place];
}

const STAT_FLAGS = C.AT_SYMLINK_NOFOLLOW | C.AT_NO_AUTOMOUNT | C.AT_EMPTY_PATH | C.AT_STATX_SYNC_TYPE;

function newfstatat(task: Task, dirfd: number, path: number, address: number, flags: number): number {
  if ((flags & ~STAT_FLAGS) !== 0) throw new Errno(E.INVAL);
  return putStat(task, address, statAt(task, dirfd, pathArgument(task, path), flags)[0]);
}

function statx(
  task: Task,
  dirfd: number,
  path: number,
  flags: number,
  mask: number,
  address: number,
): number {
  if ((flags & ~STAT_FLAGS) !== 0 || (mask & 0x80000000) !== 0) throw new Errno(E.INVAL);
  const [stat, place] = statAt(task, dirfd, pathArgument(task, path), flags);
  return putStatx(task, address, stat, place);
}

function access(task: Task, dirfd: number, path: number, mode: number, flags: number): number {
  if ((mode & ~7) !== 0 || (flags & ~(C.AT_EACCESS | C.AT_SYMLINK_NOFOLLOW | C.AT_EMPTY_PATH)) !== 0) {
    throw new Errno(E.INVAL);
  }
  const { credentials } = task.process;
  const identity = (flags & C.AT_EACCESS) !== 0 ? identityOf(credentials) : realIdentity(credentials);
  const name = pathArgument(task, path);
  const place =
    name === "" && (flags & C.AT_EMPTY_PATH) !== 0
      ? placeAt(task, dirfd, name, flags, true)
      : walk(task.process, name, {
          ...walkOptions(task, dirfd, name, (flags & C.AT_SYMLINK_NOFOLLOW) === 0),
          identity,
        });
  if (place === undefined || mode === 0) return 0;
  const { inode } = place.dentry;
  if ((mode & C.MAY_EXEC) !== 0 && inode.isRegular && (place.mount.flags & MS_NOEXEC) !== 0) {
    throw new Errno(E.ACCES);
  }
  mustPermit(identity, place, mode);
  return 0;
}

function readlink(task: Task, dirfd: number, path: number, address: number, size: number): number {
  if (size <= 0) throw new Errno(E.INVAL);
  const name = pathArgument(task, path);
  const place = placeAt(task, dirfd, name, name === "" ? C.AT_EMPTY_PATH : 0, false);
  const inode = place?.dentry.inode;
  if (inode === undefined || !inode.isSymlink) throw new Errno(name === "" ? E.NOENT : E.INVAL);
  const target = Uint8Array.from(inode.readlink(task.process).slice(0, size), (c) => c.charCodeAt(0));
  task.memory.writable(address, target.length).set(target);
  return target.length;
}

function mountFlags(mount: Mount): number {
  let flags = 0x20;
  if (mount.readOnly) flags |= 1;
  if ((mount.flags & MS_NOSUID) !== 0) flags |= 2;
  if ((mount.flags & MS_NODEV) !== 0) flags |= 4;
  if ((mount.flags & MS_NOEXEC) !== 0) flags |= 8;
  if ((mount.flags & MS_RELATIME) !== 0) flags |= 4096;
  return flags;
}

function putStatFs(task: Task, address: number, fs: StatFs, dev: number, flags: number): number {
  const view = writer(task, address, 120);
  const values = [fs.type, fs.blockSize, fs.blocks, fs.free, fs.available, fs.files, fs.freeFiles];
  values.forEach((value, i) => setI64(view, 8 * i, value));
  setI64(view, 56, dev);
  setI64(view, 64, fs.nameLength);
  setI64(view, 72, fs.blockSize);
  setI64(view, 80, flags);
  return 0;
}

const PIPEFS_MAGIC = 0x50495045;
const SOCKFS_MAGIC = 0x534f434b;

function statfsOfFile(task: Task, file: OpenFile, address: number): number {
  if (file instanceof PlacedFile) return statfsOf(task, file.location.mount, address);
  const stat = file.inode.stat();
  const isSocket = (stat.mode & C.S_IFMT) === C.S_IFSOCK;
  const type = isSocket ? SOCKFS_MAGIC : PIPEFS_MAGIC;
  const none = { blockSize: 4096, blocks: 0, free: 0, available: 0, files: 0, freeFiles: 0, nameLength: 255 };
  return putStatFs(task, address, { type, ...none }, stat.dev, 0x20);
}

function statfsOf(task: Task, mount: Mount, address: number): number {
  return putStatFs(task, address, mount.fs.statfs(), mount.fs.dev, mountFlags(mount));
}

export const statCalls: SystemCalls = {
  stat: (task, a) => newfstatat(task, C.AT_FDCWD, a[0], a[1], 0),
  lstat: (task, a) => newfstatat(task, C.AT_FDCWD, a[0], a[1], C.AT_SYMLINK_NOFOLLOW),
  fstat: (task, a) => putStat(task, a[1], fileOf(task, a[0]).inode.stat()),
  newfstatat: (task, a) => newfstatat(task, a[0], a[1], a[2], a[3] | 0),
  statx: (task, a) => statx(task, a[0], a[1], a[2] | 0, a[3] >>> 0, a[4]),
  access: (task, a) => access(task, C.AT_FDCWD, a[0], a[1] | 0, 0),
  faccessat: (task, a) => access(task, a[0], a[1], a[2] | 0, 0),
  faccessat2: (task, a) => access(task, a[0], a[1], a[2] | 0, a[3] | 0),
  readlink: (task, a) => readlink(task, C.AT_FDCWD, a[0], a[1], a[2] | 0),
  readlinkat: (task, a) => readlink(task, a[0], a[1], a[2], a[3] | 0),
  statfs: (task, a) => {
    const path = pathArgument(task, a[0]);
    return statfsOf(task, walk(task.process, path, { task }).mount, a[1]);
  },
  fstatfs: (task, a) => statfsOfFile(task, fileOf(task, a[0]), a[1]),
};
