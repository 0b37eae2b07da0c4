/** Waiting for text on the screen. The screen is looked at once per change at most, and only while somebody waits. */

import { Expected } from "../sync/errors";

const LOOK_MS = 30;

interface Waiter {
  pattern: RegExp;
  resolve(text: string): void;
  timer: ReturnType<typeof setTimeout>;
}

export class TextWaiters {
  private readonly waiters = new Set<Waiter>();
  private look: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly screenText: () => string) {}

  /** Resolves with the matching text; rejects with code `timeout`. */
  wait(pattern: RegExp, timeoutMs: number): Promise<string> {
    // Without `g` and `y` a pattern has no memory of where it matched last.
    const stateless = new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, ""));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiters.delete(waiter);
        reject(new Expected("timeout", `The screen did not show ${String(pattern)} within ${timeoutMs} ms.`));
      }, timeoutMs);
      const waiter: Waiter = { pattern: stateless, resolve, timer };
      this.waiters.add(waiter);
      this.check();
    });
  }

  /** The screen changed. */
  changed(): void {
    if (this.waiters.size > 0 && this.look === undefined) this.look = setTimeout(() => this.check(), LOOK_MS);
  }

  private check(): void {
    clearTimeout(this.look);
    this.look = undefined;
    if (this.waiters.size === 0) return;
    const text = this.screenText();
    for (const waiter of [...this.waiters]) {
      const match = waiter.pattern.exec(text);
      if (!match) continue;
      clearTimeout(waiter.timer);
      this.waiters.delete(waiter);
      waiter.resolve(match[0]);
    }
  }
}
