/** eventfd: a counter to wait for. */

import { E, Errno } from "../../errno.ts";
import type { Task } from "../../types.ts";
import { Block } from "../../wait.ts";
import { O_RDWR, READABLE, WRITABLE } from "../constants.ts";
import { ANONYMOUS_DEVICE, PseudoFile, PseudoInode } from "../pseudo.ts";

const MOST = 0xfffffffffffffffen;

export class EventFile extends PseudoFile {
  readonly name = "anon_inode:[eventfd]";
  private count: bigint;
  private readonly semaphore: boolean;

  constructor(task: Task, count: number, semaphore: boolean, flags: number) {
    super(new PseudoInode(task, ANONYMOUS_DEVICE, 0o600), O_RDWR | flags);
    this.count = BigInt(count);
    this.semaphore = semaphore;
  }

  override read(_task: Task, into: Uint8Array): number {
    if (into.length < 8) throw new Errno(E.INVAL);
    if (this.count === 0n) this.wait();
    const value = this.semaphore ? 1n : this.count;
    this.count -= value;
    new DataView(into.buffer, into.byteOffset).setBigUint64(0, value, true);
    this.pollQueue.wake(Infinity, WRITABLE);
    return 8;
  }

  override write(_task: Task, from: Uint8Array): number {
    if (from.length < 8) throw new Errno(E.INVAL);
    const value = new DataView(from.buffer, from.byteOffset).getBigUint64(0, true);
    if (value > MOST) throw new Errno(E.INVAL);
    if (this.count + value > MOST) this.wait();
    this.count += value;
    this.pollQueue.wake(Infinity, READABLE);
    return 8;
  }

  private wait(): never {
    if (this.nonBlocking) throw new Errno(E.AGAIN);
    throw new Block([this.pollQueue]);
  }

  override poll(): number {
    let events = 0;
    if (this.count > 0n) events |= READABLE;
    if (this.count < MOST) events |= WRITABLE;
    return events;
  }
}
