/**
 * A stream to and from the host: standard input, output and error of a guest command that is not on a terminal. Input waits in a
 * queue until the guest reads it; output goes to the host at once.
 */

import { E, Errno } from "../errno.ts";
import type { Task } from "../types.ts";
import { Block } from "../wait.ts";
import { ByteQueue } from "./bytes.ts";
import { FIONREAD, O_RDWR, POLLHUP, READABLE, S_IFIFO, SIGPIPE, WRITABLE } from "./constants.ts";
import { PIPE_DEVICE, PseudoFile, PseudoInode, refusePosition } from "./pseudo.ts";

export class HostStream extends PseudoFile {
  static readonly transient = { onData: () => () => {}, onDrain: () => () => {}, paused: () => false };
  /** The host's side: gets a copy of what the guest writes. */
  onData: (bytes: Uint8Array) => void = () => {};
  /** The guest has taken input: the host may send more. */
  onDrain: () => void = () => {};
  private readonly input = new ByteQueue();
  private ended = false;
  private readerGone = false;
  /** The host asks writers to wait while its own buffers are full. */
  private paused = false;

  /** `task`: whose credentials its inode gets (the first process). */
  constructor(task: Task, flags = O_RDWR) {
    super(new PseudoInode(task, PIPE_DEVICE, S_IFIFO | 0o600), flags);
  }

  get name(): string {
    return `pipe:[${this.inode.ino}]`;
  }

  /** More input for the guest. */
  push(bytes: Uint8Array): void {
    this.input.push(bytes);
    this.pollQueue.wake(Infinity, READABLE);
  }

  /** No more input comes: the guest reads the end. */
  end(): void {
    this.ended = true;
    this.pollQueue.wake();
  }

  /** Nobody takes the guest's output any more: it gets EPIPE and SIGPIPE. */
  hangUp(): void {
    this.readerGone = true;
    this.pollQueue.wake();
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.pollQueue.wake(Infinity, WRITABLE);
  }

  /** Bytes that the guest has not read yet. */
  get waiting(): number {
    return this.input.length;
  }

  override read(_task: Task, into: Uint8Array, position: number | null): number {
    refusePosition(position);
    this.mustRead();
    if (into.length === 0) return 0;
    if (this.input.length === 0) {
      if (this.ended) return 0;
      if (this.nonBlocking) throw new Errno(E.AGAIN);
      throw new Block([this.pollQueue]);
    }
    const count = this.input.take(into);
    this.onDrain();
    return count;
  }

  override write(task: Task, from: Uint8Array, position: number | null): number {
    refusePosition(position);
    this.mustWrite();
    if (this.readerGone) {
      task.process.kernel.signalProcess(task.process, SIGPIPE);
      throw new Errno(E.PIPE);
    }
    if (from.length === 0) return 0;
    if (this.paused) {
      if (this.nonBlocking) throw new Errno(E.AGAIN);
      throw new Block([this.pollQueue]);
    }
    this.onData(from.slice());
    return from.length;
  }

  override poll(): number {
    let events = 0;
    if (this.input.length > 0) events |= READABLE;
    if (this.ended) events |= POLLHUP;
    if (!this.paused) events |= WRITABLE;
    return events;
  }

  override ioctl(task: Task, request: number, argument: number): number {
    if (request !== FIONREAD) return super.ioctl(task, request, argument);
    task.memory.setU32(argument, this.input.length);
    return 0;
  }
}
