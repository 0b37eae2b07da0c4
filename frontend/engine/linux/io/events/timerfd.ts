/** timerfd: a timer to wait for. */

import { E, Errno } from "../../errno.ts";
import type { Kernel, Task } from "../../types.ts";
import { Block, type Waiter, WaitQueue } from "../../wait.ts";
import { O_RDWR, READABLE } from "../constants.ts";
import { ANONYMOUS_DEVICE, PseudoFile, PseudoInode } from "../pseudo.ts";

const TFD_IOC_SET_TICKS = 0x40085400;

export interface TimerSetting {
  /** Nanoseconds until it expires, 0: it is not armed. */
  value: number;
  interval: number;
}

export class TimerFile extends PseudoFile implements Waiter {
  readonly name = "anon_inode:[timerfd]";
  readonly clock: number;
  private readonly kernel: Kernel;
  /** Monotonic time of the next expiration; Infinity: not armed. */
  private expires = Infinity;
  private period = 0;
  /** Expirations that nobody has read yet. */
  private ticks = 0;
  private readonly alarm = new WaitQueue();

  constructor(task: Task, clock: number, flags: number) {
    super(new PseudoInode(task, ANONYMOUS_DEVICE, 0o600), O_RDWR | flags);
    this.clock = clock;
    this.kernel = task.process.kernel;
  }

  private get now(): number {
    return this.kernel.monotonic();
  }

  /** Counts what has expired since the last look. */
  private update(): void {
    const now = this.now;
    if (now < this.expires) return;
    if (this.period === 0) {
      this.ticks += 1;
      this.expires = Infinity;
      return;
    }
    const passed = Math.floor((now - this.expires) / this.period) + 1;
    this.ticks += passed;
    this.expires += passed * this.period;
    this.arm();
  }

  private arm(): void {
    if (this.expires === Infinity) return;
    this.alarm.add(this);
    this.kernel.wakeAt(this.expires, this.alarm);
  }

  /** The kernel's alarm, perhaps of an earlier setting. */
  woken(): void {
    const before = this.ticks;
    this.update();
    if (this.ticks > before) this.pollQueue.wake(Infinity, READABLE);
    else if (this.expires !== Infinity) this.alarm.add(this);
  }

  get setting(): TimerSetting {
    this.update();
    const value = this.expires === Infinity ? 0 : Math.max(1, this.expires - this.now);
    return { value, interval: this.period };
  }

  /** `expires`: monotonic time; Infinity disarms it. */
  set(expires: number, interval: number): void {
    this.ticks = 0;
    this.expires = expires;
    this.period = interval;
    this.arm();
    if (this.now >= expires) this.woken();
  }

  override read(_task: Task, into: Uint8Array): number {
    if (into.length < 8) throw new Errno(E.INVAL);
    this.update();
    if (this.ticks === 0) {
      if (this.nonBlocking) throw new Errno(E.AGAIN);
      throw new Block([this.pollQueue], this.expires);
    }
    new DataView(into.buffer, into.byteOffset).setBigUint64(0, BigInt(this.ticks), true);
    this.ticks = 0;
    return 8;
  }

  override poll(): number {
    this.update();
    return this.ticks > 0 ? READABLE : 0;
  }

  override ioctl(task: Task, request: number, argument: number): number {
    if (request >>> 0 !== TFD_IOC_SET_TICKS) return super.ioctl(task, request, argument);
    const ticks = task.memory.getI64(argument);
    if (ticks === 0) throw new Errno(E.INVAL);
    this.ticks = ticks;
    this.pollQueue.wake(Infinity, READABLE);
    return 0;
  }

  override release(): void {
    this.expires = Infinity;
    this.alarm.remove(this);
  }
}
