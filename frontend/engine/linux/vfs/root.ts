/** The tree that every machine has: its root, /dev, /proc, /sys, /dev/shm and /dev/pts. */

import type { ByteString, Time } from "../types.ts";
import * as C from "./constants.ts";
import { Dentry } from "./dentry.ts";
import type { FileSystem } from "./inode.ts";
import { MemoryFileSystem } from "./memory-fs.ts";
import { crossMounts, type Location, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RELATIME } from "./mounts.ts";
import { Vfs } from "./vfs.ts";

export interface RootOptions {
  now: () => Time;
  /** Makes the root file system. */
  root: (vfs: Vfs) => FileSystem;
  /** As /proc/mounts shows it. */
  source?: ByteString;
}

/** Of /proc and /sys. */
export const KERNEL_FLAGS = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME;

export function makeRoot(options: RootOptions): Vfs {
  const vfs = new Vfs(options.now);
  vfs.mount(options.root(vfs), undefined, options.source ?? "/dev/root", MS_RELATIME);
  const dev = mountAt(vfs, "dev", "devtmpfs", MS_NOSUID | MS_RELATIME, devices(vfs));
  const pts = new MemoryFileSystem(vfs, { type: "devpts", volatile: true });
  vfs.devpts = pts;
  if (dev !== undefined) {
    mountUnder(vfs, dev, "pts", "devpts", MS_NOSUID | MS_NOEXEC | MS_RELATIME, pts);
    const shm = new MemoryFileSystem(vfs, { mode: 0o1777 });
    mountUnder(vfs, dev, "shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_RELATIME, shm);
  }
  return vfs;
}

/** On a directory of the root. */
export function mountAt(
  vfs: Vfs,
  name: ByteString,
  source: ByteString,
  flags: number,
  fs: FileSystem,
): Location | undefined {
  return mountUnder(vfs, vfs.root, name, source, flags, fs);
}

/** Makes the directory where it is missing; on a read-only file system without it, nothing is mounted. */
function mountUnder(
  vfs: Vfs,
  parent: Location,
  name: ByteString,
  source: ByteString,
  flags: number,
  fs: FileSystem,
): Location | undefined {
  let dentry: Dentry | undefined = parent.dentry.child(name);
  if (dentry === undefined) {
    if (parent.mount.readOnly) return undefined;
    const inode = parent.dentry.inode.create(name, { mode: C.S_IFDIR | 0o755, uid: 0, gid: 0 });
    dentry = parent.dentry.adopt(name, inode);
  }
  if (!dentry.inode.isDirectory) return undefined;
  const at = { mount: parent.mount, dentry };
  vfs.mount(fs, at, source, flags);
  return crossMounts(at);
}

/** As devtmpfs and udev make them: name, major, minor, mode. */
const NODES: readonly (readonly [ByteString, number, number, number])[] = [
  ["null", 1, 3, 0o666],
  ["zero", 1, 5, 0o666],
  ["full", 1, 7, 0o666],
  ["random", 1, 8, 0o666],
  ["urandom", 1, 9, 0o666],
  ["tty", 5, 0, 0o666],
  ["console", 5, 1, 0o600],
  ["ptmx", 5, 2, 0o666],
];

const LINKS: readonly (readonly [ByteString, ByteString])[] = [
  ["fd", "/proc/self/fd"],
  ["stdin", "/proc/self/fd/0"],
  ["stdout", "/proc/self/fd/1"],
  ["stderr", "/proc/self/fd/2"],
];

function devices(vfs: Vfs): MemoryFileSystem {
  const fs = new MemoryFileSystem(vfs, { type: "devtmpfs" });
  const owner = { uid: 0, gid: 0 };
  for (const [name, major, minor, mode] of NODES) {
    fs.root.create(name, { ...owner, mode: C.S_IFCHR | mode, rdev: C.makeDevice(major, minor) });
  }
  for (const [name, target] of LINKS) fs.root.create(name, { ...owner, mode: C.S_IFLNK | 0o777, target });
  for (const name of ["pts", "shm", "mqueue"]) {
    fs.root.create(name, { ...owner, mode: C.S_IFDIR | 0o755 });
  }
  return fs;
}
