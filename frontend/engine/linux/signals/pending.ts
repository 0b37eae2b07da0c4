/** Signals that wait to be delivered, and what is known of each (siginfo). */

import { bit, SIGCHLD, SIGIO, SIGRTMIN, SYNCHRONOUS } from "./numbers.ts";

/** As much of siginfo_t as the code asks for. */
export interface SignalInfo {
  signal: number;
  code: number;
  errno?: number;
  /** Sender, child, or (SI_TIMER) the timer. */
  pid?: number;
  /** Sender's user, child's, or (SI_TIMER) the overrun. */
  uid?: number;
  /** A child's exit code or signal. */
  status?: number;
  /** Clock ticks of a child. */
  utime?: number;
  stime?: number;
  /** Where a fault happened. */
  address?: bigint;
  /** sigqueue's and timers' value. */
  value?: bigint;
  band?: number;
  fd?: number;
  /** A fault of the thread itself: ends even the machine's first process. */
  forced?: boolean;
}

export interface Action {
  handler: number;
  flags: number;
  restorer: number;
  mask: bigint;
}

export const SIGINFO_SIZE = 128;

/** siginfo_t as the guest reads it. */
export function encodeInfo(info: SignalInfo): Uint8Array {
  const bytes = new Uint8Array(SIGINFO_SIZE);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, info.signal, true);
  view.setInt32(4, info.errno ?? 0, true);
  view.setInt32(8, info.code, true);
  if (info.address !== undefined) {
    view.setBigUint64(16, BigInt.asUintN(64, info.address), true);
  } else if (info.signal === SIGIO && info.band !== undefined) {
    view.setInt32(16, info.band, true);
    view.setInt32(24, info.fd ?? 0, true);
  } else {
    view.setInt32(16, info.pid ?? 0, true);
    view.setInt32(20, info.uid ?? 0, true);
    if (info.signal === SIGCHLD && info.code > 0) {
      view.setInt32(24, info.status ?? 0, true);
      view.setBigInt64(32, BigInt(info.utime ?? 0), true);
      view.setBigInt64(40, BigInt(info.stime ?? 0), true);
    } else {
      view.setBigUint64(24, BigInt.asUintN(64, info.value ?? 0n), true);
    }
  }
  return bytes;
}

export function decodeInfo(bytes: Uint8Array): SignalInfo {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    signal: view.getInt32(0, true),
    errno: view.getInt32(4, true),
    code: view.getInt32(8, true),
    pid: view.getInt32(16, true),
    uid: view.getInt32(20, true),
    value: view.getBigUint64(24, true),
  };
}

export class PendingSignals {
  /** In the order they came. */
  readonly queue: SignalInfo[] = [];
  /** Which are in the queue: bit n - 1 for signal n. */
  set = 0n;

  /** A standard signal is pending once; real-time signals are queued. False: dropped. */
  add(info: SignalInfo): boolean {
    if (info.signal < SIGRTMIN && (this.set & bit(info.signal)) !== 0n) return false;
    this.queue.push(info);
    this.set |= bit(info.signal);
    return true;
  }

  /** Takes the first of the signals in `wanted`: faults before others, then the lowest number. */
  take(wanted: bigint): SignalInfo | undefined {
    let candidates = this.set & wanted;
    if (candidates === 0n) return undefined;
    if ((candidates & SYNCHRONOUS) !== 0n) candidates &= SYNCHRONOUS;
    let lowest = 1;
    while ((candidates & bit(lowest)) === 0n) lowest += 1;
    const at = this.queue.findIndex((info) => info.signal === lowest);
    const [info] = this.queue.splice(at, 1);
    if (!this.queue.some((other) => other.signal === lowest)) this.set &= ~bit(lowest);
    return info;
  }

  discard(signals: bigint): void {
    if ((this.set & signals) === 0n) return;
    const kept = this.queue.filter((info) => (bit(info.signal) & signals) === 0n);
    this.queue.length = 0;
    this.queue.push(...kept);
    this.set &= ~signals;
  }
}
