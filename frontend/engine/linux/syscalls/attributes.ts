/** Changing what files are: modes, owners, times, sizes. */

import { E, Errno } from "../errno.ts";
import type { OpenFile, SystemCalls, Task, Time } from "../types.ts";
import * as C from "../vfs/constants.ts";
import { IN_ATTRIB, IN_MODIFY } from "../vfs/hooks.ts";
import type { Attributes } from "../vfs/inode.ts";
import type { Location } from "../vfs/mounts.ts";
import { notify } from "../vfs/notify.ts";
import { dropPrivileges, PlacedFile, RegularFile } from "../vfs/open-files.ts";
import { identityOf, inGroup, mustBeWritable, mustPermit, owns } from "../vfs/permissions.ts";
import { walk } from "../vfs/walk.ts";
import { pathArgument, placeAt, timespec, usableFile, walkOptions } from "./file-arguments.ts";

function chmod(task: Task, place: Location, mode: number): number {
  const { inode } = place.dentry;
  mustBeWritable(place.mount);
  const who = identityOf(task.process.credentials);
  if (!owns(who, inode)) throw new Errno(E.PERM);
  if (inode.isSymlink) throw new Errno(E.OPNOTSUPP);
  let bits = mode & 0o7777;
  if (who.uid !== 0 && !inGroup(who, inode.gid)) bits &= ~C.S_ISGID;
  inode.setattr({ mode: bits });
  notify(place, IN_ATTRIB);
  return 0;
}

/** -1 leaves one as it is. */
function chown(task: Task, place: Location, uid: number, gid: number): number {
  const { inode } = place.dentry;
  mustBeWritable(place.mount);
  const who = identityOf(task.process.credentials);
  const changes: Attributes = {};
  if (uid !== -1) {
    if (who.uid !== 0 && (who.uid !== inode.uid || uid !== inode.uid)) throw new Errno(E.PERM);
    changes.uid = uid >>> 0;
  }
  if (gid !== -1) {
    const may = who.uid === 0 || (who.uid === inode.uid && (gid === inode.gid || inGroup(who, gid)));
    if (!may) throw new Errno(E.PERM);
    changes.gid = gid >>> 0;
  }
  if (!inode.isDirectory) {
    const { mode } = inode;
    const kill = C.S_ISUID | ((mode & 0o010) !== 0 ? C.S_ISGID : 0);
    if ((mode & kill) !== 0) changes.mode = mode & 0o7777 & ~kill;
  }
  inode.setattr(changes);
  notify(place, IN_ATTRIB);
  return 0;
}

/** Files without a place: pipes and sockets, which keep what they are told. */
interface Changeable {
  change(changes: { mode?: number; uid?: number; gid?: number }): void;
  stat(): { mode: number };
}

function changeable(file: OpenFile): Changeable | undefined {
  return "change" in file.inode ? (file.inode as unknown as Changeable) : undefined;
}

function fchmod(task: Task, file: OpenFile, mode: number): number {
  if (file instanceof PlacedFile) return chmod(task, file.location, mode);
  const { inode } = file;
  changeable(file)?.change({ mode: (inode.stat().mode & C.S_IFMT) | (mode & 0o7777) });
  return 0;
}

function fchown(task: Task, file: OpenFile, uid: number, gid: number): number {
  if (file instanceof PlacedFile) return chown(task, file.location, uid, gid);
  changeable(file)?.change({ ...(uid === -1 ? {} : { uid }), ...(gid === -1 ? {} : { gid }) });
  return 0;
}

const UTIME_NOW = 0x3fffffff;
const UTIME_OMIT = 0x3ffffffe;

/** undefined leaves a time as it is; "now" is another right than a given time. */
type NewTime = Time | "now" | undefined;

function checkedTime(time: Time): NewTime {
  if (time.nanoseconds === UTIME_NOW) return "now";
  if (time.nanoseconds === UTIME_OMIT) return undefined;
  if (time.nanoseconds < 0 || time.nanoseconds >= 1e9) throw new Errno(E.INVAL);
  return time;
}

function setTimes(task: Task, place: Location, atime: NewTime, mtime: NewTime): number {
  if (atime === undefined && mtime === undefined) return 0;
  const { inode } = place.dentry;
  mustBeWritable(place.mount);
  const who = identityOf(task.process.credentials);
  if (!owns(who, inode)) {
    if (atime !== "now" || mtime !== "now") throw new Errno(E.PERM);
    mustPermit(who, place, C.MAY_WRITE);
  }
  const now = place.mount.vfs.now();
  const changes: Attributes = {};
  if (atime !== undefined) changes.atime = atime === "now" ? now : atime;
  if (mtime !== undefined) changes.mtime = mtime === "now" ? now : mtime;
  inode.setattr(changes);
  notify(place, IN_ATTRIB);
  return 0;
}

/** A path of 0 is the descriptor's own file. */
function timesPlace(task: Task, dirfd: number, path: number, flags: number): Location | undefined {
  const follow = (flags & C.AT_SYMLINK_NOFOLLOW) === 0;
  if (path !== 0) return placeAt(task, dirfd, pathArgument(task, path), flags, follow);
  const file = usableFile(task, dirfd);
  return file instanceof PlacedFile ? file.location : undefined;
}

function utimensat(task: Task, dirfd: number, path: number, times: number, flags: number): number {
  if ((flags & ~(C.AT_SYMLINK_NOFOLLOW | C.AT_EMPTY_PATH)) !== 0) throw new Errno(E.INVAL);
  const atime = times === 0 ? "now" : checkedTime(timespec(task, times));
  const mtime = times === 0 ? "now" : checkedTime(timespec(task, times + 16));
  const place = timesPlace(task, dirfd, path, flags);
  return place === undefined ? 0 : setTimes(task, place, atime, mtime);
}

function timeval(task: Task, address: number): NewTime {
  const seconds = task.memory.getI64(address);
  const microseconds = task.memory.getI64(address + 8);
  if (microseconds < 0 || microseconds >= 1e6) throw new Errno(E.INVAL);
  return { seconds, nanoseconds: microseconds * 1000 };
}

function utimes(task: Task, dirfd: number, path: number, times: number): number {
  const atime = times === 0 ? "now" : timeval(task, times);
  const mtime = times === 0 ? "now" : timeval(task, times + 16);
  const place = timesPlace(task, dirfd, path, 0);
  return place === undefined ? 0 : setTimes(task, place, atime, mtime);
}

function mustFit(task: Task, size: number): void {
  if (size <= task.process.limit(C.RLIMIT_FSIZE)) return;
  task.process.kernel.signalProcess(task.process, C.SIGXFSZ);
  throw new Errno(E.FBIG);
}

function truncate(task: Task, path: string, size: number): number {
  if (size < 0) throw new Errno(E.INVAL);
  const place = walk(task.process, path, { task });
  const { inode } = place.dentry;
  if (inode.isDirectory) throw new Errno(E.ISDIR);
  if (!inode.isRegular) throw new Errno(E.INVAL);
  mustPermit(identityOf(task.process.credentials), place, C.MAY_WRITE);
  return resize(task, place, size);
}

function resize(task: Task, place: Location, size: number): number {
  const { inode } = place.dentry;
  if (size > inode.size) mustFit(task, size);
  dropPrivileges(task, inode);
  inode.truncate(size);
  notify(place, IN_MODIFY);
  return 0;
}

function ftruncate(task: Task, file: OpenFile, size: number): number {
  if (size < 0 || !(file instanceof RegularFile) || !file.canWrite) throw new Errno(E.INVAL);
  return resize(task, file.location, size);
}

function fallocate(task: Task, file: OpenFile, mode: number, offset: number, length: number): number {
  if (offset < 0 || length <= 0) throw new Errno(E.INVAL);
  if (!(file instanceof RegularFile)) {
    if (file instanceof PlacedFile && file.inode.isDirectory) throw new Errno(E.BADF);
    throw new Errno((file.inode.stat().mode & C.S_IFMT) === C.S_IFIFO ? E.SPIPE : E.NODEV);
  }
  if (!file.canWrite) throw new Errno(E.BADF);
  const punch = (mode & C.FALLOC_FL_PUNCH_HOLE) !== 0;
  if (punch && (mode & C.FALLOC_FL_KEEP_SIZE) === 0) throw new Errno(E.OPNOTSUPP);
  if (offset + length > file.inode.size && (mode & C.FALLOC_FL_KEEP_SIZE) === 0) {
    mustFit(task, offset + length);
  }
  file.inode.fallocate(mode, offset, length);
  notify(file.location, IN_MODIFY);
  return 0;
}

function at(task: Task, dirfd: number, path: number, flags: number): Location | undefined {
  const follow = (flags & C.AT_SYMLINK_NOFOLLOW) === 0;
  return placeAt(task, dirfd, pathArgument(task, path), flags, follow);
}

function chmodAt(task: Task, dirfd: number, path: number, mode: number, flags: number): number {
  const place = at(task, dirfd, path, flags);
  return place === undefined ? fchmod(task, usableFile(task, dirfd), mode) : chmod(task, place, mode);
}

function chownAt(task: Task, dirfd: number, path: number, uid: number, gid: number, flags: number): number {
  if ((flags & ~(C.AT_SYMLINK_NOFOLLOW | C.AT_EMPTY_PATH)) !== 0) throw new Errno(E.INVAL);
  const place = at(task, dirfd, path, flags);
  return place === undefined ? fchown(task, usableFile(task, dirfd), uid, gid) : chown(task, place, uid, gid);
}

const CWD = C.AT_FDCWD;

export const attributeCalls: SystemCalls = {
  chmod: (task, a) => chmodAt(task, CWD, a[0], a[1], 0),
  fchmod: (task, a) => fchmod(task, usableFile(task, a[0]), a[1]),
  fchmodat: (task, a) => chmodAt(task, a[0], a[1], a[2], 0),
  chown: (task, a) => chownAt(task, CWD, a[0], a[1] | 0, a[2] | 0, 0),
  lchown: (task, a) => chownAt(task, CWD, a[0], a[1] | 0, a[2] | 0, C.AT_SYMLINK_NOFOLLOW),
  fchown: (task, a) => fchown(task, usableFile(task, a[0]), a[1] | 0, a[2] | 0),
  fchownat: (task, a) => chownAt(task, a[0], a[1], a[2] | 0, a[3] | 0, a[4] | 0),
  utimensat: (task, a) => utimensat(task, a[0], a[1], a[2], a[3] | 0),
  utimes: (task, a) => utimes(task, CWD, a[0], a[1]),
  futimesat: (task, a) => utimes(task, a[0], a[1], a[2]),
  utime: (task, a) => {
    const place = walk(task.process, pathArgument(task, a[0]), walkOptions(task, CWD, ""));
    if (a[1] === 0) return setTimes(task, place, "now", "now");
    const second = (address: number): Time => ({ seconds: task.memory.getI64(address), nanoseconds: 0 });
    return setTimes(task, place, second(a[1]), second(a[1] + 8));
  },
  truncate: (task, a) => truncate(task, pathArgument(task, a[0]), a[1]),
  ftruncate: (task, a) => ftruncate(task, usableFile(task, a[0]), a[1]),
  fallocate: (task, a) => fallocate(task, usableFile(task, a[0]), a[1] | 0, a[2], a[3]),
};
