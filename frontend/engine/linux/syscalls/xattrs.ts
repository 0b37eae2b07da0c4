/** Extended attributes. */

import { E, Errno } from "../errno.ts";
import type { SystemCall, SystemCalls, Task } from "../types.ts";
import { MAY_READ, MAY_WRITE, S_ISVTX } from "../vfs/constants.ts";
import { IN_ATTRIB } from "../vfs/hooks.ts";
import type { Location } from "../vfs/mounts.ts";
import { notify } from "../vfs/notify.ts";
import { identityOf, mustBeWritable, mustPermit, owns } from "../vfs/permissions.ts";
import { walk } from "../vfs/walk.ts";
import { locationOf, pathArgument, usableFile } from "./file-arguments.ts";

const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
const MOST_VALUE = 65536;
const MOST_LIST = 65536;

type Find = (task: Task, argument: number) => Location;

const followed: Find = (task, path) => walk(task.process, pathArgument(task, path), { task });
const link: Find = (task, path) => walk(task.process, pathArgument(task, path), { task, follow: false });
const opened: Find = (task, fd) => locationOf(usableFile(task, fd), E.OPNOTSUPP);

function nameAt(task: Task, address: number): string {
  let name: string;
  try {
    name = task.memory.string(address, 256);
  } catch (problem) {
    if (problem instanceof Errno && problem.code === E.NAMETOOLONG) throw new Errno(E.RANGE);
    throw problem;
  }
  if (name === "" || name.length > 255) throw new Errno(E.RANGE);
  return name;
}

/** Who may read or write which attributes (xattr(7)). */
function mustMay(task: Task, place: Location, name: string, write: boolean): void {
  const { inode } = place.dentry;
  const who = identityOf(task.process.credentials);
  if (write) mustBeWritable(place.mount);
  if (name.startsWith("security.")) {
    if (write && who.uid !== 0) throw new Errno(E.PERM);
    return;
  }
  if (name.startsWith("trusted.")) {
    if (who.uid !== 0) throw new Errno(write ? E.PERM : E.NODATA);
    return;
  }
  // Access lists are not there: who asks is told so.
  if (!name.startsWith("user.")) throw new Errno(E.OPNOTSUPP);
  if (!inode.isRegular && !inode.isDirectory) throw new Errno(write ? E.PERM : E.NODATA);
  if (inode.isDirectory && (inode.mode & S_ISVTX) !== 0 && write && !owns(who, inode)) {
    throw new Errno(E.PERM);
  }
  mustPermit(who, place, write ? MAY_WRITE : MAY_READ);
}

function get(find: Find): SystemCall {
  return (task, a) => {
    const place = find(task, a[0]);
    const name = nameAt(task, a[1]);
    mustMay(task, place, name, false);
    const value = place.dentry.inode.getxattr(name);
    if (value === undefined) throw new Errno(E.NODATA);
    if (a[3] === 0) return value.length;
    if (value.length > a[3]) throw new Errno(E.RANGE);
    task.memory.writable(a[2], value.length).set(value);
    return value.length;
  };
}

function set(find: Find): SystemCall {
  return (task, a) => {
    const flags = a[4] | 0;
    if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw new Errno(E.INVAL);
    const place = find(task, a[0]);
    const name = nameAt(task, a[1]);
    if (a[3] < 0 || a[3] > MOST_VALUE) throw new Errno(E["2BIG"]);
    const value = task.memory.readable(a[2], a[3]).slice();
    mustMay(task, place, name, true);
    const { inode } = place.dentry;
    if (flags !== 0) {
      const there = inode.getxattr(name) !== undefined;
      if (there && (flags & XATTR_CREATE) !== 0) throw new Errno(E.EXIST);
      if (!there && (flags & XATTR_REPLACE) !== 0) throw new Errno(E.NODATA);
    }
    inode.setxattr(name, value);
    notify(place, IN_ATTRIB);
    return 0;
  };
}

function list(find: Find): SystemCall {
  return (task, a) => {
    const { inode } = find(task, a[0]).dentry;
    const isRoot = task.process.credentials.fsuid === 0;
    const names = inode.listxattr().filter((name) => isRoot || !name.startsWith("trusted."));
    const text = names.map((name) => `${name}\0`).join("");
    if (text.length > MOST_LIST) throw new Errno(E["2BIG"]);
    if (a[2] === 0) return text.length;
    if (text.length > a[2]) throw new Errno(E.RANGE);
    const bytes = task.memory.writable(a[1], text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return text.length;
  };
}

function remove(find: Find): SystemCall {
  return (task, a) => {
    const place = find(task, a[0]);
    const name = nameAt(task, a[1]);
    mustMay(task, place, name, true);
    place.dentry.inode.setxattr(name, undefined);
    notify(place, IN_ATTRIB);
    return 0;
  };
}

export const xattrCalls: SystemCalls = {
  getxattr: get(followed),
  lgetxattr: get(link),
  fgetxattr: get(opened),
  setxattr: set(followed),
  lsetxattr: set(link),
  fsetxattr: set(opened),
  listxattr: list(followed),
  llistxattr: list(link),
  flistxattr: list(opened),
  removexattr: remove(followed),
  lremovexattr: remove(link),
  fremovexattr: remove(opened),
};
