/** An open terminal (not the master of a pty). */

import { E, Errno } from "../../errno.ts";
import type { Inode, Task } from "../../types.ts";
import { Block } from "../../wait.ts";
import { POLLERR, POLLHUP, READABLE, SIGTTIN, SIGTTOU, WRITABLE } from "../constants.ts";
import { PseudoFile, takeProgress } from "../pseudo.ts";
import { terminalControl } from "./control.ts";
import { ICANON, OPOST, TOSTOP, VMIN, VTIME } from "./termios.ts";
import type { Terminal } from "./terminal.ts";

/** Nanoseconds of VTIME's unit. */
const TENTH = 100_000_000;
/** Bytes that a write processes before it looks at the room again. */
const PART = 2048;

export class TerminalFile extends PseudoFile {
  readonly terminal: Terminal;
  readonly name: string;
  private readonly generation: number;

  constructor(terminal: Terminal, inode: Inode, flags: number, name: string) {
    super(inode, flags, terminal.queue);
    this.terminal = terminal;
    this.name = name;
    this.generation = terminal.generation;
    terminal.opens += 1;
  }

  get hungUp(): boolean {
    return this.generation !== this.terminal.generation;
  }

  override read(task: Task, into: Uint8Array, _position: number | null): number {
    this.mustRead();
    if (this.hungUp) return 0;
    if (into.length === 0) return 0;
    const { terminal } = this;
    terminal.checkForeground(task, SIGTTIN);
    this.waitForInput(task, into.length);
    if (terminal.discipline.available === 0) return 0;
    const count = terminal.discipline.take(into);
    terminal.accept();
    terminal.outputPossible();
    return count;
  }

  /** Returns when the read shall end, perhaps with nothing (VTIME). */
  private waitForInput(task: Task, size: number): void {
    const { terminal } = this;
    const { termios } = terminal;
    const have = terminal.discipline.available;
    const lines = (termios.lflag & ICANON) !== 0;
    const minimum = lines ? 1 : termios.cc[VMIN]!;
    const time = lines ? 0 : termios.cc[VTIME]! * TENTH;
    if (have >= Math.max(1, Math.min(minimum, size))) return;
    if (terminal.otherClosed) {
      if (have > 0) return;
      throw new Errno(E.IO);
    }
    if (minimum === 0 && time === 0) return;
    if (this.nonBlocking) {
      if (have > 0) return;
      throw new Errno(E.AGAIN);
    }
    if (have > 0 && task.signalPending) return;
    let deadline = Infinity;
    if (time > 0 && (minimum === 0 || have > 0)) {
      const now = terminal.kernel.monotonic();
      // The time runs from the call's beginning, or with a minimum, anew from each byte.
      const runs = minimum === 0 || task.restart?.["have"] === have;
      deadline = (runs ? task.restart?.deadline : undefined) ?? now + time;
      if (now >= deadline) return;
      task.restart = { ...task.restart, have, deadline };
    }
    throw new Block([terminal.queue], deadline);
  }

  override write(task: Task, from: Uint8Array, _position: number | null): number {
    this.mustWrite();
    if (this.hungUp) throw new Errno(E.IO);
    const { terminal } = this;
    if ((terminal.termios.lflag & TOSTOP) !== 0) terminal.checkForeground(task, SIGTTOU);
    if (terminal.otherClosed) throw new Errno(E.IO);
    terminal.discipline.echo.flush();
    let done = takeProgress(task);
    while (done < from.length) {
      const { room } = terminal;
      if (room <= 0) {
        if (done > 0 && (this.nonBlocking || task.signalPending)) return done;
        if (this.nonBlocking) throw new Errno(E.AGAIN);
        if (done > 0) task.restart = { ...task.restart, done };
        throw new Block([terminal.queue]);
      }
      // Output processing makes a byte into eight at the most (tabs); the room is not that exact.
      const part = from.subarray(done, done + Math.min(PART, room));
      done += part.length;
      const raw = (terminal.termios.oflag & OPOST) === 0;
      terminal.send(raw ? part.slice() : terminal.output.all(part, terminal.termios));
    }
    return done;
  }

  override poll(): number {
    if (this.hungUp) return READABLE | WRITABLE | POLLERR | POLLHUP;
    const { terminal } = this;
    const { termios, discipline } = terminal;
    let events = 0;
    const raw = (termios.lflag & ICANON) === 0;
    const wanted = raw && termios.cc[VTIME] === 0 ? Math.max(1, termios.cc[VMIN]!) : 1;
    if (discipline.available >= wanted) events |= READABLE;
    if (terminal.otherClosed) events |= POLLHUP;
    if (terminal.room > 0) events |= WRITABLE;
    return events;
  }

  override ioctl(task: Task, request: number, argument: number): number {
    if (this.hungUp) throw new Errno(E.IO);
    const result = terminalControl(task, this.terminal, request, argument, false);
    return result ?? super.ioctl(task, request, argument);
  }

  override release(): void {
    this.terminal.opens -= 1;
    this.terminalReleased();
  }

  /** For ptys: the master hears when the last one is closed. */
  protected terminalReleased(): void {
    if (this.terminal.opens === 0) this.terminal.exclusive = false;
  }
}
