/** ioctl of terminals, and of a pty's master where it speaks of its other side. */

import { E, Errno } from "../../errno.ts";
import type { Task } from "../../types.ts";
import { FIONREAD, SIGTTOU } from "../constants.ts";
import type { Terminal } from "./terminal.ts";
import * as T from "./termios.ts";

const TCGETS = 0x5401;
const TCSETS = 0x5402;
const TCSETSW = 0x5403;
const TCSETSF = 0x5404;
const TCGETA = 0x5405;
const TCSETA = 0x5406;
const TCSETAW = 0x5407;
const TCSETAF = 0x5408;
const TCSBRK = 0x5409;
const TCXONC = 0x540a;
const TCFLSH = 0x540b;
const TIOCEXCL = 0x540c;
const TIOCNXCL = 0x540d;
const TIOCSCTTY = 0x540e;
const TIOCGPGRP = 0x540f;
const TIOCSPGRP = 0x5410;
const TIOCOUTQ = 0x5411;
const TIOCSTI = 0x5412;
const TIOCGWINSZ = 0x5413;
const TIOCSWINSZ = 0x5414;
const TIOCMGET = 0x5415;
const TIOCGSOFTCAR = 0x5419;
const TIOCSSOFTCAR = 0x541a;
const TIOCNOTTY = 0x5422;
const TIOCSETD = 0x5423;
const TIOCGETD = 0x5424;
const TCSBRKP = 0x5425;
const TIOCSBRK = 0x5427;
const TIOCCBRK = 0x5428;
const TIOCGSID = 0x5429;
const TCGETS2 = 0x802c542a;
const TCSETS2 = 0x402c542b;
const TCSETSW2 = 0x402c542c;
const TCSETSF2 = 0x402c542d;
const TIOCGEXCL = 0x80045440;

const TCIFLUSH = 0;
const TCOFLUSH = 1;
const TCIOFLUSH = 2;

/** Undefined: it is none of a terminal's. `master`: the caller holds the other side of a pty. */
export function terminalControl(
  task: Task,
  terminal: Terminal,
  request: number,
  argument: number,
  master: boolean,
): number | undefined {
  return (
    settings(task, terminal, request >>> 0, argument) ??
    line(task, terminal, request >>> 0, argument) ??
    ownership(task, terminal, request >>> 0, argument, master)
  );
}

/** Background processes must not change the terminal. */
function change(task: Task, terminal: Terminal): void {
  terminal.checkForeground(task, SIGTTOU);
}

function settings(task: Task, terminal: Terminal, request: number, at: number): number | undefined {
  const { memory } = task;
  switch (request) {
    case TCGETS:
    case TCGETS2:
      T.writeTermios(memory, at, terminal.termios, request === TCGETS2);
      return 0;
    case TCGETA:
      T.writeTermio(memory, at, terminal.termios);
      return 0;
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
    case TCSETS2:
    case TCSETSW2:
    case TCSETSF2: {
      change(task, terminal);
      const speeds = request >= TCSETS2;
      const termios = T.readTermios(memory, at, terminal.termios, speeds);
      if (request === TCSETSF || request === TCSETSF2) terminal.flushInput();
      terminal.setTermios(termios);
      return 0;
    }
    case TCSETA:
    case TCSETAW:
    case TCSETAF: {
      change(task, terminal);
      const termios = T.readTermio(memory, at, terminal.termios);
      if (request === TCSETAF) terminal.flushInput();
      terminal.setTermios(termios);
      return 0;
    }
    case TIOCGSOFTCAR:
      memory.setU32(at, (terminal.termios.cflag & 0o4000) === 0 ? 0 : 1);
      return 0;
    case TIOCSSOFTCAR: {
      const { termios } = terminal;
      const cflag = (termios.cflag & ~0o4000) | (memory.getU32(at) === 0 ? 0 : 0o4000);
      terminal.setTermios({ ...termios, cflag });
      return 0;
    }
    default:
      return undefined;
  }
}

function line(task: Task, terminal: Terminal, request: number, at: number): number | undefined {
  const { memory } = task;
  switch (request) {
    case TIOCGWINSZ: {
      const { rows, columns, xpixels, ypixels } = terminal.window;
      [rows, columns, xpixels, ypixels].forEach((value, i) => memory.setU16(at + 2 * i, value));
      return 0;
    }
    case TIOCSWINSZ: {
      const [rows, columns, xpixels, ypixels] = [0, 2, 4, 6].map((i) => memory.getU16(at + i));
      terminal.resize({ rows: rows!, columns: columns!, xpixels: xpixels!, ypixels: ypixels! });
      return 0;
    }
    case FIONREAD:
      memory.setU32(at, terminal.discipline.queued);
      return 0;
    case TIOCOUTQ:
      // Output is with the other side as soon as it is written.
      memory.setU32(at, 0);
      return 0;
    case TCFLSH:
      change(task, terminal);
      return flush(terminal, at);
    case TCXONC:
      change(task, terminal);
      return flow(terminal, at);
    case TCSBRK:
    case TCSBRKP:
    case TIOCSBRK:
    case TIOCCBRK:
      change(task, terminal);
      return 0;
    case TIOCGETD:
      memory.setU32(at, 0);
      return 0;
    case TIOCSETD:
      if (memory.getU32(at) !== 0) throw new Errno(E.INVAL);
      return 0;
    case TIOCSTI:
      // As kernels do that are configured without it (the default since 6.2).
      throw new Errno(E.IO);
    case TIOCMGET:
      throw new Errno(E.NOTTY);
    default:
      return undefined;
  }
}

function flush(terminal: Terminal, which: number): number {
  if (which !== TCIFLUSH && which !== TCOFLUSH && which !== TCIOFLUSH) throw new Errno(E.INVAL);
  if (which !== TCOFLUSH) {
    terminal.flushInput();
    terminal.outputPossible();
  }
  if (which !== TCIFLUSH) terminal.flushOutput();
  return 0;
}

function flow(terminal: Terminal, what: number): number {
  const { cc } = terminal.termios;
  switch (what) {
    case 0:
      terminal.stop();
      return 0;
    case 1:
      terminal.start();
      return 0;
    case 2:
    case 3: {
      const c = cc[what === 2 ? T.VSTOP : T.VSTART]!;
      if (c !== 0 && terminal.canSend) terminal.send(Uint8Array.of(c));
      return 0;
    }
    default:
      throw new Errno(E.INVAL);
  }
}

function ownership(
  task: Task,
  terminal: Terminal,
  request: number,
  argument: number,
  master: boolean,
): number | undefined {
  const { memory, process } = task;
  switch (request) {
    case TIOCEXCL:
    case TIOCNXCL:
      terminal.exclusive = request === TIOCEXCL;
      return 0;
    case TIOCGEXCL:
      memory.setU32(argument, terminal.exclusive ? 1 : 0);
      return 0;
    case TIOCSCTTY:
      return setControlling(task, terminal, argument);
    case TIOCNOTTY:
      if (!terminal.controls(process)) throw new Errno(E.NOTTY);
      if (process.pid === process.sid) terminal.giveUp();
      return 0;
    case TIOCGPGRP:
      if (!master && !terminal.controls(process)) throw new Errno(E.NOTTY);
      memory.setU32(argument, terminal.foreground);
      return 0;
    case TIOCSPGRP:
      return setForeground(task, terminal, argument, master);
    case TIOCGSID:
      if (!master && !terminal.controls(process)) throw new Errno(E.NOTTY);
      if (terminal.session === undefined) throw new Errno(E.NOTTY);
      memory.setU32(argument, terminal.session.sid);
      return 0;
    default:
      return undefined;
  }
}

function setControlling(task: Task, terminal: Terminal, steal: number): number {
  const { process } = task;
  if (process.pid === process.sid && terminal.session === process.session) return 0;
  if (process.pid !== process.sid || process.session.terminal !== undefined) throw new Errno(E.PERM);
  if (terminal.session !== undefined) {
    if (steal !== 1 || process.credentials.euid !== 0) throw new Errno(E.PERM);
    terminal.leaveSession();
  }
  terminal.takeSession(process);
  return 0;
}

function setForeground(task: Task, terminal: Terminal, argument: number, master: boolean): number {
  const { memory, process } = task;
  if (!master) change(task, terminal);
  if (!terminal.controls(process) || terminal.session !== process.session) throw new Errno(E.NOTTY);
  const pgid = memory.getI32(argument);
  if (pgid < 0) throw new Errno(E.INVAL);
  const members = [...process.kernel.processes()].filter((member) => member.pgid === pgid);
  if (members.length === 0) throw new Errno(E.SRCH);
  if (!members.some((member) => member.sid === process.sid)) throw new Errno(E.PERM);
  terminal.foreground = pgid;
  return 0;
}
