/** What a terminal makes of bytes that are written to it (OPOST), and which column the cursor is in. */

import { IUTF8, OCRNL, OLCUC, ONLCR, ONLRET, ONOCR, OPOST, TABDLY, type Termios, XTABS } from "./termios.ts";

export function isControl(c: number): boolean {
  return c < 32 || c === 127;
}

/** A byte of a UTF-8 character that is not its first one. */
export function isContinuation(c: number, termios: Termios): boolean {
  return (termios.iflag & IUTF8) !== 0 && (c & 0xc0) === 0x80;
}

export class OutputProcessor {
  column = 0;
  /** The column that the line being typed begins in. */
  canonColumn = 0;

  /** Appends what `c` becomes to `out`. */
  process(c: number, termios: Termios, out: number[]): void {
    const flags = termios.oflag;
    let sent = c;
    switch (c) {
      case 10:
        if ((flags & ONLRET) !== 0) this.column = 0;
        if ((flags & ONLCR) !== 0) {
          this.column = this.canonColumn = 0;
          out.push(13, 10);
          return;
        }
        this.canonColumn = this.column;
        break;
      case 13:
        if ((flags & ONOCR) !== 0 && this.column === 0) return;
        if ((flags & OCRNL) !== 0) {
          sent = 10;
          if ((flags & ONLRET) !== 0) this.column = this.canonColumn = 0;
        } else {
          this.column = this.canonColumn = 0;
        }
        break;
      case 9: {
        const spaces = 8 - (this.column & 7);
        this.column += spaces;
        if ((flags & TABDLY) === XTABS) {
          for (let i = 0; i < spaces; i += 1) out.push(32);
          return;
        }
        break;
      }
      case 8:
        if (this.column > 0) this.column -= 1;
        break;
      default:
        if (isControl(c)) break;
        if ((flags & OLCUC) !== 0 && c >= 97 && c <= 122) sent = c - 32;
        if (!isContinuation(c, termios)) this.column += 1;
    }
    out.push(sent);
  }

  /** All of `bytes` as they go out. */
  all(bytes: Uint8Array, termios: Termios): Uint8Array {
    if ((termios.oflag & OPOST) === 0) return bytes;
    const out: number[] = [];
    for (const c of bytes) this.process(c, termios, out);
    return Uint8Array.from(out);
  }
}
