/** What the guest's programs write to its consoles: collected, and held back where they write faster than a page can draw. */

import type { Console } from "../../../engine/linux/io/tty/console.ts";

/** Bytes per millisecond that a terminal gets in the long run: half of what the slowest terminal draws. */
const RATE = 2048;
/** Bytes that may come at once. */
const BURST = 64 * 1024;

interface Line {
  console: Console;
  pieces: Uint8Array[];
  /** Bytes above the rate. */
  ahead: number;
  held: boolean;
}

export class ConsoleOutput {
  private readonly lines: Line[];
  private last = performance.now();

  constructor(consoles: readonly Console[]) {
    this.lines = consoles.map((console) => ({ console, pieces: [], ahead: 0, held: false }));
    this.lines.forEach((line, terminal) => {
      line.console.onOutput = (bytes) => this.add(terminal, bytes.slice());
    });
  }

  /** The array is not to be changed any more. */
  add(terminal: number, bytes: Uint8Array): void {
    const line = this.lines[terminal]!;
    line.pieces.push(bytes);
    line.ahead += bytes.length;
    if (line.held || line.ahead <= BURST) return;
    line.held = true;
    line.console.pause();
  }

  /** What was written since the last time. */
  *take(): Iterable<{ terminal: number; bytes: Uint8Array }> {
    for (const [terminal, { pieces }] of this.lines.entries()) {
      if (pieces.length === 0) continue;
      const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
      let at = 0;
      for (const piece of pieces.splice(0)) {
        bytes.set(piece, at);
        at += piece.length;
      }
      yield { terminal, bytes };
    }
  }

  /** Lets go on who has waited long enough. Milliseconds until the next one may; Infinity: nobody waits. */
  letGo(): number {
    const now = performance.now();
    const allowed = (now - this.last) * RATE;
    this.last = now;
    let next = Infinity;
    for (const line of this.lines) {
      line.ahead = Math.max(0, line.ahead - allowed);
      if (!line.held) continue;
      if (line.ahead > BURST / 2) {
        next = Math.min(next, (line.ahead - BURST / 2) / RATE);
        continue;
      }
      line.held = false;
      line.console.resume();
    }
    return next;
  }
}
