/** Waiting: a system call never waits, it throws `Block` and is made again from its beginning. */

/** What a task waits for. `wake` makes everybody who waits try again; waking for nothing is allowed. */
export class WaitQueue {
  private readonly waiting = new Set<Waiter>();

  /** At most `count` of them, who came first. `events`: the POLL* bits that may have changed, for who waits for few. */
  wake(count = Infinity, events = -1): number {
    let woken = 0;
    for (const waiter of [...this.waiting]) {
      if (woken >= count) break;
      if (!this.waiting.delete(waiter)) continue;
      waiter.woken(events);
      woken += 1;
    }
    return woken;
  }

  add(waiter: Waiter): void {
    this.waiting.add(waiter);
  }

  remove(waiter: Waiter): void {
    this.waiting.delete(waiter);
  }

  get empty(): boolean {
    return this.waiting.size === 0;
  }
}

/** The scheduler's side of a parked task. */
export interface Waiter {
  woken(events: number): void;
}

/** Thrown where a task can't go on. A signal interrupts it unless it waits for a disk. */
export class Block {
  readonly queues: readonly WaitQueue[];
  /** Monotonic time in nanoseconds at which to try again whatever happens. */
  readonly deadline: number;
  readonly interruptible: boolean;

  constructor(queues: readonly WaitQueue[], deadline = Infinity, interruptible = true) {
    this.queues = queues;
    this.deadline = deadline;
    this.interruptible = interruptible;
  }
}
