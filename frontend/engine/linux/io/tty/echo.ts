/** What a terminal shows of what is typed. It waits while output is stopped. */

import { type OutputProcessor, isControl } from "./output.ts";
import { ECHOCTL, OPOST, type Termios } from "./termios.ts";

/** As much as Linux keeps while it can't be shown. */
const MOST = 4096;

export interface EchoPort {
  readonly termios: Termios;
  readonly output: OutputProcessor;
  /** Whether output can go out now. */
  readonly canSend: boolean;
  send(bytes: Uint8Array): void;
}

export class Echo {
  private readonly port: EchoPort;
  private waiting: number[] = [];
  /** ECHOPRT: between the backslash and the slash. */
  private erasing = false;

  constructor(port: EchoPort) {
    this.port = port;
  }

  /** Through output processing, if that is on. */
  raw(c: number): void {
    if (this.waiting.length >= MOST) return;
    if ((this.port.termios.oflag & OPOST) !== 0) {
      this.port.output.process(c, this.port.termios, this.waiting);
    } else {
      this.waiting.push(c);
    }
  }

  raws(text: string): void {
    for (let i = 0; i < text.length; i += 1) this.raw(text.charCodeAt(i));
  }

  /** Control characters as ^X where ECHOCTL asks for it. */
  char(c: number): void {
    if (!isControl(c) || c === 9 || (this.port.termios.lflag & ECHOCTL) === 0) return this.raw(c);
    if (this.waiting.length >= MOST) return;
    this.waiting.push(94, c ^ 64);
    this.port.output.column += 2;
  }

  markColumn(): void {
    this.port.output.canonColumn = this.port.output.column;
  }

  eraseTab(columns: number, afterTab: boolean): void {
    const { output } = this.port;
    const used = afterTab ? columns : columns + output.canonColumn;
    for (let back = 8 - (used & 7); back > 0; back -= 1) {
      this.waiting.push(8);
      if (output.column > 0) output.column -= 1;
    }
  }

  beginErasing(): void {
    if (this.erasing) return;
    this.raw(92);
    this.erasing = true;
  }

  finishErasing(): void {
    if (!this.erasing) return;
    this.raw(47);
    this.erasing = false;
  }

  forget(): void {
    this.erasing = false;
  }

  clear(): void {
    this.waiting = [];
    this.erasing = false;
  }

  flush(): void {
    if (this.waiting.length === 0 || !this.port.canSend) return;
    const bytes = Uint8Array.from(this.waiting);
    this.waiting = [];
    this.port.send(bytes);
  }
}
