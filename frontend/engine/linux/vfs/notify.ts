/** Tells inotify what happened. */

import type { ByteString } from "../types.ts";
import { IN_ISDIR } from "./hooks.ts";
import type { FsInode } from "./inode.ts";
import type { Location } from "./mounts.ts";

/** To a file under its name: its directory hears of it, too. */
export function notify(location: Location, mask: number): void {
  const { events } = location.mount.vfs.hooks;
  if (events?.active !== true) return;
  const { inode, parent, name, isRoot, deleted } = location.dentry;
  const full = inode.isDirectory ? mask | IN_ISDIR : mask;
  if (isRoot || deleted) events.happened(full, inode);
  else events.happened(full, inode, parent.inode, name);
}

let lastCookie = 0;

/** Binds the two halves of a move. */
export function moveCookie(): number {
  lastCookie += 1;
  return lastCookie;
}

/** To an entry of a directory. */
export function notifyEntry(
  directory: Location,
  mask: number,
  inode: FsInode,
  name: ByteString,
  cookie?: number,
): void {
  const { events } = directory.mount.vfs.hooks;
  if (events?.active !== true) return;
  const full = inode.isDirectory ? mask | IN_ISDIR : mask;
  events.happened(full, inode, directory.dentry.inode, name, cookie);
}
