/**
 * epoll. An item waits in the queue of its file; when woken it goes to the instance's ready list, and is armed again when the list is next looked at.
 * What is level-triggered stays in the list as long as its file says so.
 */

import { E, Errno } from "../../errno.ts";
import type { OpenFile, Task } from "../../types.ts";
import type { Waiter } from "../../wait.ts";
import { POLLERR, POLLHUP, READABLE } from "../constants.ts";
import { ANONYMOUS_DEVICE, PseudoFile, PseudoInode } from "../pseudo.ts";

export const EPOLLWAKEUP = 1 << 29;
export const EPOLLEXCLUSIVE = 1 << 28;
const EPOLLONESHOT = 1 << 30;
const EPOLLET = -0x80000000;
const ALWAYS = POLLERR | POLLHUP;
const PRIVATE_BITS = EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE;
/** Instances may watch each other this deep. */
const MOST_NESTED = 5;

/** One file that an instance watches, by the number it had. */
export class EpollItem implements Waiter {
  readonly fd: number;
  readonly file: OpenFile;
  /** The caller's 64 bits. */
  readonly data: Uint8Array;
  events: number;
  private readonly instance: EpollFile;
  armed = false;

  constructor(instance: EpollFile, fd: number, file: OpenFile, events: number, data: Uint8Array) {
    this.instance = instance;
    this.fd = fd;
    this.file = file;
    this.events = events;
    this.data = data;
  }

  /** The bits it wants to hear of; none once a one-shot has fired. */
  get wanted(): number {
    return this.events & ~PRIVATE_BITS;
  }

  woken(events: number): void {
    this.armed = false;
    if ((events & (this.wanted | ALWAYS)) === 0) return this.arm();
    this.instance.becameReady(this);
  }

  arm(): void {
    if (this.armed) return;
    this.armed = true;
    this.file.pollQueue.add(this);
  }

  disarm(): void {
    this.armed = false;
    this.file.pollQueue.remove(this);
  }

  look(task: Task): number {
    if (this.wanted === 0) return 0;
    return this.file.poll(task) & (this.wanted | ALWAYS);
  }
}

export class EpollFile extends PseudoFile {
  readonly name = "anon_inode:[eventpoll]";
  /** By descriptor number, which may mean another file later: the one before may live on in another descriptor. */
  private readonly items = new Map<number, EpollItem[]>();
  /** Items that may be ready, in the order to be told. */
  private ready = new Set<EpollItem>();

  constructor(task: Task, flags: number) {
    super(new PseudoInode(task, ANONYMOUS_DEVICE, 0o600), flags);
  }

  private get all(): EpollItem[] {
    return [...this.items.values()].flat();
  }

  private find(fd: number, file: OpenFile): EpollItem | undefined {
    return this.items.get(fd)?.find((item) => item.file === file);
  }

  add(fd: number, file: OpenFile, events: number, data: Uint8Array): void {
    if (this.find(fd, file) !== undefined) throw new Errno(E.EXIST);
    if (file instanceof EpollFile && (file === this || file.reaches(this, 1))) throw new Errno(E.LOOP);
    const item = new EpollItem(this, fd, file, events, data);
    for (const before of [...(this.items.get(fd) ?? [])]) {
      if (before.file.references <= 0) this.forget(before);
    }
    this.items.set(fd, [...(this.items.get(fd) ?? []), item]);
    this.becameReady(item);
  }

  modify(fd: number, file: OpenFile, events: number, data: Uint8Array): void {
    const item = this.find(fd, file);
    if (item === undefined) throw new Errno(E.NOENT);
    if ((item.events & EPOLLEXCLUSIVE) !== 0) throw new Errno(E.INVAL);
    item.events = events;
    item.data.set(data);
    this.becameReady(item);
  }

  remove(fd: number, file: OpenFile): void {
    const item = this.find(fd, file);
    if (item === undefined) throw new Errno(E.NOENT);
    this.forget(item);
  }

  private forget(item: EpollItem): void {
    item.disarm();
    this.ready.delete(item);
    const rest = (this.items.get(item.fd) ?? []).filter((other) => other !== item);
    if (rest.length > 0) this.items.set(item.fd, rest);
    else this.items.delete(item.fd);
  }

  /** Whether it watches `other`, directly or through others; ELOOP where that goes too deep. */
  reaches(other: EpollFile, depth: number): boolean {
    if (depth >= MOST_NESTED) throw new Errno(E.LOOP);
    return this.all.some(
      ({ file }) => file === other || (file instanceof EpollFile && file.reaches(other, depth + 1)),
    );
  }

  becameReady(item: EpollItem): void {
    this.ready.add(item);
    this.pollQueue.wake(Infinity, READABLE);
  }

  /** Items that are ready now, at most `most`, as epoll_wait tells them: edges are used up by it. */
  collect(task: Task, most: number): { item: EpollItem; events: number }[] {
    const found: { item: EpollItem; events: number }[] = [];
    const again: EpollItem[] = [];
    for (const item of [...this.ready]) {
      if (found.length >= most) break;
      this.ready.delete(item);
      if (item.file.references <= 0) {
        this.forget(item);
        continue;
      }
      item.arm();
      const events = item.look(task);
      if (events === 0) continue;
      found.push({ item, events });
      if ((item.events & EPOLLONESHOT) !== 0) item.events &= PRIVATE_BITS;
      else if ((item.events & EPOLLET) === 0) again.push(item);
    }
    for (const item of again) this.ready.add(item);
    return found;
  }

  /** For who watches this one: whether anything is ready; uses up nothing. */
  override poll(task: Task): number {
    for (const item of [...this.ready]) {
      if (item.file.references <= 0) {
        this.forget(item);
      } else {
        item.arm();
        if (item.look(task) !== 0) return READABLE;
        this.ready.delete(item);
      }
    }
    return 0;
  }

  override release(): void {
    for (const item of this.all) this.forget(item);
  }

  /** Lines of /proc/self/fdinfo. */
  *describe(): Iterable<string> {
    for (const { fd, events, data, file } of this.all) {
      const bits = [...data].reverse().map((byte) => byte.toString(16).padStart(2, "0"));
      const mask = (events >>> 0).toString(16).padStart(8);
      yield `tfd: ${String(fd).padStart(8)} events: ${mask} data: ${bits.join("")} ino:${file.inode.ino.toString(16)}`;
    }
  }
}
