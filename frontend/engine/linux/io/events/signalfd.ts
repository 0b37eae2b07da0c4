/** signalfd: pending signals to read instead of having them delivered. */

import { E, Errno } from "../../errno.ts";
import { type SignalInfo, encodeInfo } from "../../signals/pending.ts";
import { SIGCHLD } from "../../signals/numbers.ts";
import type { Thread } from "../../task.ts";
import type { Task } from "../../types.ts";
import { Block, type Waiter } from "../../wait.ts";
import { O_RDWR, READABLE } from "../constants.ts";
import { ANONYMOUS_DEVICE, PseudoFile, PseudoInode } from "../pseudo.ts";

/** `struct signalfd_siginfo`. */
const SIZE = 128;

export class SignalFile extends PseudoFile implements Waiter {
  readonly name = "anon_inode:[signalfd]";
  /** Bit n - 1 is signal n. */
  mask: bigint;

  constructor(task: Task, mask: bigint, flags: number) {
    super(new PseudoInode(task, ANONYMOUS_DEVICE, 0o600), O_RDWR | flags);
    this.mask = mask;
  }

  /** A process that looks at it got a signal. */
  woken(): void {
    this.pollQueue.wake(Infinity, READABLE);
  }

  override read(task: Task, into: Uint8Array): number {
    if (into.length < SIZE) throw new Errno(E.INVAL);
    const thread = task as Thread;
    let done = 0;
    while (done + SIZE <= into.length) {
      const info = thread.pending.take(this.mask) ?? thread.process.pending.take(this.mask);
      if (info === undefined) break;
      into.set(encode(info), done);
      done += SIZE;
    }
    if (done > 0) return done;
    if (this.nonBlocking) throw new Errno(E.AGAIN);
    throw new Block([thread.process.signalQueue]);
  }

  /** What is pending is the caller's own. */
  override poll(task: Task): number {
    const thread = task as Thread;
    thread.process.signalQueue.add(this);
    const pending = thread.pending.set | thread.process.pending.set;
    return (pending & this.mask) === 0n ? 0 : READABLE;
  }
}

function encode(info: SignalInfo): Uint8Array {
  const bytes = new Uint8Array(SIZE);
  const view = new DataView(bytes.buffer);
  const from = new DataView(encodeInfo(info).buffer);
  view.setUint32(0, info.signal, true);
  view.setInt32(4, info.errno ?? 0, true);
  view.setInt32(8, info.code, true);
  view.setUint32(12, info.pid ?? 0, true);
  view.setUint32(16, info.uid ?? 0, true);
  view.setInt32(20, info.fd ?? 0, true);
  view.setUint32(28, info.band ?? 0, true);
  if (info.signal === SIGCHLD) view.setInt32(40, info.status ?? 0, true);
  else view.setInt32(44, from.getInt32(24, true), true);
  view.setBigUint64(48, BigInt.asUintN(64, info.value ?? 0n), true);
  view.setBigUint64(56, BigInt(info.utime ?? 0), true);
  view.setBigUint64(64, BigInt(info.stime ?? 0), true);
  view.setBigUint64(72, BigInt.asUintN(64, info.address ?? 0n), true);
  return bytes;
}
