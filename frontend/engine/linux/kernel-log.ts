/** What dmesg shows: the kernel's last messages (syslog(2)). */

import type { ByteString } from "./types.ts";

/** Bytes that are kept. */
export const LOG_BYTES = 65536;

export class KernelLog {
  private readonly lines: ByteString[] = [];
  private bytes = 0;
  /** So many of the lines have been cleared: they are shown no more. */
  private cleared = 0;

  /** `now`: monotonic, nanoseconds. The oldest lines make room. */
  add(now: number, message: string): void {
    const seconds = (now / 1e9).toFixed(6).padStart(12);
    const line = `<6>[${seconds}] ${message}\n`;
    this.lines.push(line);
    this.bytes += line.length;
    while (this.bytes > LOG_BYTES) {
      this.bytes -= this.lines.shift()!.length;
      this.cleared = Math.max(0, this.cleared - 1);
    }
  }

  clear(): void {
    this.cleared = this.lines.length;
  }

  /** The last whole lines of at most so many bytes. */
  text(most: number): ByteString {
    let from = this.lines.length;
    let size = 0;
    while (from > this.cleared && size + this.lines[from - 1]!.length <= most) {
      from -= 1;
      size += this.lines[from]!.length;
    }
    return this.lines.slice(from).join("");
  }
}
