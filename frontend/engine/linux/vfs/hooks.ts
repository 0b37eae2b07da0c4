/** What other parts do when files change hands or change: locks and inotify. Each is one object, set when the machine is put together. */

import type { ByteString, FileTable, OpenFile, Task } from "../types.ts";
import type { FsInode } from "./inode.ts";

export interface FileLocks {
  /** F_GETLK, F_SETLK, F_SETLKW and their OFD forms. Throws `Block`. */
  control(task: Task, file: OpenFile, command: number, argument: number): number;
  /** flock(2). Throws `Block`. */
  flock(task: Task, file: OpenFile, operation: number): number;
  /** A descriptor of that table was closed: the table's POSIX locks on the file's inode go. */
  closed(files: FileTable, file: OpenFile): void;
  /** Nobody has the open file any more: its flock and OFD locks go. */
  released(file: OpenFile): void;
}

/** IN_* of inotify(7). */
export const IN_ACCESS = 0x1;
export const IN_MODIFY = 0x2;
export const IN_ATTRIB = 0x4;
export const IN_CLOSE_WRITE = 0x8;
export const IN_CLOSE_NOWRITE = 0x10;
export const IN_OPEN = 0x20;
export const IN_MOVED_FROM = 0x40;
export const IN_MOVED_TO = 0x80;
export const IN_CREATE = 0x100;
export const IN_DELETE = 0x200;
export const IN_DELETE_SELF = 0x400;
export const IN_MOVE_SELF = 0x800;
export const IN_UNMOUNT = 0x2000;
export const IN_ISDIR = 0x40000000;

export interface FileEvents {
  /** False while nobody watches anything: then no event is made. */
  readonly active: boolean;
  /**
   * Something happened to `inode`. With `parent` and `name`, it happened in that directory (for creation, removal and moves
   * the event is the directory's alone; for the others both may be watched). `cookie` binds the two halves of a move.
   */
  happened(mask: number, inode: FsInode, parent?: FsInode, name?: ByteString, cookie?: number): void;
}

/** Control of memfds and pipes through fcntl that is somebody else's: undefined when the command is none of theirs. */
export type FileControl = (task: Task, file: OpenFile, command: number, value: number) => number | undefined;

export class Hooks {
  locks: FileLocks | undefined;
  events: FileEvents | undefined;
  readonly controls: FileControl[] = [];
}
