/** The load averages of /proc/loadavg, uptime and top: how many threads could run, over 1, 5 and 15 minutes (proc(5)). */

const MINUTES = [1, 5, 15] as const;
const MINUTE = 60e9;
/** How often they change, nanoseconds; as often as Linux's. */
const EVERY = 5e9;

export class LoadAverages {
  private readonly averages = [0, 0, 0];
  private begun = 0;
  /** Nanoseconds that threads ran or waited for the processor since then. */
  private work = 0;

  /** For so long so many threads could run, until `now`; both monotonic, nanoseconds. */
  count(elapsed: number, threads: number, now: number): void {
    this.work += elapsed * threads;
    this.renew(now);
  }

  at(now: number): readonly number[] {
    this.renew(now);
    return this.averages;
  }

  private renew(now: number): void {
    const elapsed = now - this.begun;
    if (elapsed < EVERY) return;
    const average = this.work / elapsed;
    MINUTES.forEach((minutes, index) => {
      const kept = Math.exp(-elapsed / (minutes * MINUTE));
      this.averages[index] = this.averages[index]! * kept + average * (1 - kept);
    });
    this.begun = now;
    this.work = 0;
  }
}
