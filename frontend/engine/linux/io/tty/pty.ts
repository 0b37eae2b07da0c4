/** Pseudo terminals: the terminal side, and the master that a terminal emulator holds. */

import { E, Errno } from "../../errno.ts";
import type { Inode, Kernel, OpenFile, Task } from "../../types.ts";
import { Block, WaitQueue } from "../../wait.ts";
import { ByteQueue } from "../bytes.ts";
import { FIONREAD, O_NOCTTY, POLLHUP, POLLPRI, READABLE, WRITABLE } from "../constants.ts";
import { PseudoFile, takeProgress } from "../pseudo.ts";
import { terminalControl } from "./control.ts";
import { IXON, type Termios, VSTART, VSTOP } from "./termios.ts";
import { Terminal } from "./terminal.ts";

/** Major number of the terminal sides; a pty's number is the minor. */
export const PTS_MAJOR = 136;
/** Output that waits for the master, and input that waits for the discipline. */
const MOST_OUTPUT = 16384;
const MOST_INPUT = 8192;

const TIOCPKT = 0x5420;
const TIOCGPKT = 0x80045438;
const TIOCGPTN = 0x80045430;
const TIOCSPTLCK = 0x40045431;
const TIOCGPTLCK = 0x80045439;
const TIOCGPTPEER = 0x5441;
const TIOCSIG = 0x40045436;

const PKT_FLUSHREAD = 1;
const PKT_FLUSHWRITE = 2;
const PKT_STOP = 4;
const PKT_START = 8;
const PKT_NOSTOP = 16;
const PKT_DOSTOP = 32;

/** Who knows all ptys: gives a number free, and opens a terminal side. */
export interface Ptys {
  masterClosed(pty: Pty): void;
  openPeer(task: Task, pty: Pty, flags: number): OpenFile;
}

export class Pty extends Terminal {
  readonly index: number;
  readonly toMaster = new ByteQueue();
  readonly masterQueue = new WaitQueue();
  locked = true;
  masterOpen = true;
  packet = false;
  /** PKT_* to be told to the master in packet mode. */
  status = 0;
  /** The terminal side was open, and nobody has it open any more. */
  abandoned = false;

  constructor(kernel: Kernel, index: number) {
    super(kernel, (PTS_MAJOR << 8) | (index & 0xff) | ((index >>> 8) << 20), `pts/${index}`);
    this.index = index;
  }

  override get otherClosed(): boolean {
    return !this.masterOpen;
  }

  send(bytes: Uint8Array): void {
    if (!this.masterOpen) return;
    this.toMaster.push(bytes);
    this.masterQueue.wake(Infinity, READABLE);
  }

  protected roomBehind(): number {
    return this.masterOpen ? Math.max(0, MOST_OUTPUT - this.toMaster.length) : 1;
  }

  /** How much the master may write now. */
  get inputRoom(): number {
    return Math.max(0, MOST_INPUT - this.incoming.length);
  }

  /** The discipline of the master has the first 4096 bytes already. */
  flushOutput(): void {
    if (this.toMaster.length > 4096) {
      const kept = new Uint8Array(4096);
      this.toMaster.take(kept);
      this.toMaster.clear();
      this.toMaster.push(kept);
    }
    this.tell(PKT_FLUSHWRITE);
    this.outputPossible();
  }

  override inputFlushed(): void {
    this.tell(PKT_FLUSHREAD);
  }

  override accept(): void {
    super.accept();
    this.masterQueue.wake(Infinity, WRITABLE);
  }

  private tell(status: number): void {
    if (!this.packet) return;
    this.status |= status;
    this.masterQueue.wake(Infinity, READABLE | POLLPRI);
  }

  protected override flowChanged(): void {
    if (!this.packet) return;
    this.status &= ~(PKT_STOP | PKT_START);
    this.tell(this.stopped ? PKT_STOP : PKT_START);
  }

  protected override termiosChanged(old: Termios): void {
    const before = controlsFlow(old);
    const now = controlsFlow(this.termios);
    if (!this.packet || before === now) return;
    this.status &= ~(PKT_DOSTOP | PKT_NOSTOP);
    this.tell(now ? PKT_DOSTOP : PKT_NOSTOP);
  }

  /** A terminal side was opened, or the last one closed. */
  sidesChanged(): void {
    this.abandoned = this.opens === 0;
    this.masterQueue.wake();
  }

  closeMaster(): void {
    this.masterOpen = false;
    this.toMaster.clear();
    this.hangUp();
  }
}

/** Whether Ctrl-S and Ctrl-Q stop and start the output. */
function controlsFlow(termios: Termios): boolean {
  return (termios.iflag & IXON) !== 0 && termios.cc[VSTOP] === 19 && termios.cc[VSTART] === 17;
}

export class MasterFile extends PseudoFile {
  readonly pty: Pty;
  readonly name: string;
  private readonly ptys: Ptys;

  constructor(pty: Pty, ptys: Ptys, inode: Inode, flags: number, name: string) {
    super(inode, flags, pty.masterQueue);
    this.pty = pty;
    this.name = name;
    this.ptys = ptys;
    inode.hold();
  }

  override read(_task: Task, into: Uint8Array, _position: number | null): number {
    this.mustRead();
    if (into.length === 0) return 0;
    const { pty } = this;
    if (pty.packet && pty.status !== 0) {
      into[0] = pty.status;
      pty.status = 0;
      return 1;
    }
    if (pty.toMaster.length === 0) {
      if (pty.abandoned) throw new Errno(E.IO);
      if (this.nonBlocking) throw new Errno(E.AGAIN);
      throw new Block([pty.masterQueue]);
    }
    let count = 0;
    if (pty.packet) into[count++] = 0;
    count += pty.toMaster.take(into.subarray(count));
    pty.outputPossible();
    return count;
  }

  override write(task: Task, from: Uint8Array, _position: number | null): number {
    this.mustWrite();
    const { pty } = this;
    if (pty.abandoned) throw new Errno(E.IO);
    let done = takeProgress(task);
    while (done < from.length) {
      const part = from.subarray(done, done + pty.inputRoom);
      if (part.length === 0) {
        if (done > 0 && (this.nonBlocking || task.signalPending)) return done;
        if (this.nonBlocking) throw new Errno(E.AGAIN);
        if (done > 0) task.restart = { ...task.restart, done };
        throw new Block([pty.masterQueue]);
      }
      done += part.length;
      pty.typed(part);
    }
    return done;
  }

  override poll(): number {
    const { pty } = this;
    let events = 0;
    if (pty.packet && pty.status !== 0) events |= READABLE | POLLPRI;
    if (pty.toMaster.length > 0) events |= READABLE;
    if (pty.abandoned) events |= POLLHUP;
    else if (pty.inputRoom > 0) events |= WRITABLE;
    return events;
  }

  override ioctl(task: Task, request: number, argument: number): number {
    const { pty } = this;
    const { memory } = task;
    switch (request >>> 0) {
      case TIOCGPTN:
        memory.setU32(argument, pty.index);
        return 0;
      case TIOCSPTLCK:
        pty.locked = memory.getU32(argument) !== 0;
        return 0;
      case TIOCGPTLCK:
        memory.setU32(argument, pty.locked ? 1 : 0);
        return 0;
      case TIOCPKT:
        if (memory.getU32(argument) === 0) pty.packet = false;
        else if (!pty.packet) {
          pty.packet = true;
          pty.status = 0;
        }
        return 0;
      case TIOCGPKT:
        memory.setU32(argument, pty.packet ? 1 : 0);
        return 0;
      case TIOCGPTPEER: {
        const peer = this.ptys.openPeer(task, pty, argument | O_NOCTTY);
        return task.process.files.add(peer, (argument & 0o2000000) !== 0);
      }
      case TIOCSIG:
        if (argument < 1 || argument > 31) throw new Errno(E.INVAL);
        pty.signal(argument);
        return 0;
      case FIONREAD:
        memory.setU32(argument, pty.toMaster.length);
        return 0;
      default:
        return terminalControl(task, pty, request, argument, true) ?? super.ioctl(task, request, argument);
    }
  }

  override release(): void {
    this.pty.closeMaster();
    this.ptys.masterClosed(this.pty);
    this.inode.drop();
  }
}
