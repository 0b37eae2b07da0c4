/** The machine's kernel: its processes, clocks and system calls. */

import { type ExecutableFile, execute } from "./exec/execute.ts";
import { Ipc } from "./ipc.ts";
import type { Pipe } from "./io/pipe.ts";
import { KernelLog } from "./kernel-log.ts";
import { MessageQueues } from "./io/message-queue.ts";
import { Futexes } from "./futex.ts";
import { defaultLimits } from "./limits.ts";
import { Maps } from "./memory/maps.ts";
import { PageAccount } from "./memory/paging.ts";
import { SharedVersions } from "./memory/shared.ts";
import { CorePool } from "./memory/space.ts";
import { defaultActions, ThreadGroup } from "./process.ts";
import { Scheduler } from "./scheduler.ts";
import { SI_KERNEL, SI_USER, SIG_IGN, bit } from "./signals/numbers.ts";
import type { SignalInfo } from "./signals/pending.ts";
import { sendToProcess } from "./signals/send.ts";
import { callName } from "./syscalls/numbers.ts";
import type { CallTable } from "./syscalls/table.ts";
import { Thread } from "./task.ts";
import { TimerHeap } from "./timers.ts";
import { expireTimers } from "./syscalls/timers.ts";
import type {
  Arguments,
  ByteString,
  Credentials,
  FileSystemContext,
  FileTable,
  Kernel,
  Process,
  Session,
  Task,
  Time,
} from "./types.ts";
import { WaitQueue } from "./wait.ts";

/** Pages that all address spaces and files in memory together may fill when nobody says how many: 2 GiB. */
const MOST_PAGES = 2 ** 19;
/** Processes and threads. */
export const MOST_THREADS = 4096;

/** The engine itself is wrong, or cannot do what a program needs: the machine stops with this report. */
export class EngineError extends Error {
  override readonly name = "EngineError";
}

export interface Tracer {
  enter(thread: Thread, number: number, a: Arguments): void;
  /** `result` may be NO_RESULT. */
  leave(thread: Thread, number: number, a: Arguments, result: number): void;
  interrupted(thread: Thread, number: number, restarts: boolean): void;
  signal(thread: Thread, info: SignalInfo): void;
}

/** What the host gives. */
export interface Host {
  /** Nanoseconds that never go back. */
  monotonic(): number;
  realtime(): Time;
  random(into: Uint8Array): void;
  log(message: string): void;
  /** A saved machine goes on: `monotonic` is to go on from there. */
  continueFrom(monotonic: number): void;
}

/** What the kernel asks of the file systems. */
export interface Files {
  /** For execve(at): follows names as the task sees them, checks the right to execute. Throws `Errno` and `Block`. */
  openExecutable(task: Task, directory: number, path: ByteString, flags: number): ExecutableFile;
}

export interface Program {
  path: ByteString;
  arguments: ByteString[];
  environment: ByteString[];
  files: FileTable;
  fs: FileSystemContext;
  credentials: Credentials;
  pid: number;
  /** Opens standard input, output and error in the new process. */
  open: (task: Task) => void;
}

export class LinuxKernel implements Kernel {
  static readonly transient = { tracer: () => undefined, onProcessEnd: () => undefined };
  readonly host: Host;
  readonly files: Files;
  readonly pool: CorePool;
  readonly scheduler: Scheduler;
  readonly timers = new TimerHeap();
  readonly futexes = new Futexes();
  readonly ipc = new Ipc();
  readonly messageQueues = new MessageQueues();
  readonly messages = new KernelLog();
  readonly sharedVersions = new SharedVersions();
  /** Memory of the machine. */
  readonly pages: PageAccount;
  readonly threads = new Map<number, Thread>();
  lastInode = 1000;
  readonly fifos = new Map<string, Pipe>();
  /** Of /proc/sys: what was set and changes nothing here. */
  readonly settings = new Map<ByteString, ByteString>();
  bootId: ByteString = "";
  hostname: ByteString = "localhost";
  domainname: ByteString = "(none)";
  tracer: Tracer | undefined;
  /** Called when a process has ended, before anybody has waited for it. */
  onProcessEnd: ((process: ThreadGroup) => void) | undefined;
  private readonly processTable = new Map<number, ThreadGroup>();
  private readonly sessions = new Map<number, Session>();
  private readonly calls: (number: number) => ((task: Task, a: Arguments) => number) | undefined;
  private readonly unknown = new Set<number>();
  private nextPid = 2;
  /** Counted for --stats. */
  forks = 0;
  faults = 0;

  constructor(host: Host, files: Files, module: WebAssembly.Module, calls: CallTable, pages = MOST_PAGES) {
    this.pages = new PageAccount(pages);
    this.host = host;
    this.files = files;
    this.calls = calls.find;
    this.pool = new CorePool(module, () => BigInt(Math.floor(host.monotonic())));
    this.scheduler = new Scheduler(this);
  }

  monotonic(): number {
    return this.host.monotonic();
  }

  realtime(): Time {
    return this.host.realtime();
  }

  random(into: Uint8Array): void {
    this.host.random(into);
  }

  log(message: string): void {
    this.messages.add(this.monotonic(), message);
    this.host.log(message);
  }

  wakeAt(time: number, queue: WaitQueue): void {
    this.timers.add({ time, queue });
  }

  processes(): Iterable<ThreadGroup> {
    return this.processTable.values();
  }

  process(pid: number): ThreadGroup | undefined {
    return this.processTable.get(pid);
  }

  *group(pgid: number): Iterable<ThreadGroup> {
    for (const process of this.processTable.values()) if (process.pgid === pgid) yield process;
  }

  signalGroup(pgid: number, signal: number): void {
    for (const process of [...this.group(pgid)]) sendToProcess(process, { signal, code: SI_KERNEL });
  }

  signalProcess(process: Process, signal: number): void {
    sendToProcess(process as ThreadGroup, { signal, code: SI_USER });
  }

  signalIgnored(task: Task, signal: number): boolean {
    const thread = task as Thread;
    return (thread.mask & bit(signal)) !== 0n || thread.process.action(signal).handler === SIG_IGN;
  }

  /** `without`: as if that process were not there. */
  groupIsOrphaned(pgid: number, without?: ThreadGroup): boolean {
    for (const process of this.group(pgid)) {
      const { parent } = process;
      if (process === without || process.zombie || parent === undefined) continue;
      if (parent.pgid !== pgid && parent.session === process.session) return false;
    }
    return true;
  }

  session(sid: number): Session {
    let session = this.sessions.get(sid);
    if (session === undefined) {
      session = { sid, terminal: undefined };
      this.sessions.set(sid, session);
    }
    return session;
  }

  /** A free process or thread number. */
  allocatePid(): number {
    while (
      this.processTable.has(this.nextPid) ||
      this.threads.has(this.nextPid) ||
      this.inUse(this.nextPid)
    ) {
      this.nextPid = this.nextPid >= 4194303 ? 300 : this.nextPid + 1;
    }
    const pid = this.nextPid;
    this.nextPid = pid >= 4194303 ? 300 : pid + 1;
    return pid;
  }

  private inUse(pid: number): boolean {
    if (this.sessions.has(pid)) {
      for (const process of this.processTable.values()) if (process.sid === pid) return true;
      this.sessions.delete(pid);
    }
    return !this.group(pid)[Symbol.iterator]().next().done;
  }

  addProcess(process: ThreadGroup): void {
    this.processTable.set(process.pid, process);
  }

  addThread(thread: Thread): void {
    this.threads.set(thread.tid, thread);
    thread.process.threads.push(thread);
    thread.startTime = this.monotonic();
  }

  /** A thread takes the number of its process's leader (execve). */
  renumber(thread: Thread, tid: number): void {
    this.threads.delete(thread.tid);
    thread.tid = tid;
    this.threads.set(tid, thread);
  }

  forget(process: ThreadGroup): void {
    this.processTable.delete(process.pid);
  }

  processEnded(process: ThreadGroup): void {
    this.onProcessEnd?.(process);
  }

  /** CLONE_FILES shares a table: the last one closes it. */
  closeFiles(process: ThreadGroup): void {
    for (const other of this.processTable.values()) {
      if (other !== process && !other.zombie && other.files === process.files) return;
    }
    process.files.closeAll();
  }

  /** execve ends the sharing of CLONE_FILES. */
  unshareFiles(process: ThreadGroup): void {
    for (const other of this.processTable.values()) {
      if (other === process || other.zombie || other.files !== process.files) continue;
      process.files = process.files.copy();
      return;
    }
  }

  /** Starts a program in a process of its own, a new session. Throws `Errno`; `Block` when the disk is slow: call again. */
  spawn(program: Program): ThreadGroup {
    const process = new ThreadGroup(this, program.pid, undefined, {
      pgid: program.pid,
      session: this.session(program.pid),
      files: program.files,
      fs: program.fs,
      credentials: program.credentials,
      limits: defaultLimits(),
      actions: defaultActions(),
      exitSignal: 0,
    });
    const thread = new Thread(program.pid, process, new Maps(this.pool, this.sharedVersions, this.pages));
    try {
      process.threads.push(thread);
      const file = this.files.openExecutable(thread, -100, program.path, 0);
      execute(thread, file, program.path, program.arguments, program.environment);
      process.threads.length = 0;
    } catch (error) {
      thread.maps.leave();
      throw error;
    }
    this.addProcess(process);
    this.addThread(thread);
    program.open(thread);
    this.scheduler.add(thread);
    return process;
  }

  dispatch(thread: Thread, number: number, a: Arguments): number {
    const call = this.calls(number);
    if (call === undefined) return this.refuse(thread, number);
    return call(thread, a);
  }

  private refuse(thread: Thread, number: number): number {
    if (!this.unknown.has(number)) {
      this.unknown.add(number);
      this.log(`${thread.name}[${thread.process.pid}]: system call ${callName(number)} is not implemented`);
    }
    return -38;
  }

  /** Runs for about that many milliseconds, or until nobody can run. */
  step(milliseconds: number): void {
    const end = this.monotonic() + milliseconds * 1e6;
    do {
      this.expire();
      if (!this.scheduler.runNext()) return;
    } while (this.monotonic() < end);
  }

  get runnable(): boolean {
    return this.scheduler.runnable;
  }

  /** Monotonic time of the next timer; Infinity: none. */
  get nextTimer(): number {
    return this.timers.next;
  }

  private expire(): void {
    if (this.timers.next === Infinity) return;
    const now = this.monotonic();
    for (let entry = this.timers.take(now); entry !== undefined; entry = this.timers.take(now)) {
      entry.queue?.wake();
      if (entry.tid !== undefined) {
        const thread = this.threads.get(entry.tid);
        if (thread !== undefined && thread.wait === entry.wait) this.scheduler.wake(thread);
      }
      if (entry.pid !== undefined) {
        const process = this.process(entry.pid);
        if (process !== undefined && !process.zombie) expireTimers(process);
      }
    }
  }
}
