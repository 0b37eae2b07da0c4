/** inotify_init, inotify_add_watch and inotify_rm_watch. */

import { E, Errno } from "../errno.ts";
import { O_CLOEXEC, O_NONBLOCK } from "../io/constants.ts";
import { IN_ALL_EVENTS, IN_MASK_ADD, IN_MASK_CREATE, InotifyFile } from "../io/events/inotify.ts";
import { ioMachine } from "../io/machine.ts";
import type { SystemCalls, Task } from "../types.ts";
import { MAY_READ } from "../vfs/constants.ts";
import { identityOf, mustPermit } from "../vfs/permissions.ts";
import { walk } from "../vfs/walk.ts";

const IN_ONLYDIR = 0x01000000;
const IN_DONT_FOLLOW = 0x02000000;

function init(task: Task, flags: number): number {
  if ((flags & ~(O_CLOEXEC | O_NONBLOCK)) !== 0) throw new Errno(E.INVAL);
  const { watches } = ioMachine(task.process.kernel);
  const file = new InotifyFile(task, watches, flags & O_NONBLOCK);
  return task.process.files.add(file, (flags & O_CLOEXEC) !== 0);
}

function instance(task: Task, fd: number): InotifyFile {
  const file = task.process.files.get(fd);
  if (!(file instanceof InotifyFile)) throw new Errno(E.INVAL);
  return file;
}

function addWatch(task: Task, fd: number, at: number, mask: number): number {
  if ((mask & IN_ALL_EVENTS) === 0) throw new Errno(E.INVAL);
  if ((mask & IN_MASK_ADD) !== 0 && (mask & IN_MASK_CREATE) !== 0) throw new Errno(E.INVAL);
  const file = instance(task, fd);
  const path = task.memory.string(at);
  const place = walk(task.process, path, { task, follow: (mask & IN_DONT_FOLLOW) === 0 });
  const { inode } = place.dentry;
  if ((mask & IN_ONLYDIR) !== 0 && !inode.isDirectory) throw new Errno(E.NOTDIR);
  mustPermit(identityOf(task.process.credentials), place, MAY_READ);
  return file.watch(inode, mask);
}

export const inotifyCalls: SystemCalls = {
  inotify_init: (task) => init(task, 0),
  inotify_init1: (task, a) => init(task, a[0] | 0),
  inotify_add_watch: (task, a) => addWatch(task, a[0] | 0, a[1], a[2] | 0),
  inotify_rm_watch: (task, a) => {
    instance(task, a[0] | 0).unwatch(a[1] | 0);
    return 0;
  },
};
