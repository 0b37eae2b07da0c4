/** Opening and closing, duplicates, memfds. */

import { E, Errno } from "../errno.ts";
import { holdFile } from "../references.ts";
import type { OpenFile, SystemCalls, Task } from "../types.ts";
import * as C from "../vfs/constants.ts";
import { contextOf, vfsOf } from "../vfs/context.ts";
import { openMemoryFile } from "../vfs/memfd.ts";
import { openPath } from "../vfs/open.ts";
import { descriptorsOf, fileOf, pathArgument, startOf } from "./file-arguments.ts";

/** The limit may have changed since the table was made. */
export function addFile(task: Task, file: OpenFile, closeOnExec: boolean, from = 0): number {
  const files = descriptorsOf(task);
  files.most = task.process.limit(C.RLIMIT_NOFILE);
  return files.add(file, closeOnExec, from);
}

function open(task: Task, dirfd: number, address: number, flags: number, mode: number): number {
  const files = descriptorsOf(task);
  files.most = task.process.limit(C.RLIMIT_NOFILE);
  const path = pathArgument(task, address);
  // A file must not be made when there is no number for it.
  files.mustHaveRoom();
  const file = openPath(task, path, flags, mode, startOf(task, dirfd, path));
  return files.add(file, (flags & C.O_CLOEXEC) !== 0);
}

const CLOSE_RANGE_UNSHARE = 2;
const CLOSE_RANGE_CLOEXEC = 4;

function closeRange(task: Task, first: number, last: number, flags: number): number {
  if (first > last || (flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)) !== 0) throw new Errno(E.INVAL);
  if ((flags & CLOSE_RANGE_UNSHARE) !== 0) {
    const { process } = task;
    const shared = [...process.kernel.processes()].some((p) => p !== process && p.files === process.files);
    if (shared) process.files = process.files.copy();
  }
  const files = descriptorsOf(task);
  for (const fd of [...files.numbers()]) {
    if (fd < first || fd > last) continue;
    if ((flags & CLOSE_RANGE_CLOEXEC) !== 0) files.descriptor(fd).closeOnExec = true;
    else files.close(fd);
  }
  return 0;
}

function duplicateTo(task: Task, from: number, to: number, closeOnExec: boolean): number {
  const files = descriptorsOf(task);
  const file = files.get(from);
  if (to < 0 || to >= task.process.limit(C.RLIMIT_NOFILE)) throw new Errno(E.BADF);
  files.most = task.process.limit(C.RLIMIT_NOFILE);
  files.replace(to, holdFile(file), closeOnExec);
  return to;
}

export const openCalls: SystemCalls = {
  open: (task, a) => open(task, C.AT_FDCWD, a[0], a[1] | 0, a[2] & 0o7777),
  openat: (task, a) => open(task, a[0], a[1], a[2] | 0, a[3] & 0o7777),
  openat2: () => {
    throw new Errno(E.NOSYS);
  },
  creat: (task, a) => open(task, C.AT_FDCWD, a[0], C.O_CREAT | C.O_WRONLY | C.O_TRUNC, a[1] & 0o7777),
  close: (task, a) => {
    task.process.files.close(a[0] | 0);
    return 0;
  },
  close_range: (task, a) => closeRange(task, a[0] >>> 0, a[1] >>> 0, a[2] >>> 0),
  dup: (task, a) => {
    const file = fileOf(task, a[0]);
    const fd = addFile(task, file, false);
    holdFile(file);
    return fd;
  },
  dup2: (task, a) => {
    const [from, to] = [a[0] | 0, a[1] | 0];
    if (from === to) {
      fileOf(task, from);
      return to;
    }
    return duplicateTo(task, from, to, false);
  },
  dup3: (task, a) => {
    const [from, to, flags] = [a[0] | 0, a[1] | 0, a[2] | 0];
    if ((flags & ~C.O_CLOEXEC) !== 0 || from === to) throw new Errno(E.INVAL);
    return duplicateTo(task, from, to, flags !== 0);
  },
  memfd_create: (task, a) => {
    const name = task.memory.string(a[0], 250);
    const file = openMemoryFile(task, vfsOf(task.process), name, a[1] >>> 0);
    return addFile(task, file, (a[1] & 1) !== 0);
  },
  umask: (task, a) => {
    const context = contextOf(task.process);
    const before = context.umask;
    context.umask = a[0] & 0o777;
    return before;
  },
};
