/** Names that io/ keeps its tables by. */

import type { Inode } from "../types.ts";

/** The same for every opening of one file. */
export function inodeKey(inode: Inode): string {
  return `${inode.stat().dev}:${inode.ino}`;
}
