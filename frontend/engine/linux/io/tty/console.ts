/** The machine's own terminals: what a person at the machine sees. The host gives keys and a size, and takes output. */

import { Terminal } from "./terminal.ts";

/** Major number of serial lines; ttyS0 is 4:64. */
const TTYS_MAJOR = 4;
const TTYS_MINOR = 64;

export class Console extends Terminal {
  static readonly transient = { listener: () => undefined, paused: () => false };
  /** The host's: gets what is to be shown. Output while nobody listens is kept. */
  private listener: ((bytes: Uint8Array) => void) | undefined;
  private kept: Uint8Array[] = [];
  private keptBytes = 0;
  private paused = false;

  constructor(kernel: Terminal["kernel"], index: number) {
    super(kernel, (TTYS_MAJOR << 8) | (TTYS_MINOR + index), `ttyS${index}`);
  }

  set onOutput(listener: ((bytes: Uint8Array) => void) | undefined) {
    this.listener = listener;
    if (listener === undefined) return;
    for (const bytes of this.kept.splice(0)) listener(bytes);
    this.keptBytes = 0;
    this.outputPossible();
  }

  /** Keys, as bytes. */
  input(bytes: Uint8Array): void {
    this.typed(bytes);
  }

  /** The host can't take more output now; programs wait. */
  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.outputPossible();
  }

  /** The line is dropped, as when a person closes the window. */
  disconnect(): void {
    this.hangUp();
  }

  send(bytes: Uint8Array): void {
    if (this.listener !== undefined) return this.listener(bytes);
    this.kept.push(bytes);
    this.keptBytes += bytes.length;
  }

  protected roomBehind(): number {
    if (this.listener !== undefined) return this.paused ? 0 : 65536;
    return Math.max(0, 65536 - this.keptBytes);
  }

  flushOutput(): void {
    this.kept = [];
    this.keptBytes = 0;
  }

  /** A getty of its own would see the line drop when its shell ends: files that are still open are dead. */
  protected override sessionGone(): void {
    this.generation += 1;
    super.sessionGone();
  }
}
