/** mmap and what belongs to it. */

import { GUEST_END, PAGE_SIZE, PAGE_WRITABLE, PAGE_READ } from "../abi.ts";
import { E, Errno } from "../errno.ts";
import { RLIMIT_MEMLOCK } from "../limits.ts";
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_GROWSDOWN,
  MAP_HUGETLB,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_TYPE,
  pageOf,
  pageUp,
  PROT_GROWSDOWN,
  PROT_GROWSUP,
  PROT_WRITE,
} from "../memory/areas.ts";
import type { Mapping } from "../memory/maps.ts";
import { SharedMemory } from "../memory/shared.ts";
import { ofThreads, type Thread } from "../task.ts";

const O_ACCMODE = 3;
const O_WRONLY = 1;
const O_RDWR = 2;
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFCHR = 0o020000;
const DEV_ZERO = (1 << 8) | 5;
const MREMAP_MAYMOVE = 1;
const MREMAP_FIXED = 2;
const MREMAP_DONTUNMAP = 4;
const MS_ASYNC = 1;
const MS_INVALIDATE = 2;
const MS_SYNC = 4;
const MADV_DONTNEED = 4;
const MADV_FREE = 8;
const MADV_REMOVE = 9;
const MADV_DONTFORK = 10;
const MADV_DOFORK = 11;
const MADV_WIPEONFORK = 18;
const MADV_KEEPONFORK = 19;
const MADV_POPULATE_READ = 22;
const MADV_POPULATE_WRITE = 23;
/** Advice that changes nothing here: read-ahead, merging, huge pages, dumps, reclaim. */
const MADV_HINTS = new Set([0, 1, 2, 3, 12, 13, 14, 15, 16, 17, 20, 21, 25]);

function checkRange(address: number, length: number): void {
  if (address % PAGE_SIZE !== 0 || address < 0 || length < 0) throw new Errno(E.INVAL);
}

function anonymous(length: number, prot: number, shared: boolean): Mapping {
  const backing = shared ? new SharedMemory(length) : undefined;
  return { length, prot, shared, backing, offset: 0, name: shared ? "/dev/zero (deleted)" : "" };
}

function ofFile(thread: Thread, fd: number, offset: number, request: Mapping): Mapping {
  const file = thread.process.files.get(fd);
  const { inode } = file;
  const { mode, rdev } = inode.stat();
  const access = file.flags & O_ACCMODE;
  if (access === O_WRONLY) throw new Errno(E.ACCES);
  if (request.shared && (request.prot & PROT_WRITE) !== 0 && access !== O_RDWR) throw new Errno(E.ACCES);
  if ((mode & S_IFMT) === S_IFCHR && rdev === DEV_ZERO) {
    return anonymous(request.length, request.prot, request.shared);
  }
  if ((mode & S_IFMT) !== S_IFREG) throw new Errno(E.NODEV);
  return { ...request, backing: inode, offset, name: file.name };
}

/** Fills the pages of a range; what can't be had is left. */
function populate(thread: Thread, start: number, end: number, access: number): void {
  for (let at = start; at < end; at += PAGE_SIZE) thread.maps.fault(at, access);
}

function map(
  thread: Thread,
  hint: number,
  size: number,
  prot: number,
  flags: number,
  fd: number,
  at: number,
) {
  if (size <= 0 || at % PAGE_SIZE !== 0) throw new Errno(E.INVAL);
  const type = flags & MAP_TYPE;
  if (type !== MAP_SHARED && type !== MAP_PRIVATE && type !== MAP_SHARED_VALIDATE) throw new Errno(E.INVAL);
  // Huge pages are not there: as on a kernel without reserved ones.
  if ((flags & MAP_HUGETLB) !== 0) throw new Errno(E.NOMEM);
  const length = pageUp(size);
  const shared = type !== MAP_PRIVATE;
  let mapping = anonymous(length, prot, shared && (flags & MAP_ANONYMOUS) !== 0);
  mapping.shared = shared;
  if ((flags & MAP_ANONYMOUS) === 0) mapping = ofFile(thread, fd, at, mapping);
  mapping.growsDown = (flags & MAP_GROWSDOWN) !== 0;
  const { maps } = thread;
  let address: number | undefined;
  if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) !== 0) {
    checkRange(hint, length);
    if (hint === 0) throw new Errno(E.PERM);
    if (hint + length > GUEST_END) throw new Errno(E.NOMEM);
    if ((flags & MAP_FIXED_NOREPLACE) !== 0 && !maps.areas.isFree(hint, hint + length)) {
      throw new Errno(E.EXIST);
    }
    address = hint;
  }
  const start = maps.map(address, mapping, hint);
  if ((flags & MAP_POPULATE) !== 0) {
    populate(thread, start, start + length, (prot & PROT_WRITE) !== 0 ? PAGE_WRITABLE : PAGE_READ);
  }
  return start;
}

function advise(thread: Thread, start: number, length: number, advice: number): number {
  checkRange(start, length);
  const { maps } = thread;
  const end = start + pageUp(length);
  if (length === 0) return 0;
  if (end > GUEST_END) throw new Errno(E.NOMEM);
  switch (advice) {
    case MADV_DONTNEED:
    case MADV_REMOVE:
      for (const area of maps.areas.overlapping(start, end)) {
        const first = pageOf(Math.max(start, area.start));
        const last = pageOf(Math.min(end, area.end));
        if (advice === MADV_REMOVE) throw new Errno(E.OPNOTSUPP);
        maps.paging.drop(first, last);
      }
      break;
    case MADV_FREE:
      break;
    case MADV_DONTFORK:
    case MADV_DOFORK:
      maps.setForkBehaviour(start, length, { dontFork: advice === MADV_DONTFORK });
      return 0;
    case MADV_WIPEONFORK:
    case MADV_KEEPONFORK:
      maps.setForkBehaviour(start, length, { wipeOnFork: advice === MADV_WIPEONFORK });
      return 0;
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
      populate(thread, start, end, advice === MADV_POPULATE_READ ? PAGE_READ : PAGE_WRITABLE);
      return 0;
    default:
      if (!MADV_HINTS.has(advice)) throw new Errno(E.INVAL);
  }
  if (!maps.areas.covered(start, end)) throw new Errno(E.NOMEM);
  return 0;
}

function remap(thread: Thread, from: number, old: number, wanted: number, flags: number, to: number): number {
  checkRange(from, old);
  if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) !== 0 || wanted <= 0) throw new Errno(E.INVAL);
  if ((flags & MREMAP_DONTUNMAP) !== 0) throw new Errno(E.INVAL);
  const fixed = (flags & MREMAP_FIXED) !== 0;
  const mayMove = (flags & MREMAP_MAYMOVE) !== 0;
  if (fixed && (!mayMove || to % PAGE_SIZE !== 0)) throw new Errno(E.INVAL);
  const oldLength = pageUp(old);
  const newLength = pageUp(wanted);
  if (fixed && from < to + newLength && to < from + oldLength) throw new Errno(E.INVAL);
  return thread.maps.remap(from, oldLength, newLength, mayMove, fixed ? to : undefined);
}

function lock(thread: Thread, address: number, length: number, locked: boolean): number {
  const start = address - (address % PAGE_SIZE);
  const size = pageUp(length + (address - start));
  if (size === 0) return 0;
  if (locked && thread.process.credentials.euid !== 0 && size > thread.process.limit(RLIMIT_MEMLOCK)) {
    throw new Errno(E.NOMEM);
  }
  thread.maps.setLocked(start, size, locked);
  if (locked) populate(thread, start, start + size, PAGE_READ);
  return 0;
}

export const memoryCalls = ofThreads({
  mmap: (thread, a) => map(thread, a[0], a[1], a[2] | 0, a[3] | 0, a[4] | 0, a[5]),

  munmap(thread, a) {
    checkRange(a[0], a[1]);
    if (a[1] === 0 || a[0] + a[1] > 2 ** 47) throw new Errno(E.INVAL);
    if (a[0] < GUEST_END) thread.maps.unmap(a[0], a[1]);
    return 0;
  },

  mprotect(thread, a) {
    checkRange(a[0], a[1]);
    const prot = a[2] | 0;
    if ((prot & ~(7 | 8 | PROT_GROWSDOWN | PROT_GROWSUP)) !== 0) throw new Errno(E.INVAL);
    let [start, length] = [a[0], pageUp(a[1])];
    if (length === 0) return 0;
    if ((prot & PROT_GROWSDOWN) !== 0) {
      const area = thread.maps.areas.find(start);
      if (area?.growsDown !== true) throw new Errno(E.INVAL);
      length += start - area.start;
      start = area.start;
    }
    thread.maps.protect(start, length, prot & 7);
    return 0;
  },

  brk: (thread, a) => thread.maps.setBrk(a[0]),
  mremap: (thread, a) => remap(thread, a[0], a[1], a[2], a[3] | 0, a[4]),
  madvise: (thread, a) => advise(thread, a[0], a[1], a[2] | 0),

  mincore(thread, a) {
    checkRange(a[0], a[1]);
    const end = a[0] + pageUp(a[1]);
    if (end > GUEST_END || !thread.maps.areas.covered(a[0], end)) throw new Errno(E.NOMEM);
    const count = pageOf(end - a[0]);
    const into = thread.memory.writable(a[2], count);
    for (let at = 0; at < count; at += 1) {
      into[at] = thread.maps.paging.isThere(pageOf(a[0]) + at) ? 1 : 0;
    }
    return 0;
  },

  msync(thread, a) {
    checkRange(a[0], a[1]);
    const flags = a[2] | 0;
    if ((flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) !== 0) throw new Errno(E.INVAL);
    if ((flags & MS_ASYNC) !== 0 && (flags & MS_SYNC) !== 0) throw new Errno(E.INVAL);
    const end = a[0] + pageUp(a[1]);
    if (!thread.maps.areas.covered(a[0], end)) throw new Errno(E.NOMEM);
    thread.maps.paging.writeBack(pageOf(a[0]), pageOf(end));
    return 0;
  },

  mlock: (thread, a) => lock(thread, a[0], a[1], true),
  mlock2: (thread, a) => lock(thread, a[0], a[1], true),
  munlock: (thread, a) => lock(thread, a[0], a[1], false),
  // All memory stays where it is: nothing is ever swapped out.
  mlockall: (_thread, a) => ((a[0] | 0) < 1 || (a[0] | 0) > 7 ? -E.INVAL : 0),
  munlockall: () => 0,
});
