/** inotify: what happens to files and directories that somebody watches. */

import { E, Errno } from "../../errno.ts";
import type { ByteString, Task } from "../../types.ts";
import {
  type FileEvents,
  IN_CREATE,
  IN_DELETE,
  IN_DELETE_SELF,
  IN_MOVED_FROM,
  IN_MOVED_TO,
} from "../../vfs/hooks.ts";
import type { FsInode } from "../../vfs/inode.ts";
import { Block } from "../../wait.ts";
import { FIONREAD, O_RDONLY, READABLE } from "../constants.ts";
import { ANONYMOUS_DEVICE, PseudoFile, PseudoInode } from "../pseudo.ts";

export const IN_ALL_EVENTS = 0xfff;
export const IN_MASK_CREATE = 0x10000000;
export const IN_MASK_ADD = 0x20000000;
const IN_ONESHOT = -0x80000000;
const IN_Q_OVERFLOW = 0x4000;
const IN_IGNORED = 0x8000;
/** Only the directory hears of these. */
const OF_DIRECTORY = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO;
/** fs.inotify.max_queued_events. */
const MOST_QUEUED = 16384;
const HEADER = 16;

export interface Watch {
  readonly number: number;
  readonly file: InotifyFile;
  readonly inode: FsInode;
  mask: number;
}

/** All watches of a machine: what the file systems tell goes to those whom it concerns. */
export class Watches implements FileEvents {
  private readonly watches = new Map<FsInode, Watch[]>();

  get active(): boolean {
    return this.watches.size > 0;
  }

  add(watch: Watch): void {
    const there = this.watches.get(watch.inode);
    if (there === undefined) this.watches.set(watch.inode, [watch]);
    else there.push(watch);
    watch.inode.hold();
  }

  remove(watch: Watch): void {
    const rest = (this.watches.get(watch.inode) ?? []).filter((other) => other !== watch);
    if (rest.length > 0) this.watches.set(watch.inode, rest);
    else this.watches.delete(watch.inode);
    watch.inode.drop();
  }

  happened(mask: number, inode: FsInode, parent?: FsInode, name: ByteString = "", cookie = 0): void {
    if (parent !== undefined) {
      for (const watch of [...(this.watches.get(parent) ?? [])]) watch.file.event(watch, mask, name, cookie);
    }
    if (parent !== undefined && (mask & OF_DIRECTORY) !== 0) return;
    for (const watch of [...(this.watches.get(inode) ?? [])]) {
      watch.file.event(watch, mask, "", 0);
      if ((mask & IN_DELETE_SELF) !== 0) watch.file.forget(watch);
    }
  }
}

interface Event {
  watch: number;
  mask: number;
  cookie: number;
  name: ByteString;
}

export class InotifyFile extends PseudoFile {
  readonly name = "anon_inode:inotify";
  private readonly all: Watches;
  private readonly watches = new Map<number, Watch>();
  private queue: Event[] = [];
  private nextNumber = 1;

  constructor(task: Task, all: Watches, flags: number) {
    super(new PseudoInode(task, ANONYMOUS_DEVICE, 0o600), O_RDONLY | flags);
    this.all = all;
  }

  /** Returns the watch's number; another one of the same file is changed. */
  watch(inode: FsInode, mask: number): number {
    for (const watch of this.watches.values()) {
      if (watch.inode !== inode) continue;
      if ((mask & IN_MASK_CREATE) !== 0) throw new Errno(E.EXIST);
      watch.mask = (mask & IN_MASK_ADD) !== 0 ? watch.mask | mask : mask;
      return watch.number;
    }
    const watch = { number: this.nextNumber++, file: this, inode, mask };
    this.watches.set(watch.number, watch);
    this.all.add(watch);
    return watch.number;
  }

  unwatch(number: number): void {
    const watch = this.watches.get(number);
    if (watch === undefined) throw new Errno(E.INVAL);
    this.forget(watch);
  }

  /** The watch is over, and its owner hears of that. */
  forget(watch: Watch): void {
    if (!this.watches.delete(watch.number)) return;
    this.all.remove(watch);
    this.push({ watch: watch.number, mask: IN_IGNORED, cookie: 0, name: "" });
  }

  event(watch: Watch, mask: number, name: ByteString, cookie: number): void {
    if ((mask & watch.mask & IN_ALL_EVENTS) === 0) return;
    this.push({ watch: watch.number, mask, cookie, name });
    if ((watch.mask & IN_ONESHOT) !== 0) this.forget(watch);
  }

  private push(event: Event): void {
    const last = this.queue[this.queue.length - 1];
    // The same thing again tells nothing new.
    if (
      last?.watch === event.watch &&
      last.mask === event.mask &&
      last.cookie === event.cookie &&
      last.name === event.name
    ) {
      return;
    }
    if (this.queue.length >= MOST_QUEUED) {
      if (last?.mask === IN_Q_OVERFLOW) return;
      this.queue.push({ watch: -1, mask: IN_Q_OVERFLOW, cookie: 0, name: "" });
    } else {
      this.queue.push(event);
    }
    this.pollQueue.wake(Infinity, READABLE);
  }

  override read(_task: Task, into: Uint8Array): number {
    if (this.queue.length === 0) {
      if (this.nonBlocking) throw new Errno(E.AGAIN);
      throw new Block([this.pollQueue]);
    }
    const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
    let at = 0;
    let count = 0;
    for (const event of this.queue) {
      const size = sizeOf(event);
      if (at + size > into.length) break;
      into.fill(0, at, at + size);
      view.setInt32(at, event.watch, true);
      view.setUint32(at + 4, event.mask >>> 0, true);
      view.setUint32(at + 8, event.cookie, true);
      view.setUint32(at + 12, size - HEADER, true);
      for (let i = 0; i < event.name.length; i += 1) into[at + HEADER + i] = event.name.charCodeAt(i);
      at += size;
      count += 1;
    }
    if (count === 0) throw new Errno(E.INVAL);
    this.queue = this.queue.slice(count);
    return at;
  }

  override poll(): number {
    return this.queue.length > 0 ? READABLE : 0;
  }

  override ioctl(task: Task, request: number, argument: number): number {
    if (request !== FIONREAD) return super.ioctl(task, request, argument);
    const total = this.queue.reduce((sum, event) => sum + sizeOf(event), 0);
    task.memory.setU32(argument, total);
    return 0;
  }

  override release(): void {
    for (const watch of this.watches.values()) this.all.remove(watch);
    this.watches.clear();
    this.queue = [];
  }
}

/** With its name, which ends with at least one NUL and is padded. */
function sizeOf({ name }: Event): number {
  return name === "" ? HEADER : HEADER + ((name.length + HEADER) & ~(HEADER - 1));
}
