/** Who may do what to a file. */

import { E, Errno } from "../errno.ts";
import type { Credentials } from "../types.ts";
import {
  MAY_EXEC,
  MAY_READ,
  MAY_WRITE,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  S_IFMT,
  S_IFSOCK,
  S_ISVTX,
} from "./constants.ts";
import type { FsInode } from "./inode.ts";
import type { Location, Mount } from "./mounts.ts";

/** The identity that is asked for: file system ids, or the real ones (access(2)). */
export interface Identity {
  uid: number;
  gid: number;
  groups: readonly number[];
}

export function identityOf(credentials: Credentials): Identity {
  return { uid: credentials.fsuid, gid: credentials.fsgid, groups: credentials.groups };
}

export function realIdentity(credentials: Credentials): Identity {
  return { uid: credentials.uid, gid: credentials.gid, groups: credentials.groups };
}

export function inGroup(who: Identity, gid: number): boolean {
  return who.gid === gid || who.groups.includes(gid);
}

/** Whether the inode's mode grants all of `mask` (MAY_*). */
export function permits(who: Identity, inode: FsInode, mask: number): boolean {
  const mode = inode.mode;
  if (who.uid === 0) {
    return (mask & MAY_EXEC) === 0 || inode.isDirectory || (mode & 0o111) !== 0;
  }
  const shift = who.uid === inode.uid ? 6 : inGroup(who, inode.gid) ? 3 : 0;
  return (mask & ~(mode >> shift)) === 0;
}

/** Throws EACCES; EROFS where a write would go to a read-only file system. */
export function mustPermit(who: Identity, location: Location, mask: number): void {
  const { inode } = location.dentry;
  if ((mask & MAY_WRITE) !== 0 && location.mount.readOnly && !isSpecial(inode)) throw new Errno(E.ROFS);
  if (!permits(who, inode, mask & (MAY_READ | MAY_WRITE | MAY_EXEC))) throw new Errno(E.ACCES);
}

/** What is behind it is no content of the file system. */
export function isSpecial(inode: FsInode): boolean {
  const type = inode.mode & S_IFMT;
  return type === S_IFCHR || type === S_IFBLK || type === S_IFIFO || type === S_IFSOCK;
}

export function mustBeWritable(mount: Mount): void {
  if (mount.readOnly) throw new Errno(E.ROFS);
}

/** Removing or renaming `inode` from `directory` (whose write permission has been checked). */
export function mustOwnInSticky(who: Identity, directory: FsInode, inode: FsInode): void {
  if ((directory.mode & S_ISVTX) === 0 || who.uid === 0) return;
  if (who.uid !== inode.uid && who.uid !== directory.uid) throw new Errno(E.PERM);
}

/** For what only the owner may do (chmod, utimes). */
export function owns(who: Identity, inode: FsInode): boolean {
  return who.uid === 0 || who.uid === inode.uid;
}
