/**
 * The line discipline of terminals (N_TTY): what is typed becomes lines, echoes, signals and flow control. Its buffer is Linux's: 4096 bytes,
 * of which those up to `canonHead` are whole lines; a line's end is marked apart, because an end of file is a mark without a byte.
 */

import { SIGINT, SIGQUIT, SIGTSTP } from "../constants.ts";
import { Echo } from "./echo.ts";
import { isContinuation, isControl } from "./output.ts";
import * as T from "./termios.ts";

const SIZE = 4096;
const MASK = SIZE - 1;
const DISABLED = 0;

/** What the discipline needs of its terminal. */
export interface Port {
  readonly termios: T.Termios;
  readonly stopped: boolean;
  /** A character asked for a signal to the foreground. */
  signal(signal: number): void;
  start(): void;
  stop(): void;
  /** Output on its way is thrown away, if it is not there yet. */
  flushOutput(): void;
  /** Readers have something, or the input was flushed. */
  inputChanged(): void;
  inputFlushed(): void;
}

export class LineDiscipline {
  private readonly port: Port;
  readonly echo: Echo;
  private readonly bytes = new Uint8Array(SIZE);
  private readonly ends = new Uint8Array(SIZE);
  private head = 0;
  private canonHead = 0;
  private tail = 0;
  private literalNext = false;

  constructor(port: Port, echo: Echo) {
    this.port = port;
    this.echo = echo;
  }

  private has(flag: number): boolean {
    return (this.port.termios.lflag & flag) !== 0;
  }

  private input(flag: number): boolean {
    return (this.port.termios.iflag & flag) !== 0;
  }

  private is(c: number, index: number): boolean {
    return c !== DISABLED && this.port.termios.cc[index] === c;
  }

  /** Takes what is typed; how many bytes there was room for. */
  receive(typed: Uint8Array): number {
    let i = 0;
    for (; i < typed.length; i += 1) {
      if (this.head - this.tail >= SIZE - 1) {
        // A line too long: further characters replace the last one, so that its end can still be typed.
        if (!this.has(T.ICANON) || this.canonHead !== this.tail) break;
        if (this.head - this.tail >= SIZE) this.head -= 1;
      }
      this.accept(typed[i]!);
    }
    this.echo.flush();
    if (i > 0) this.port.inputChanged();
    return i;
  }

  private accept(typed: number): void {
    let c = typed;
    if (this.input(T.ISTRIP)) c &= 0x7f;
    if (this.input(T.IUCLC) && this.has(T.IEXTEN) && c >= 65 && c <= 90) c += 32;
    if (this.literalNext) {
      this.literalNext = false;
      return this.ordinary(c, typed);
    }
    if (this.has(T.EXTPROC)) return this.put(c);
    if (this.input(T.IXON)) {
      if (this.is(c, T.VSTART)) return this.port.start();
      if (this.is(c, T.VSTOP)) return this.port.stop();
    }
    if (this.has(T.ISIG)) {
      if (this.is(c, T.VINTR)) return this.raise(c, SIGINT);
      if (this.is(c, T.VQUIT)) return this.raise(c, SIGQUIT);
      if (this.is(c, T.VSUSP)) return this.raise(c, SIGTSTP);
    }
    if (this.port.stopped && this.input(T.IXON) && this.input(T.IXANY)) this.port.start();
    if (c === 13) {
      if (this.input(T.IGNCR)) return;
      if (this.input(T.ICRNL)) c = 10;
    } else if (c === 10 && this.input(T.INLCR)) {
      c = 13;
    }
    if (this.has(T.ICANON) && this.edit(c)) return;
    this.ordinary(c, typed);
  }

  private raise(c: number, signal: number): void {
    this.port.signal(signal);
    if (!this.has(T.NOFLSH)) {
      this.echo.clear();
      this.port.flushOutput();
      this.flush();
    }
    if (this.input(T.IXON)) this.port.start();
    if (this.has(T.ECHO)) this.echo.char(c);
  }

  private put(c: number): void {
    this.bytes[this.head & MASK] = c;
    this.ends[this.head & MASK] = 0;
    this.head += 1;
  }

  private endLine(c: number): void {
    this.put(c);
    this.ends[(this.head - 1) & MASK] = 1;
    this.canonHead = this.head;
  }

  private ordinary(c: number, typed: number): void {
    if (this.has(T.ECHO)) {
      this.echo.finishErasing();
      if (c === 10) {
        this.echo.raw(10);
      } else {
        if (this.canonHead === this.head) this.echo.markColumn();
        this.echo.char(c);
      }
    }
    if (typed === 0xff && this.input(T.PARMRK)) this.put(c);
    this.put(c);
  }

  /** The characters that edit a line or end it. False: it is none of them. */
  private edit(c: number): boolean {
    const extended = this.has(T.IEXTEN);
    const echoes = this.has(T.ECHO);
    if (this.is(c, T.VERASE)) return this.erase("character");
    if (this.is(c, T.VKILL)) return this.kill(c);
    if (extended && this.is(c, T.VWERASE)) return this.erase("word");
    if (extended && this.is(c, T.VLNEXT)) {
      this.literalNext = true;
      if (echoes) {
        this.echo.finishErasing();
        if (this.has(T.ECHOCTL)) this.echo.raws("^\b");
      }
      return true;
    }
    if (extended && echoes && this.is(c, T.VREPRINT)) {
      this.echo.finishErasing();
      this.echo.char(c);
      this.echo.raw(10);
      for (let at = this.canonHead; at !== this.head; at += 1) this.echo.char(this.bytes[at & MASK]!);
      return true;
    }
    if (c === 10) {
      if (echoes || this.has(T.ECHONL)) this.echo.raw(10);
      this.endLine(10);
      return true;
    }
    if (this.is(c, T.VEOF)) {
      this.endLine(DISABLED);
      return true;
    }
    if (this.is(c, T.VEOL) || (extended && this.is(c, T.VEOL2))) {
      if (echoes) {
        if (this.canonHead === this.head) this.echo.markColumn();
        this.echo.char(c);
      }
      this.endLine(c);
      return true;
    }
    return false;
  }

  private kill(c: number): true {
    if (this.head === this.canonHead) return true;
    if (!this.has(T.ECHO)) {
      this.head = this.canonHead;
      return true;
    }
    if (this.has(T.ECHOK) && this.has(T.ECHOKE) && this.has(T.ECHOE)) return this.erase("line");
    this.head = this.canonHead;
    this.echo.finishErasing();
    this.echo.char(c);
    if (this.has(T.ECHOK)) this.echo.raw(10);
    return true;
  }

  private erase(what: "character" | "word" | "line"): true {
    const { termios } = this.port;
    let seenWord = false;
    if (this.head === this.canonHead) return true;
    while (this.head !== this.canonHead) {
      let at = this.head;
      let c: number;
      do {
        at -= 1;
        c = this.bytes[at & MASK]!;
      } while (isContinuation(c, termios) && at !== this.canonHead);
      // Half a character is not erased.
      if (isContinuation(c, termios)) break;
      if (what === "word") {
        if (isWord(c)) seenWord = true;
        else if (seenWord) break;
      }
      const before = this.head;
      this.head = at;
      if (this.has(T.ECHO)) this.echoErased(c, at, before, what);
      if (what === "character") break;
    }
    if (this.head === this.canonHead && this.has(T.ECHO)) this.echo.finishErasing();
    return true;
  }

  private echoErased(c: number, at: number, before: number, what: string): void {
    const shown = this.has(T.ECHOCTL);
    if (this.has(T.ECHOPRT)) {
      this.echo.beginErasing();
      this.echo.char(c);
      for (let i = at + 1; i < before; i += 1) this.echo.raw(this.bytes[i & MASK]!);
    } else if (what === "character" && !this.has(T.ECHOE)) {
      this.echo.char(this.port.termios.cc[T.VERASE]!);
    } else if (c === 9) {
      this.echoErasedTab(at);
    } else {
      if (isControl(c) && shown) this.echo.raws("\b \b");
      if (!isControl(c) || shown) this.echo.raws("\b \b");
    }
  }

  /** Goes back over a tab's columns: as many as what was typed before it left. */
  private echoErasedTab(at: number): void {
    let columns = 0;
    let afterTab = false;
    for (let i = at - 1; i >= this.canonHead; i -= 1) {
      const c = this.bytes[i & MASK]!;
      if (c === 9) {
        afterTab = true;
        break;
      }
      if (isControl(c)) columns += this.has(T.ECHOCTL) ? 2 : 0;
      else if (!isContinuation(c, this.port.termios)) columns += 1;
    }
    this.echo.eraseTab(columns, afterTab);
  }

  /** Bytes that a read would get now: whole lines, or all. */
  get available(): number {
    return (this.has(T.ICANON) ? this.canonHead : this.head) - this.tail;
  }

  /** As FIONREAD counts it: without the marks of ends of file. */
  get queued(): number {
    if (!this.has(T.ICANON)) return this.available;
    let count = 0;
    for (let i = this.tail; i !== this.canonHead; i += 1) {
      if (this.ends[i & MASK] === 0 || this.bytes[i & MASK] !== DISABLED) count += 1;
    }
    return count;
  }

  /** At most a line, or what is there; call it only while there is something. */
  take(into: Uint8Array): number {
    const lines = this.has(T.ICANON);
    const end = lines ? this.canonHead : this.head;
    let count = 0;
    while (this.tail !== end) {
      const at = this.tail & MASK;
      const c = this.bytes[at]!;
      const ends = lines && this.ends[at] === 1;
      if (ends && c === DISABLED) {
        this.ends[at] = 0;
        this.tail += 1;
        break;
      }
      if (count === into.length) break;
      into[count++] = c;
      this.ends[at] = 0;
      this.tail += 1;
      if (ends) break;
    }
    return count;
  }

  flush(): void {
    this.head = this.canonHead = this.tail = 0;
    this.ends.fill(0);
    this.literalNext = false;
    this.port.inputFlushed();
  }

  /** The settings were `old` until now. */
  changed(old: T.Termios): void {
    const { termios } = this.port;
    if (((old.lflag ^ termios.lflag) & (T.ICANON | T.EXTPROC)) !== 0) {
      this.ends.fill(0);
      // What was typed before the line mode began is a line of its own.
      if ((termios.lflag & T.ICANON) !== 0 && this.head !== this.tail) {
        this.ends[(this.head - 1) & MASK] = 1;
      }
      this.canonHead = this.head;
      this.literalNext = false;
      this.echo.forget();
    }
    if ((termios.iflag & T.IXON) === 0 && (old.iflag & T.IXON) !== 0) this.port.start();
    this.port.inputChanged();
  }
}

/** Letters (of Latin-1, too, as the kernel's isalnum), digits and the underscore. */
function isWord(c: number): boolean {
  return (
    (c >= 48 && c <= 57) ||
    (c >= 65 && c <= 90) ||
    (c >= 97 && c <= 122) ||
    c === 95 ||
    (c >= 0xc0 && c !== 0xd7 && c !== 0xf7)
  );
}
