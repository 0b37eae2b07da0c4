/** memfd_create and its seals. */

import { E, Errno } from "../errno.ts";
import type { ByteString, Task } from "../types.ts";
import { O_RDWR, S_IFREG } from "./constants.ts";
import { Dentry } from "./dentry.ts";
import { MemoryFileSystem } from "./memory-fs.ts";
import type { MemoryInode } from "./memory-inode.ts";
import { Mount } from "./mounts.ts";
import { RegularFile } from "./open-files.ts";
import type { Vfs } from "./vfs.ts";

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_NOEXEC_SEAL = 8;
const MFD_EXEC = 16;

export const F_SEAL_SEAL = 1;
const F_SEALS = 0x3f;

/** Files without a name live on a mount that nobody sees. */
export function hiddenMount(vfs: Vfs): Mount {
  if (vfs.hidden === undefined) {
    const fs = new MemoryFileSystem(vfs, { mode: 0o1777 });
    vfs.hidden = new Mount(vfs, 1, fs, new Dentry(fs.root), undefined, "tmpfs", 0);
  }
  return vfs.hidden;
}

export function openMemoryFile(task: Task, vfs: Vfs, name: ByteString, flags: number): RegularFile {
  const known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC;
  if ((flags & ~known) !== 0) throw new Errno(E.INVAL);
  const mount = hiddenMount(vfs);
  const { fsuid: uid, fsgid: gid } = task.process.credentials;
  const mode = S_IFREG | ((flags & MFD_NOEXEC_SEAL) !== 0 ? 0o666 : 0o777);
  const inode = mount.root.inode.createUnnamed({ mode, uid, gid }) as MemoryInode;
  inode.seals = (flags & (MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL)) !== 0 ? 0 : F_SEAL_SEAL;
  const dentry = new Dentry(inode, mount.root, `/memfd:${name}`);
  dentry.deleted = true;
  return new RegularFile({ mount, dentry }, O_RDWR);
}

/** F_ADD_SEALS. */
export function addSeals(inode: MemoryInode, seals: number): number {
  if (inode.seals === undefined || (seals & ~F_SEALS) !== 0) throw new Errno(E.INVAL);
  if ((inode.seals & F_SEAL_SEAL) !== 0) throw new Errno(E.PERM);
  inode.seals |= seals;
  return 0;
}
