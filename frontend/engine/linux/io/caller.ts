/** For tests: a caller of system calls with memory, descriptors and signals that are noted instead of delivered. */

import { E, Errno } from "../errno.ts";
import { dropFile, holdFile } from "../references.ts";
import type {
  Arguments,
  Descriptor,
  FileTable,
  Kernel,
  OpenFile,
  Process,
  Restart,
  Session,
  SystemCall,
  SystemCalls,
  Task,
  UserMemory,
} from "../types.ts";
import { Block, type WaitQueue } from "../wait.ts";
import type { Pipe } from "./pipe.ts";

export class CallerMemory implements UserMemory {
  readonly bytes = new Uint8Array(1 << 20);
  private readonly view = new DataView(this.bytes.buffer);
  private next = 4096;

  /** A fresh piece of memory. */
  place(size: number): number {
    const address = this.next;
    this.next += (size + 15) & ~15;
    return address;
  }

  put(content: string | Uint8Array): number {
    const bytes = typeof content === "string" ? Uint8Array.from(Buffer.from(content, "latin1")) : content;
    const address = this.place(bytes.length + 1);
    this.bytes.set(bytes, address);
    return address;
  }

  readable(address: number, length: number): Uint8Array {
    if (length === 0) return this.bytes.subarray(0, 0);
    if (address < 4096 || address + length > this.bytes.length) throw new Errno(E.FAULT);
    return this.bytes.subarray(address, address + length);
  }

  writable(address: number, length: number): Uint8Array {
    return this.readable(address, length);
  }

  private at(address: number, length: number): number {
    this.readable(address, length);
    return address;
  }

  getU8 = (a: number): number => this.view.getUint8(this.at(a, 1));
  getU16 = (a: number): number => this.view.getUint16(this.at(a, 2), true);
  getU32 = (a: number): number => this.view.getUint32(this.at(a, 4), true);
  getI32 = (a: number): number => this.view.getInt32(this.at(a, 4), true);
  getI64 = (a: number): number => Number(this.view.getBigInt64(this.at(a, 8), true));
  setU8 = (a: number, v: number): void => this.view.setUint8(this.at(a, 1), v);
  setU16 = (a: number, v: number): void => this.view.setUint16(this.at(a, 2), v, true);
  setU32 = (a: number, v: number): void => this.view.setUint32(this.at(a, 4), v, true);
  setI64 = (a: number, v: number): void => this.view.setBigInt64(this.at(a, 8), BigInt(v), true);

  string(address: number, most = 4096): string {
    let text = "";
    for (let i = address; this.getU8(i) !== 0; i += 1) {
      if (text.length >= most) throw new Errno(E.NAMETOOLONG);
      text += String.fromCharCode(this.getU8(i));
    }
    return text;
  }

  text(address: number, length: number): string {
    return Buffer.from(this.readable(address, length)).toString("latin1");
  }
}

class CallerFiles implements FileTable {
  private readonly entries: (Descriptor | undefined)[] = [];

  get(fd: number): OpenFile {
    const entry = this.entries[fd];
    if (entry === undefined) throw new Errno(E.BADF);
    return entry.file;
  }

  add(file: OpenFile, closeOnExec: boolean, from = 0): number {
    let fd = from;
    while (this.entries[fd] !== undefined) fd += 1;
    this.entries[fd] = { file, closeOnExec };
    return fd;
  }

  close(fd: number): void {
    const file = this.get(fd);
    this.entries[fd] = undefined;
    dropFile(file);
  }

  copy(): FileTable {
    const copy = new CallerFiles();
    this.entries.forEach((entry, fd) => {
      if (entry !== undefined) copy.add(holdFile(entry.file), entry.closeOnExec, fd);
    });
    return copy;
  }

  closeOnExec(): void {}

  closeAll(): void {
    this.entries.forEach((entry, fd) => entry !== undefined && this.close(fd));
  }
}

export class CallerKernel implements Kernel {
  now = 1_000_000_000;
  lastInode = 1000;
  readonly fifos = new Map<string, Pipe>();
  readonly signals: string[] = [];
  private readonly table = new Map<number, Process>();
  private readonly timers: { time: number; queue: WaitQueue }[] = [];
  /** Signals that everybody ignores. */
  readonly ignored = new Set<number>();
  readonly orphaned = new Set<number>();

  monotonic = (): number => this.now;
  realtime = () => ({ seconds: 1_700_000_000 + Math.floor(this.now / 1e9), nanoseconds: this.now % 1e9 });
  random = (into: Uint8Array): void => void crypto.getRandomValues(into as Uint8Array<ArrayBuffer>);
  signalGroup = (pgid: number, signal: number): void => void this.signals.push(`group ${pgid}: ${signal}`);
  signalProcess = (process: Process, signal: number): void =>
    void this.signals.push(`process ${process.pid}: ${signal}`);
  processes = (): Iterable<Process> => this.table.values();
  process = (pid: number): Process | undefined => this.table.get(pid);
  log = (): void => {};
  groupIsOrphaned = (pgid: number): boolean => this.orphaned.has(pgid);
  signalIgnored = (_task: Task, signal: number): boolean => this.ignored.has(signal);

  wakeAt(time: number, queue: WaitQueue): void {
    this.timers.push({ time, queue });
  }

  /** Lets time pass. */
  advance(nanoseconds: number): void {
    this.now += nanoseconds;
    for (const timer of this.timers.splice(0)) {
      if (timer.time <= this.now) timer.queue.wake();
      else this.timers.push(timer);
    }
  }

  add(process: Process): void {
    this.table.set(process.pid, process);
  }

  /** The signals since the last time. */
  takeSignals(): string[] {
    return this.signals.splice(0);
  }
}

export interface Caller extends Task {
  memory: CallerMemory;
  process: Process & { kernel: CallerKernel; session: Session };
  restart: Restart | undefined;
  signalPending: boolean;
}

let nextPid = 100;

/** A process with one thread, in its own session and group unless it has a parent. */
export function makeCaller(kernel = new CallerKernel(), parent?: Caller): Caller {
  const pid = (nextPid += 1);
  const process = {
    pid,
    parent: parent?.process,
    pgid: parent?.process.pgid ?? pid,
    sid: parent?.process.sid ?? pid,
    files: parent?.process.files.copy() ?? new CallerFiles(),
    fs: { cwd: undefined, root: undefined, umask: 0o22, copy: () => process.fs },
    credentials: { uid: 0, euid: 0, suid: 0, fsuid: 0, gid: 0, egid: 0, sgid: 0, fsgid: 0, groups: [] },
    kernel,
    limit: () => Infinity,
    session: parent?.process.session ?? { sid: pid, terminal: undefined },
  } as Caller["process"];
  kernel.add(process);
  return {
    tid: pid,
    process,
    memory: new CallerMemory(),
    restart: undefined,
    signalPending: false,
    temporaryMask: () => {},
  };
}

/** What a call that waits answers here. */
export const WAITS = "waits";

/**
 * One attempt: what the call returns, `-code` of an errno, or `WAITS`. An attempt that does not block ends the call.
 */
export function attempt(task: Caller, call: () => number): number | typeof WAITS {
  try {
    const result = call();
    task.restart = undefined;
    return result;
  } catch (problem) {
    if (problem instanceof Block) return WAITS;
    task.restart = undefined;
    if (problem instanceof Errno) return -problem.code;
    throw problem;
  }
}

/** Makes a system call by its name once, as `attempt` does. */
export function callOnce(
  table: SystemCalls,
  task: Caller,
  name: string,
  ...a: number[]
): number | typeof WAITS {
  const call = table[name] as SystemCall;
  const full = [0, 1, 2, 3, 4, 5].map((i) => a[i] ?? 0);
  return attempt(task, () => call(task, full as unknown as Arguments));
}
