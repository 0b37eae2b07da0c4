/** open(2), and what the rest of the kernel opens by itself. */

import { E, Errno } from "../errno.ts";
import type { ByteString, OpenFile, Process, Task } from "../types.ts";
import * as C from "./constants.ts";
import { contextOf, vfsOf, type Walker } from "./context.ts";
import { IN_CREATE, IN_MODIFY, IN_OPEN } from "./hooks.ts";
import type { FsInode } from "./inode.ts";
import { Dentry } from "./dentry.ts";
import { describe, type Location, MS_NODEV, MS_NOEXEC } from "./mounts.ts";
import { newAttributes } from "./names.ts";
import { notify, notifyEntry } from "./notify.ts";
import { DirectoryFile, PathFile, RegularFile } from "./open-files.ts";
import { identityOf, mustBeWritable, mustPermit, owns } from "./permissions.ts";
import { finish, followLast, type Last, walk, type WalkOptions, walkToLast } from "./walk.ts";

/** Status flags that a description keeps. */
const KEPT =
  C.O_ACCMODE |
  C.O_APPEND |
  C.O_NONBLOCK |
  C.O_SYNC |
  C.O_ASYNC |
  C.O_DIRECT |
  C.O_LARGEFILE |
  C.O_NOATIME |
  C.O_DIRECTORY |
  C.O_NOFOLLOW;

/** `from`: where a relative path begins. The new file has one reference, the caller's. */
export function openPath(task: Task, path: ByteString, flags: number, mode = 0, from?: Location): OpenFile {
  const options: WalkOptions = { task, ...(from === undefined ? {} : { from }) };
  if ((flags & C.O_PATH) !== 0) return openPlace(task, path, flags, options);
  if ((flags & C.O_TMPFILE_BIT) !== 0) return openUnnamed(task, path, flags, mode, options);
  if ((flags & C.O_CREAT) === 0) {
    const follow = (flags & C.O_NOFOLLOW) === 0;
    const place = walk(task.process, path, { ...options, follow });
    return openLocation(task, place, flags);
  }
  if ((flags & C.O_DIRECTORY) !== 0) throw new Errno(E.INVAL);
  return openOrCreate(task, path, flags, mode, options);
}

function openPlace(task: Task, path: ByteString, flags: number, options: WalkOptions): OpenFile {
  const follow = (flags & C.O_NOFOLLOW) === 0;
  const place = walk(task.process, path, { ...options, follow });
  if ((flags & C.O_DIRECTORY) !== 0 && !place.dentry.inode.isDirectory) throw new Errno(E.NOTDIR);
  return new PathFile(place, C.O_PATH | (flags & (C.O_DIRECTORY | C.O_NOFOLLOW)));
}

function openUnnamed(
  task: Task,
  path: ByteString,
  flags: number,
  mode: number,
  options: WalkOptions,
): OpenFile {
  if ((flags & C.O_DIRECTORY) === 0 || (flags & C.O_ACCMODE) === C.O_RDONLY) throw new Errno(E.INVAL);
  const directory = walk(task.process, path, options);
  const parent = directory.dentry.inode;
  if (!parent.isDirectory) throw new Errno(E.NOTDIR);
  mustPermit(identityOf(task.process.credentials), directory, C.MAY_WRITE | C.MAY_EXEC);
  const attributes = newAttributes(task.process, parent, C.S_IFREG | (mode & 0o7777));
  const inode = parent.createUnnamed(attributes);
  const dentry = new Dentry(inode, directory.dentry, `#${inode.ino}`);
  dentry.deleted = true;
  return new RegularFile({ mount: directory.mount, dentry }, flags & KEPT);
}

function openOrCreate(
  task: Task,
  path: ByteString,
  flags: number,
  mode: number,
  options: WalkOptions,
): OpenFile {
  let last = walkToLast(task.process, path, options);
  for (;;) {
    if (last.slashes || last.name === "" || last.name === "." || last.name === "..") {
      if ((flags & C.O_EXCL) !== 0 && !last.slashes) throw new Errno(E.EXIST);
      throw new Errno(E.ISDIR);
    }
    const place = finish(task.process, last, { ...options, follow: false });
    if (place === undefined) return createAndOpen(task, last, flags, mode);
    if ((flags & C.O_EXCL) !== 0) throw new Errno(E.EXIST);
    if (!place.dentry.inode.isSymlink) return openLocation(task, place, flags);
    if ((flags & C.O_NOFOLLOW) !== 0) throw new Errno(E.LOOP);
    const next = followLast(task.process, last, place, options);
    if ("mount" in next) return openLocation(task, next, flags);
    last = next;
  }
}

function createAndOpen(task: Task, last: Last, flags: number, mode: number): OpenFile {
  const { directory, name } = last;
  const parent = directory.dentry.inode;
  mustBeWritable(directory.mount);
  mustPermit(identityOf(task.process.credentials), directory, C.MAY_WRITE | C.MAY_EXEC);
  if (directory.dentry.deleted) throw new Errno(E.NOENT);
  const inode = parent.create(name, newAttributes(task.process, parent, C.S_IFREG | (mode & 0o7777)));
  const place = { mount: directory.mount, dentry: directory.dentry.adopt(name, inode) };
  notifyEntry(directory, IN_CREATE, inode, name);
  // Whoever makes a file may use it as asked, whatever its mode says.
  notify(place, IN_OPEN);
  return new RegularFile(place, flags & KEPT);
}

/** What is there, checked against the flags. */
export function openLocation(task: Task, place: Location, flags: number): OpenFile {
  const { inode } = place.dentry;
  if (inode.isSymlink) throw new Errno(E.LOOP);
  const access = flags & C.O_ACCMODE;
  if (inode.isDirectory) {
    if (access !== C.O_RDONLY || (flags & (C.O_CREAT | C.O_TRUNC)) !== 0) throw new Errno(E.ISDIR);
  } else if ((flags & C.O_DIRECTORY) !== 0) throw new Errno(E.NOTDIR);
  const who = identityOf(task.process.credentials);
  let mask = access === C.O_RDONLY ? C.MAY_READ : access === C.O_WRONLY ? C.MAY_WRITE : 6;
  if ((flags & C.O_TRUNC) !== 0) mask |= C.MAY_WRITE;
  mustPermit(who, place, mask);
  if ((flags & C.O_NOATIME) !== 0 && !owns(who, inode)) throw new Errno(E.PERM);
  const file = openInode(task, place, inode, flags);
  notify(place, IN_OPEN);
  return file;
}

function openInode(task: Task, place: Location, inode: FsInode, flags: number): OpenFile {
  const { devices } = place.mount.vfs;
  const kept = flags & KEPT;
  const special = inode.open(task, flags, place);
  if (special !== undefined) return special;
  switch (inode.mode & C.S_IFMT) {
    case C.S_IFDIR:
      return new DirectoryFile(place, kept);
    case C.S_IFCHR:
      if ((place.mount.flags & MS_NODEV) !== 0) throw new Errno(E.ACCES);
      return devices.openCharacter(task, inode, flags, nameOf(task, place));
    case C.S_IFIFO:
      if (devices.fifo === undefined) throw new Errno(E.NXIO);
      return devices.fifo(task, inode, flags, nameOf(task, place));
    case C.S_IFREG: {
      if ((flags & C.O_TRUNC) !== 0 && inode.size > 0) {
        inode.truncate(0);
        notify(place, IN_MODIFY);
      } else if ((flags & C.O_TRUNC) !== 0) inode.setattr({ mtime: place.mount.vfs.now() });
      return new RegularFile(place, kept);
    }
    default:
      throw new Errno(E.NXIO);
  }
}

function nameOf(task: Task, place: Location): ByteString {
  return describe(place, contextOf(task.process).root);
}

export interface Executable {
  inode: FsInode;
  location: Location;
  /** From the root, as /proc/self/exe shows it. */
  name: ByteString;
}

/** What execve runs: a regular file that the process may execute. Hold its inode for as long as it is used. */
export function openExecutable(
  process: Process,
  path: ByteString,
  from?: Location,
  follow = true,
): Executable {
  return executableAt(process, walk(process, path, { follow, ...(from === undefined ? {} : { from }) }));
}

export function executableAt(walker: Walker, location: Location): Executable {
  const { inode } = location.dentry;
  if (inode.isSymlink) throw new Errno(E.LOOP);
  if (!inode.isRegular) throw new Errno(E.ACCES);
  if ((location.mount.flags & MS_NOEXEC) !== 0) throw new Errno(E.ACCES);
  mustPermit(identityOf(walker.credentials), location, C.MAY_EXEC);
  return { inode, location, name: describe(location, vfsOf(walker).root) };
}

/** Bytes of a regular file; fewer at its end. Throws `Block`. */
export function readInode(inode: FsInode, position: number, length: number): Uint8Array {
  const into = new Uint8Array(Math.max(0, Math.min(length, inode.size - position)));
  return into.subarray(0, inode.read(position, into));
}
