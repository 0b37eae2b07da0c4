/** What system calls on files have in common: descriptors and paths among the arguments. */

import { E, Errno } from "../errno.ts";
import type { ByteString, OpenFile, Task, Time } from "../types.ts";
import { AT_EMPTY_PATH, AT_FDCWD } from "../vfs/constants.ts";
import { contextOf } from "../vfs/context.ts";
import { Descriptors } from "../vfs/descriptors.ts";
import { FsInode } from "../vfs/inode.ts";
import type { Location } from "../vfs/mounts.ts";
import { PathFile, PlacedFile } from "../vfs/open-files.ts";
import { walk, type WalkOptions } from "../vfs/walk.ts";

export function fileOf(task: Task, fd: number): OpenFile {
  return task.process.files.get(fd | 0);
}

/** For what O_PATH descriptors cannot do. */
export function usableFile(task: Task, fd: number): OpenFile {
  const file = fileOf(task, fd);
  if (file instanceof PathFile) throw new Errno(E.BADF);
  return file;
}

export function descriptorsOf(task: Task): Descriptors {
  return task.process.files as Descriptors;
}

/** The file's inode when it belongs to a file system; else what the caller says is the error. */
export function fsInodeOf(file: OpenFile, otherwise: number): FsInode {
  const { inode } = file;
  if (inode instanceof FsInode) return inode;
  throw new Errno(otherwise);
}

/** Where the path of an *at call begins. */
export function startOf(task: Task, dirfd: number, path: ByteString): Location | undefined {
  if (path[0] === "/" || (dirfd | 0) === AT_FDCWD) return undefined;
  const file = fileOf(task, dirfd);
  if (!(file instanceof PlacedFile)) throw new Errno(E.NOTDIR);
  if (path !== "" && !file.inode.isDirectory) throw new Errno(E.NOTDIR);
  return file.location;
}

export function walkOptions(task: Task, dirfd: number, path: ByteString, follow = true): WalkOptions {
  const from = startOf(task, dirfd, path);
  return { task, follow, ...(from === undefined ? {} : { from }) };
}

export function pathArgument(task: Task, address: number): ByteString {
  return task.memory.string(address, 4096);
}

/** The place an *at call is about, with AT_EMPTY_PATH; undefined: a file that has no place (a pipe). */
export function placeAt(
  task: Task,
  dirfd: number,
  path: ByteString,
  flags: number,
  follow: boolean,
): Location | undefined {
  if (path !== "" || (flags & AT_EMPTY_PATH) === 0) {
    return walk(task.process, path, walkOptions(task, dirfd, path, follow));
  }
  if ((dirfd | 0) === AT_FDCWD) return contextOf(task.process).cwd;
  const file = fileOf(task, dirfd);
  return file instanceof PlacedFile ? file.location : undefined;
}

/** The place of an open file; EBADF or what the caller says when it has none. */
export function locationOf(file: OpenFile, otherwise: number): Location {
  if (file instanceof PlacedFile) return file.location;
  throw new Errno(otherwise);
}

export function timespec(task: Task, address: number): Time {
  return { seconds: task.memory.getI64(address), nanoseconds: task.memory.getI64(address + 8) };
}
