/** Names and directories: listing, working directories, making, removing, renaming. */

import { E, Errno } from "../errno.ts";
import type { SystemCalls, Task } from "../types.ts";
import * as C from "../vfs/constants.ts";
import { contextOf } from "../vfs/context.ts";
import type { Entry } from "../vfs/inode.ts";
import { type Location, pathOf } from "../vfs/mounts.ts";
import { linkName, makeName, removeDirectory, removeFile, renameName } from "../vfs/names.ts";
import { DirectoryFile } from "../vfs/open-files.ts";
import { identityOf, mustPermit } from "../vfs/permissions.ts";
import { walk } from "../vfs/walk.ts";
import { locationOf, pathArgument, placeAt, usableFile, walkOptions } from "./file-arguments.ts";

/** `old`: struct linux_dirent, with the type behind the name. */
function getdents(task: Task, fd: number, address: number, size: number, old: boolean): number {
  const file = usableFile(task, fd);
  if (!(file instanceof DirectoryFile)) throw new Errno(E.NOTDIR);
  const bytes = task.memory.writable(address, size);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let used = 0;
  let tooSmall = false;
  file.list(contextOf(task.process).root, (entry: Entry) => {
    const head = old ? 18 : 19;
    const length = (head + entry.name.length + (old ? 2 : 1) + 7) & ~7;
    if (used + length > size) {
      tooSmall = used === 0;
      return false;
    }
    bytes.fill(0, used, used + length);
    view.setBigUint64(used, BigInt(entry.ino), true);
    view.setBigInt64(used + 8, BigInt(entry.next), true);
    view.setUint16(used + 16, length, true);
    bytes[used + (old ? length - 1 : 18)] = entry.type;
    for (let i = 0; i < entry.name.length; i += 1) bytes[used + head + i] = entry.name.charCodeAt(i);
    used += length;
    return true;
  });
  if (tooSmall) throw new Errno(E.INVAL);
  return used;
}

function getcwd(task: Task, address: number, size: number): number {
  const { cwd, root } = contextOf(task.process);
  if (cwd.dentry.deleted) throw new Errno(E.NOENT);
  const path = pathOf(cwd, root) ?? `(unreachable)${pathOf(cwd, cwd.mount.vfs.root) ?? "/"}`;
  if (path.length + 1 > size) throw new Errno(E.RANGE);
  const bytes = task.memory.writable(address, path.length + 1);
  for (let i = 0; i < path.length; i += 1) bytes[i] = path.charCodeAt(i);
  bytes[path.length] = 0;
  return path.length + 1;
}

function enter(task: Task, place: Location): Location {
  if (!place.dentry.inode.isDirectory) throw new Errno(E.NOTDIR);
  mustPermit(identityOf(task.process.credentials), place, C.MAY_EXEC);
  return place;
}

function mkdirat(task: Task, dirfd: number, address: number, mode: number): number {
  const path = pathArgument(task, address);
  makeName(task.process, path, C.S_IFDIR | (mode & 0o1777), walkOptions(task, dirfd, path));
  return 0;
}

function unlinkat(task: Task, dirfd: number, address: number, flags: number): number {
  if ((flags & ~C.AT_REMOVEDIR) !== 0) throw new Errno(E.INVAL);
  const path = pathArgument(task, address);
  const remove = flags === 0 ? removeFile : removeDirectory;
  remove(task.process, path, walkOptions(task, dirfd, path));
  return 0;
}

function renameat(task: Task, from: [number, number], to: [number, number], flags: number): number {
  const oldPath = pathArgument(task, from[1]);
  const newPath = pathArgument(task, to[1]);
  renameName(
    task.process,
    oldPath,
    newPath,
    flags,
    walkOptions(task, from[0], oldPath),
    walkOptions(task, to[0], newPath),
  );
  return 0;
}

function linkat(task: Task, from: [number, number], to: [number, number], flags: number): number {
  if ((flags & ~(C.AT_SYMLINK_FOLLOW | C.AT_EMPTY_PATH)) !== 0) throw new Errno(E.INVAL);
  const oldPath = pathArgument(task, from[1]);
  const newPath = pathArgument(task, to[1]);
  const place = placeAt(task, from[0], oldPath, flags, (flags & C.AT_SYMLINK_FOLLOW) !== 0);
  if (place === undefined) throw new Errno(E.XDEV);
  linkName(task.process, place, newPath, walkOptions(task, to[0], newPath));
  return 0;
}

function symlinkat(task: Task, target: number, dirfd: number, address: number): number {
  const text = pathArgument(task, target);
  const path = pathArgument(task, address);
  if (text === "") throw new Errno(E.NOENT);
  makeName(task.process, path, C.S_IFLNK | 0o777, { ...walkOptions(task, dirfd, path), target: text });
  return 0;
}

function mknodat(task: Task, dirfd: number, address: number, mode: number, rdev: number): number {
  const path = pathArgument(task, address);
  const type = mode & C.S_IFMT;
  const options = walkOptions(task, dirfd, path);
  switch (type) {
    case 0:
    case C.S_IFREG:
      makeName(task.process, path, C.S_IFREG | (mode & 0o7777), options);
      return 0;
    case C.S_IFCHR:
    case C.S_IFBLK:
      if (task.process.credentials.euid !== 0) throw new Errno(E.PERM);
      makeName(task.process, path, type | (mode & 0o7777), { ...options, rdev });
      return 0;
    case C.S_IFIFO:
    case C.S_IFSOCK:
      makeName(task.process, path, type | (mode & 0o7777), options);
      return 0;
    case C.S_IFDIR:
      throw new Errno(E.PERM);
    default:
      throw new Errno(E.INVAL);
  }
}

const CWD = C.AT_FDCWD;

export const directoryCalls: SystemCalls = {
  getdents64: (task, a) => getdents(task, a[0], a[1], a[2] >>> 0, false),
  getdents: (task, a) => getdents(task, a[0], a[1], a[2] >>> 0, true),
  getcwd: (task, a) => getcwd(task, a[0], a[1]),
  chdir: (task, a) => {
    const place = walk(task.process, pathArgument(task, a[0]), { task });
    contextOf(task.process).cwd = enter(task, place);
    return 0;
  },
  fchdir: (task, a) => {
    const place = locationOf(task.process.files.get(a[0] | 0), E.NOTDIR);
    contextOf(task.process).cwd = enter(task, place);
    return 0;
  },
  chroot: (task, a) => {
    const place = enter(task, walk(task.process, pathArgument(task, a[0]), { task }));
    if (task.process.credentials.euid !== 0) throw new Errno(E.PERM);
    contextOf(task.process).root = place;
    return 0;
  },
  mkdir: (task, a) => mkdirat(task, CWD, a[0], a[1]),
  mkdirat: (task, a) => mkdirat(task, a[0], a[1], a[2]),
  rmdir: (task, a) => unlinkat(task, CWD, a[0], C.AT_REMOVEDIR),
  unlink: (task, a) => unlinkat(task, CWD, a[0], 0),
  unlinkat: (task, a) => unlinkat(task, a[0], a[1], a[2] | 0),
  rename: (task, a) => renameat(task, [CWD, a[0]], [CWD, a[1]], 0),
  renameat: (task, a) => renameat(task, [a[0], a[1]], [a[2], a[3]], 0),
  renameat2: (task, a) => renameat(task, [a[0], a[1]], [a[2], a[3]], a[4] | 0),
  link: (task, a) => linkat(task, [CWD, a[0]], [CWD, a[1]], 0),
  linkat: (task, a) => linkat(task, [a[0], a[1]], [a[2], a[3]], a[4] | 0),
  symlink: (task, a) => symlinkat(task, a[0], CWD, a[1]),
  symlinkat: (task, a) => symlinkat(task, a[0], a[1], a[2]),
  mknod: (task, a) => mknodat(task, CWD, a[0], a[1] | 0, a[2] >>> 0),
  mknodat: (task, a) => mknodat(task, a[0], a[1], a[2] | 0, a[3] >>> 0),
};
