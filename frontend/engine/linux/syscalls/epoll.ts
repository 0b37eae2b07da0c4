/** epoll_create, epoll_ctl and epoll_wait in their forms. */

import { E, Errno } from "../errno.ts";
import { O_CLOEXEC, O_RDWR, POLLERR, POLLHUP, POLLIN, POLLOUT, S_IFREG } from "../io/constants.ts";
import { EPOLLEXCLUSIVE, EPOLLWAKEUP, EpollFile } from "../io/events/epoll.ts";
import { deadlineOf, waitForAny } from "../io/polling.ts";
import type { SystemCalls, Task } from "../types.ts";
import { applyMask, readTimespec } from "./polling.ts";

const CTL_ADD = 1;
const CTL_DEL = 2;
const CTL_MOD = 3;
/** `struct epoll_event` is packed on x86-64. */
const EVENT_SIZE = 12;
const MOST_EVENTS = Math.floor(0x7fffffff / EVENT_SIZE);
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const EPOLLET = -0x80000000;
const WITH_EXCLUSIVE = POLLIN | POLLOUT | POLLERR | POLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;

function create(task: Task, flags: number): number {
  if ((flags & ~O_CLOEXEC) !== 0) throw new Errno(E.INVAL);
  return task.process.files.add(new EpollFile(task, O_RDWR), (flags & O_CLOEXEC) !== 0);
}

function instance(task: Task, fd: number): EpollFile {
  const file = task.process.files.get(fd);
  if (!(file instanceof EpollFile)) throw new Errno(E.INVAL);
  return file;
}

function control(task: Task, epfd: number, operation: number, fd: number, at: number): number {
  const { files } = task.process;
  const { memory } = task;
  const event = operation === CTL_DEL ? undefined : memory.readable(at, EVENT_SIZE).slice();
  const epoll = files.get(epfd);
  const file = files.get(fd);
  const type = file.inode.stat().mode & S_IFMT;
  // Regular files and directories have nothing to wait for.
  if (type === S_IFREG || type === S_IFDIR) throw new Errno(E.PERM);
  if (file === epoll || !(epoll instanceof EpollFile)) throw new Errno(E.INVAL);
  if (operation === CTL_DEL) {
    epoll.remove(fd, file);
    return 0;
  }
  if (operation !== CTL_ADD && operation !== CTL_MOD) throw new Errno(E.INVAL);
  const events = new DataView(event!.buffer).getInt32(0, true);
  if ((events & EPOLLEXCLUSIVE) !== 0) {
    if (operation === CTL_MOD || file instanceof EpollFile || (events & ~WITH_EXCLUSIVE) !== 0) {
      throw new Errno(E.INVAL);
    }
  }
  const data = event!.subarray(4);
  if (operation === CTL_ADD) epoll.add(fd, file, events, data);
  else epoll.modify(fd, file, events, data);
  return 0;
}

function wait(task: Task, epfd: number, at: number, most: number, timeout: number | undefined): number {
  const epoll = instance(task, epfd);
  if (most <= 0 || most > MOST_EVENTS) throw new Errno(E.INVAL);
  const { memory } = task;
  const deadline = deadlineOf(task, timeout);
  // Written before anything is used up.
  memory.writable(at, EVENT_SIZE);
  const found = epoll.collect(task, most);
  if (found.length === 0) {
    if (task.process.kernel.monotonic() >= deadline) return 0;
    throw waitForAny(task, [epoll], deadline);
  }
  const events = memory.writable(at, found.length * EVENT_SIZE);
  const view = new DataView(events.buffer, events.byteOffset, events.byteLength);
  found.forEach(({ item, events: bits }, i) => {
    view.setUint32(i * EVENT_SIZE, bits, true);
    events.set(item.data, i * EVENT_SIZE + 4);
  });
  return found.length;
}

const fromMilliseconds = (value: number): number | undefined =>
  (value | 0) < 0 ? undefined : (value | 0) * 1e6;

export const epollCalls: SystemCalls = {
  epoll_create: (task, a) => {
    if ((a[0] | 0) <= 0) throw new Errno(E.INVAL);
    return create(task, 0);
  },
  epoll_create1: (task, a) => create(task, a[0] | 0),
  epoll_ctl: (task, a) => control(task, a[0] | 0, a[1] | 0, a[2] | 0, a[3]),
  epoll_wait: (task, a) => wait(task, a[0] | 0, a[1], a[2] | 0, fromMilliseconds(a[3])),
  epoll_pwait: (task, a) => {
    applyMask(task, a[4], a[5]);
    return wait(task, a[0] | 0, a[1], a[2] | 0, fromMilliseconds(a[3]));
  },
  epoll_pwait2: (task, a) => {
    const timeout = readTimespec(task.memory, a[3]);
    applyMask(task, a[4], a[5]);
    return wait(task, a[0] | 0, a[1], a[2] | 0, timeout);
  },
};
