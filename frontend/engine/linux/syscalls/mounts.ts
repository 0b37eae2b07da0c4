/** mount and umount2: file systems in memory, and places shown a second time. */

import { E, Errno } from "../errno.ts";
import type { SystemCalls, Task } from "../types.ts";
import { contextOf, vfsOf } from "../vfs/context.ts";
import type { FileSystem } from "../vfs/inode.ts";
import { MemoryFileSystem } from "../vfs/memory-fs.ts";
import { MS_NOATIME, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_RELATIME } from "../vfs/mounts.ts";
import type { Location } from "../vfs/mounts.ts";
import { PlacedFile } from "../vfs/open-files.ts";
import { walk } from "../vfs/walk.ts";
import { pathArgument } from "./file-arguments.ts";

const MS_REMOUNT = 32;
const MS_BIND = 4096;
const MS_MOVE = 8192;
const MS_PROPAGATION = (1 << 17) | (1 << 18) | (1 << 19) | (1 << 20);
const KEPT = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME;

const UMOUNT_NOFOLLOW = 8;
const MNT_DETACH = 2;

function sizeOption(text: string): number | undefined {
  const [, digits, unit] = /(?:^|,)size=(\d+)([kmgKMG]?)(?:,|$)/.exec(text) ?? [];
  if (digits === undefined) return undefined;
  return Number(digits) * 1024 ** " kmg".indexOf((unit || " ").toLowerCase());
}

function makeFileSystem(task: Task, type: string, data: string): FileSystem {
  const vfs = vfsOf(task.process);
  if (type === "tmpfs" || type === "ramfs") {
    const most = sizeOption(data);
    const mode = /(?:^|,)mode=([0-7]+)/.exec(data)?.[1];
    return new MemoryFileSystem(vfs, {
      type,
      mode: mode === undefined ? 0o1777 : parseInt(mode, 8),
      ...(most === undefined ? {} : { most }),
    });
  }
  if (type === "devpts" && vfs.devpts !== undefined) return vfs.devpts;
  // There is one of each of these: it is shown once more.
  const there = vfs.mounts.find((mount) => mount.fs.type === type);
  if (there !== undefined && ["proc", "sysfs", "devtmpfs"].includes(type)) return there.fs;
  throw new Errno(E.NODEV);
}

function optionalString(task: Task, address: number): string {
  return address === 0 ? "" : pathArgument(task, address);
}

function mount(
  task: Task,
  source: number,
  target: number,
  type: number,
  flags: number,
  data: number,
): number {
  if (task.process.credentials.euid !== 0) throw new Errno(E.PERM);
  const vfs = vfsOf(task.process);
  const at = walk(task.process, pathArgument(task, target), { task });
  if ((flags & MS_REMOUNT) !== 0) {
    if (at.dentry !== at.mount.root) throw new Errno(E.INVAL);
    at.mount.flags = (flags & KEPT) | MS_RELATIME;
    return 0;
  }
  if ((flags & MS_MOVE) !== 0) throw new Errno(E.INVAL);
  // Nothing propagates between namespaces where there is one.
  if ((flags & MS_PROPAGATION) !== 0) return 0;
  const name = optionalString(task, source);
  if ((flags & MS_BIND) !== 0) {
    const from = walk(task.process, name, { task });
    vfs.mount(from.mount.fs, at, from.mount.source, from.mount.flags, from.dentry);
    return 0;
  }
  const fs = makeFileSystem(task, optionalString(task, type), optionalString(task, data));
  vfs.mount(fs, at, name === "" ? "none" : name, (flags & KEPT) | MS_RELATIME);
  return 0;
}

/** Whether a process works in it. */
function inUse(task: Task, place: Location): boolean {
  for (const process of task.process.kernel.processes()) {
    const context = contextOf(process);
    if (context.cwd.mount === place.mount || context.root.mount === place.mount) return true;
    const files = process.files as { numbers?: () => Iterable<number>; get(fd: number): unknown };
    for (const fd of files.numbers?.() ?? []) {
      const file = files.get(fd);
      if (file instanceof PlacedFile && file.location.mount === place.mount) return true;
    }
  }
  return false;
}

function unmount(task: Task, target: number, flags: number): number {
  const follow = (flags & UMOUNT_NOFOLLOW) === 0;
  const at = walk(task.process, pathArgument(task, target), { task, follow });
  if (task.process.credentials.euid !== 0) throw new Errno(E.PERM);
  if (at.dentry !== at.mount.root) throw new Errno(E.INVAL);
  if ((flags & MNT_DETACH) === 0 && inUse(task, at)) throw new Errno(E.BUSY);
  at.mount.fs.sync();
  vfsOf(task.process).unmount(at.mount);
  return 0;
}

function refused(): number {
  throw new Errno(E.PERM);
}

export const mountCalls: SystemCalls = {
  mount: (task, a) => mount(task, a[0], a[1], a[2], a[3], a[4]),
  umount2: (task, a) => unmount(task, a[0], a[1] | 0),
  pivot_root: refused,
  name_to_handle_at: () => {
    throw new Errno(E.OPNOTSUPP);
  },
  open_by_handle_at: refused,
};
