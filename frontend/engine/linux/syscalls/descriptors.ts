/** fcntl, ioctl on any file, flock, and what makes content safe. */

import { E, Errno } from "../errno.ts";
import { holdFile } from "../references.ts";
import { TcpSocket } from "../io/sockets/tcp.ts";
import type { OpenFile, SystemCalls, Task } from "../types.ts";
import * as C from "../vfs/constants.ts";
import { vfsOf } from "../vfs/context.ts";
import { FsInode } from "../vfs/inode.ts";
import { addSeals } from "../vfs/memfd.ts";
import { MemoryInode } from "../vfs/memory-inode.ts";
import { PathFile, PlacedFile, RegularFile } from "../vfs/open-files.ts";
import { descriptorsOf, fileOf, usableFile } from "./file-arguments.ts";
import { addFile } from "./open.ts";
import { pipeControl } from "./pipes.ts";

const F_DUPFD = 0;
const F_GETFD = 1;
const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const F_GETLK = 5;
const F_SETLKW = 7;
const F_SETOWN = 8;
const F_SETOWN_EX = 15;
const F_GETOWN_EX = 16;
const F_OWNER_PID = 1;
const F_OWNER_PGRP = 2;
const F_GETOWN = 9;
const F_SETSIG = 10;
const F_GETSIG = 11;
const F_OFD_GETLK = 36;
const F_OFD_SETLKW = 38;
const F_GETLEASE = 1025;
const F_DUPFD_CLOEXEC = 1030;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_UNLCK = 2;
const FD_CLOEXEC = 1;

const SETTABLE = C.O_APPEND | C.O_NONBLOCK | C.O_ASYNC | C.O_DIRECT | C.O_NOATIME;

function fcntl(task: Task, fd: number, command: number, value: number): number {
  const files = descriptorsOf(task);
  const entry = files.descriptor(fd);
  const { file } = entry;
  switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: {
      if (value < 0 || value >= task.process.limit(C.RLIMIT_NOFILE)) throw new Errno(E.INVAL);
      const copy = addFile(task, file, command === F_DUPFD_CLOEXEC, value);
      holdFile(file);
      return copy;
    }
    case F_GETFD:
      return entry.closeOnExec ? FD_CLOEXEC : 0;
    case F_SETFD:
      entry.closeOnExec = (value & FD_CLOEXEC) !== 0;
      return 0;
    case F_GETFL:
      return file.flags & ~(C.O_CLOEXEC | C.O_CREAT | C.O_EXCL | C.O_NOCTTY | C.O_TRUNC);
  }
  if (file instanceof PathFile) throw new Errno(E.BADF);
  return fcntlOfFile(task, file, command, value);
}

function fcntlOfFile(task: Task, file: OpenFile, command: number, value: number): number {
  const { hooks } = vfsOf(task.process);
  const isLock =
    (command >= F_GETLK && command <= F_SETLKW) || (command >= F_OFD_GETLK && command <= F_OFD_SETLKW);
  if (isLock) {
    if (hooks.locks === undefined) throw new Errno(E.NOLCK);
    return hooks.locks.control(task, file, command, value);
  }
  for (const control of [...hooks.controls, pipeControl]) {
    const result = control(task, file, command, value);
    if (result !== undefined) return result;
  }
  switch (command) {
    case F_SETFL:
      file.flags = (file.flags & ~SETTABLE) | (value & SETTABLE);
      return 0;
    // Nobody sends SIGIO here: only a TCP socket has something to tell its owner.
    case F_SETOWN:
      if (file instanceof TcpSocket) file.owner = value | 0;
      return 0;
    case F_GETOWN:
      return file instanceof TcpSocket ? file.owner : 0;
    case F_SETOWN_EX:
      return setOwner(task, file, value);
    case F_GETOWN_EX: {
      const owner = file instanceof TcpSocket ? file.owner : 0;
      task.memory.setU32(value, owner < 0 ? F_OWNER_PGRP : F_OWNER_PID);
      task.memory.setU32(value + 4, Math.abs(owner));
      return 0;
    }
    case F_SETSIG:
    case F_GETSIG:
      return 0;
    case F_GETLEASE:
      return F_UNLCK;
    case F_ADD_SEALS:
      if (!(file instanceof RegularFile)) throw new Errno(E.INVAL);
      if (!file.canWrite) throw new Errno(E.PERM);
      return addSeals(memfdOf(file), value);
    case F_GET_SEALS:
      return memfdOf(file).seals!;
    default:
      throw new Errno(E.INVAL);
  }
}

/** `struct f_owner_ex`. A thread counts as its process. */
function setOwner(task: Task, file: OpenFile, address: number): number {
  const type = task.memory.getI32(address);
  const id = task.memory.getI32(address + 4);
  if (type < 0 || type > F_OWNER_PGRP) throw new Errno(E.INVAL);
  if (file instanceof TcpSocket) file.owner = type === F_OWNER_PGRP ? -id : id;
  return 0;
}

function memfdOf(file: OpenFile): MemoryInode {
  const { inode } = file;
  if (!(inode instanceof MemoryInode) || inode.seals === undefined) throw new Errno(E.INVAL);
  return inode;
}

const FIONCLEX = 0x5450;
const FIOCLEX = 0x5451;
const FIONBIO = 0x5421;
const FIOASYNC = 0x5452;
const FIOQSIZE = 0x5460;
const FIGETBSZ = 2;

function ioctl(task: Task, fd: number, request: number, argument: number): number {
  const file = usableFile(task, fd);
  switch (request) {
    case FIOCLEX:
    case FIONCLEX:
      descriptorsOf(task).descriptor(fd).closeOnExec = request === FIOCLEX;
      return 0;
    case FIONBIO:
    case FIOASYNC: {
      const flag = request === FIONBIO ? C.O_NONBLOCK : C.O_ASYNC;
      if (task.memory.getI32(argument) !== 0) file.flags |= flag;
      else file.flags &= ~flag;
      return 0;
    }
    case FIOQSIZE:
      if (!(file instanceof PlacedFile)) throw new Errno(E.NOTTY);
      task.memory.setI64(argument, file.inode.size);
      return 0;
    case FIGETBSZ:
      if (!(file instanceof PlacedFile)) break;
      task.memory.setU32(argument, file.inode.stat().blksize);
      return 0;
  }
  return file.ioctl(task, request, argument);
}

const LOCK_NB = 4;

function flock(task: Task, file: OpenFile, operation: number): number {
  const what = operation & ~LOCK_NB;
  if (what !== 1 && what !== 2 && what !== 8) throw new Errno(E.INVAL);
  const { locks } = vfsOf(task.process).hooks;
  if (locks === undefined) throw new Errno(E.NOLCK);
  return locks.flock(task, file, operation);
}

function sync(task: Task, fd: number): number {
  const { inode } = usableFile(task, fd);
  if (!(inode instanceof FsInode) || !(inode.isRegular || inode.isDirectory)) throw new Errno(E.INVAL);
  inode.sync();
  return 0;
}

const POSIX_FADV_NOREUSE = 5;

export const descriptorCalls: SystemCalls = {
  fcntl: (task, a) => fcntl(task, a[0] | 0, a[1] | 0, a[2]),
  ioctl: (task, a) => ioctl(task, a[0] | 0, a[1] >>> 0, a[2]),
  flock: (task, a) => flock(task, usableFile(task, a[0]), a[1] | 0),
  sync: (task) => {
    vfsOf(task.process).sync();
    return 0;
  },
  fsync: (task, a) => sync(task, a[0]),
  fdatasync: (task, a) => sync(task, a[0]),
  sync_file_range: (task, a) => sync(task, a[0]),
  syncfs: (task, a) => {
    const file = usableFile(task, a[0]);
    if (file instanceof PlacedFile) file.location.mount.fs.sync();
    return 0;
  },
  fadvise64: (task, a) => {
    const file = usableFile(task, a[0]);
    if ((file.inode.stat().mode & C.S_IFMT) === C.S_IFIFO) throw new Errno(E.SPIPE);
    if (a[2] < 0 || a[3] < 0 || a[3] > POSIX_FADV_NOREUSE) throw new Errno(E.INVAL);
    return 0;
  },
  readahead: (task, a) => {
    const file = fileOf(task, a[0]);
    if (!(file instanceof PlacedFile) || !file.canRead) throw new Errno(E.BADF);
    if (!file.inode.isRegular) throw new Errno(E.INVAL);
    return 0;
  },
};
