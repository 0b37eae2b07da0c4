/** A terminal: line discipline, flow control, window size, and the session it controls. What is behind it (a host, a pty's master) is a subclass's. */

import { E, Errno } from "../../errno.ts";
import type { ControllingTerminal, Kernel, Process, Session, Task } from "../../types.ts";
import { Block, WaitQueue } from "../../wait.ts";
import { ByteQueue } from "../bytes.ts";
import { READABLE, SIGCONT, SIGHUP, SIGTTIN, SIGWINCH, WRITABLE } from "../constants.ts";
import { type Port, LineDiscipline } from "./discipline.ts";
import { Echo, type EchoPort } from "./echo.ts";
import { OutputProcessor } from "./output.ts";
import { type Termios, standardTermios } from "./termios.ts";

export interface WindowSize {
  rows: number;
  columns: number;
  xpixels: number;
  ypixels: number;
}

export abstract class Terminal implements ControllingTerminal, Port, EchoPort {
  readonly kernel: Kernel;
  /** Device number. */
  readonly device: number;
  /** Below /dev: ttyS0, pts/3. */
  readonly name: string;
  termios: Termios = standardTermios();
  window: WindowSize = { rows: 0, columns: 0, xpixels: 0, ypixels: 0 };
  readonly output = new OutputProcessor();
  readonly discipline: LineDiscipline;
  readonly queue = new WaitQueue();
  /** Typed, and not yet in the discipline's buffer, which is full. */
  protected readonly incoming = new ByteQueue();
  session: Session | undefined;
  /** Process group in the foreground; 0: none. */
  foreground = 0;
  /** Output stands still (Ctrl-S, TCOOFF). */
  stopped = false;
  exclusive = false;
  /** How many have it open. */
  opens = 0;
  /** Grows with each hang-up: files opened before are dead. */
  generation = 0;

  constructor(kernel: Kernel, device: number, name: string) {
    this.kernel = kernel;
    this.device = device;
    this.name = name;
    this.discipline = new LineDiscipline(this, new Echo(this));
  }

  /** Bytes go out; only while `room` says so. */
  abstract send(bytes: Uint8Array): void;
  /** How many bytes can go out now. */
  protected abstract roomBehind(): number;
  abstract flushOutput(): void;
  /** The other side is gone: reads end with EIO. */
  get otherClosed(): boolean {
    return false;
  }

  get room(): number {
    return this.stopped ? 0 : this.roomBehind();
  }

  get canSend(): boolean {
    return this.room > 0;
  }

  /** Something was typed. */
  typed(bytes: Uint8Array): void {
    this.incoming.push(bytes);
    this.accept();
  }

  /** Moves what was typed on into the discipline, as far as it goes. */
  accept(): void {
    while (this.incoming.length > 0 && !this.accepting) {
      const piece = new Uint8Array(Math.min(this.incoming.length, 4096));
      this.incoming.peek(piece);
      this.accepting = true;
      const taken = this.discipline.receive(piece);
      this.accepting = false;
      this.incoming.skip(taken);
      if (taken < piece.length) return;
    }
  }

  /** A signal while typing may flush what was typed. */
  private accepting = false;

  signal(signal: number): void {
    if (this.foreground > 0) this.kernel.signalGroup(this.foreground, signal);
  }

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.flowChanged();
    this.outputPossible();
  }

  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.flowChanged();
  }

  /** Packet mode tells of it. */
  protected flowChanged(): void {}

  /** Whoever waits to write may go on. */
  outputPossible(): void {
    this.discipline.echo.flush();
    this.queue.wake(Infinity, WRITABLE);
  }

  inputChanged(): void {
    if (this.discipline.available > 0) this.queue.wake(Infinity, READABLE);
  }

  inputFlushed(): void {}

  setTermios(termios: Termios): void {
    const old = this.termios;
    this.termios = termios;
    this.discipline.changed(old);
    this.termiosChanged(old);
    this.accept();
  }

  protected termiosChanged(_old: Termios): void {}

  flushInput(): void {
    this.incoming.clear();
    this.discipline.flush();
  }

  resize(window: WindowSize): void {
    const { rows, columns, xpixels, ypixels } = this.window;
    if (
      rows === window.rows &&
      columns === window.columns &&
      xpixels === window.xpixels &&
      ypixels === window.ypixels
    ) {
      return;
    }
    this.window = { ...window };
    this.signal(SIGWINCH);
  }

  /** Whether it is the caller's controlling terminal. */
  controls(process: Process): boolean {
    return process.session.terminal === this;
  }

  /**
   * What background processes may not do to their terminal: they get `signal` instead, and the call is made again once they
   * are in the foreground.
   */
  checkForeground(task: Task, signal: number): void {
    const { process } = task;
    if (!this.controls(process) || this.foreground === 0 || process.pgid === this.foreground) return;
    if (this.kernel.signalIgnored(task, signal)) {
      if (signal === SIGTTIN) throw new Errno(E.IO);
      return;
    }
    if (this.kernel.groupIsOrphaned(process.pgid)) throw new Errno(E.IO);
    this.kernel.signalGroup(process.pgid, signal);
    throw new Block([this.queue], this.kernel.monotonic());
  }

  /** It becomes the controlling terminal of the caller's session. */
  takeSession(process: Process): void {
    this.session = process.session;
    this.foreground = process.pgid;
    process.session.terminal = this;
  }

  /** It controls nobody any more. */
  leaveSession(): void {
    if (this.session?.terminal === this) this.session.terminal = undefined;
    this.session = undefined;
    this.foreground = 0;
  }

  /** The line is cut: the session hears of it, and what is open of it is dead. */
  hangUp(): void {
    const { session, foreground } = this;
    this.generation += 1;
    this.stopped = false;
    this.incoming.clear();
    this.discipline.flush();
    if (session !== undefined) {
      const leader = this.kernel.process(session.sid);
      if (leader !== undefined) {
        this.kernel.signalProcess(leader, SIGHUP);
        this.kernel.signalProcess(leader, SIGCONT);
      }
      if (foreground > 0) this.kernel.signalGroup(foreground, SIGHUP);
    }
    this.leaveSession();
    this.queue.wake();
  }

  sessionEnded(session: Session): void {
    if (this.session !== session) return;
    this.tellForeground();
    this.leaveSession();
    this.sessionGone();
  }

  /** After its session's leader has ended. */
  protected sessionGone(): void {
    this.queue.wake();
  }

  /** TIOCNOTTY of the session's leader. */
  giveUp(): void {
    this.tellForeground();
    this.leaveSession();
  }

  private tellForeground(): void {
    if (this.foreground === 0) return;
    this.kernel.signalGroup(this.foreground, SIGHUP);
    this.kernel.signalGroup(this.foreground, SIGCONT);
  }
}
