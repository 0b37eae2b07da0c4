/** fork, vfork, clone and clone3. */

import { E, Errno } from "../errno.ts";
import { ProcessFile } from "../io/events/pidfd.ts";
import { MOST_THREADS } from "../kernel.ts";
import { copyActions, resetActions, ThreadGroup } from "../process.ts";
import { RAX, Registers, RSP } from "../registers.ts";
import { SIGCHLD, SIGNALS, SS_AUTODISARM, SS_DISABLE } from "../signals/numbers.ts";
import { ofThreads, Thread } from "../task.ts";
import { Block } from "../wait.ts";
import { descriptorsOf } from "./file-arguments.ts";

const CSIGNAL = 0xff;
const CLONE_VM = 0x100;
const CLONE_FS = 0x200;
const CLONE_FILES = 0x400;
const CLONE_SIGHAND = 0x800;
const CLONE_PIDFD = 0x1000;
const CLONE_VFORK = 0x4000;
const CLONE_PARENT = 0x8000;
const CLONE_THREAD = 0x10000;
const CLONE_SETTLS = 0x80000;
const CLONE_PARENT_SETTID = 0x100000;
const CLONE_CHILD_CLEARTID = 0x200000;
const CLONE_DETACHED = 0x400000;
const CLONE_CHILD_SETTID = 0x1000000;
/** Namespaces: NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const NAMESPACES = 0x80 | 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000;
/** clone3 only: above 32 bits. */
const CLONE_CLEAR_SIGHAND = 0x100000000;
const CLONE_ARGS_SIZE_FIRST = 64;

interface Request {
  flags: number;
  clearHandlers: boolean;
  exitSignal: number;
  stack: number;
  parentTid: number;
  childTid: number;
  /** Where CLONE_PIDFD puts the descriptor. */
  pidfd: number;
  tls: number;
}

function check({ flags, exitSignal }: Request): void {
  if ((flags & CLONE_SIGHAND) !== 0 && (flags & CLONE_VM) === 0) throw new Errno(E.INVAL);
  if ((flags & CLONE_THREAD) !== 0 && (flags & CLONE_SIGHAND) === 0) throw new Errno(E.INVAL);
  if ((flags & NAMESPACES) !== 0) throw new Errno(E.PERM);
  if ((flags & CLONE_PIDFD) !== 0 && (flags & (CLONE_THREAD | CLONE_DETACHED)) !== 0)
    throw new Errno(E.INVAL);
  if (exitSignal > SIGNALS) throw new Errno(E.INVAL);
}

function newProcess(thread: Thread, tid: number, { flags, exitSignal, clearHandlers }: Request): ThreadGroup {
  const { process } = thread;
  const shares = (flag: number): boolean => (flags & flag) !== 0;
  const parent = shares(CLONE_PARENT) ? process.parent : process;
  const child = new ThreadGroup(process.kernel, tid, parent, {
    pgid: process.pgid,
    session: process.session,
    files: shares(CLONE_FILES) ? process.files : process.files.copy(),
    fs: shares(CLONE_FS) ? process.fs : process.fs.copy(),
    credentials: { ...process.credentials, groups: [...process.credentials.groups] },
    limits: process.limits.map((limit) => ({ ...limit })),
    actions: shares(CLONE_SIGHAND) ? process.actions : copyActions(process.actions),
    exitSignal: shares(CLONE_PARENT) ? process.exitSignal : exitSignal,
  });
  if (clearHandlers) resetActions(child.actions);
  child.nice = process.nice;
  child.ioPriority = process.ioPriority;
  child.personality = process.personality;
  child.dumpable = process.dumpable;
  child.noNewPrivileges = process.noNewPrivileges;
  child.timerSlack = process.timerSlack;
  parent?.children.add(child);
  return child;
}

function clone(thread: Thread, request: Request): number {
  const { process } = thread;
  const { kernel } = process;
  const { flags } = request;
  const shares = (flag: number): boolean => (flags & flag) !== 0;
  const waitsFor = thread.restart?.["child"];
  if (typeof waitsFor === "number") return waitForVfork(thread, waitsFor);
  check(request);
  if (shares(CLONE_PARENT_SETTID)) thread.memory.writable(request.parentTid, 4);
  if (shares(CLONE_PIDFD)) {
    thread.memory.writable(request.pidfd, 4);
    descriptorsOf(thread).mustHaveRoom();
  }
  if (kernel.threads.size >= MOST_THREADS) throw new Errno(E.AGAIN);
  const tid = kernel.allocatePid();
  const maps = shares(CLONE_VM) ? thread.maps : thread.maps.fork();
  const isThread = shares(CLONE_THREAD);
  const owner = isThread ? process : newProcess(thread, tid, request);
  const child = new Thread(tid, owner, maps);
  thread.maps.space.unload();
  child.cpu.set(thread.cpu);
  const registers = new Registers(new DataView(child.cpu.buffer), 0);
  registers.set(RAX, 0);
  if (request.stack !== 0) registers.set(RSP, request.stack);
  if (shares(CLONE_SETTLS)) registers.fsBase = BigInt(request.tls);
  new DataView(child.cpu.buffer).setBigUint64(592, 0n, true);
  child.name = thread.name;
  child.mask = thread.mask;
  // Real-time policies have a priority.
  if (!thread.resetOnFork || thread.priority === 0) {
    child.policy = thread.policy;
    child.priority = thread.priority;
  }
  if (!shares(CLONE_VM) || shares(CLONE_VFORK)) child.alternateStack = { ...thread.alternateStack };
  if ((child.alternateStack.flags & SS_AUTODISARM) !== 0) {
    child.alternateStack = { address: 0, size: 0, flags: SS_DISABLE };
  }
  if (shares(CLONE_CHILD_CLEARTID)) child.clearChildTid = request.childTid;
  if (shares(CLONE_PARENT_SETTID)) thread.memory.setU32(request.parentTid, tid);
  if (shares(CLONE_CHILD_SETTID)) child.memory.setU32(request.childTid, tid);
  if (shares(CLONE_PIDFD)) {
    const fd = process.files.add(new ProcessFile(thread, owner, 0), true);
    thread.memory.setU32(request.pidfd, fd);
  }
  if (!isThread) kernel.addProcess(owner);
  kernel.addThread(child);
  kernel.scheduler.add(child);
  kernel.forks += 1;
  if (!shares(CLONE_VFORK)) return tid;
  thread.restart = { child: tid };
  return waitForVfork(thread, tid);
}

/** The parent goes on when the child has called execve or ended; only a signal that kills it comes before. */
function waitForVfork(thread: Thread, pid: number): number {
  const child = thread.process.kernel.process(pid);
  if (child !== undefined && !child.vforkDone) throw new Block([child.vforkQueue], Infinity, false);
  return pid;
}

function plain(flags: number): Request {
  const none = { clearHandlers: false, stack: 0, parentTid: 0, childTid: 0, pidfd: 0, tls: 0 };
  return { ...none, flags, exitSignal: SIGCHLD };
}

export const cloneCalls = ofThreads({
  fork: (thread) => clone(thread, plain(0)),
  vfork: (thread) => clone(thread, plain(CLONE_VM | CLONE_VFORK)),

  clone(thread, a) {
    const flags = a[0] | 0;
    // Both would be stored at the same place.
    if ((flags & CLONE_PIDFD) !== 0 && (flags & CLONE_PARENT_SETTID) !== 0) throw new Errno(E.INVAL);
    return clone(thread, {
      flags: flags & ~CSIGNAL,
      clearHandlers: false,
      exitSignal: flags & CSIGNAL,
      stack: a[1],
      parentTid: a[2],
      childTid: a[3],
      pidfd: a[2],
      tls: a[4],
    });
  },

  clone3(thread, a) {
    const { memory } = thread;
    if (a[1] < CLONE_ARGS_SIZE_FIRST) throw new Errno(E.INVAL);
    memory.readable(a[0], a[1]);
    const field = (index: number): number => memory.getI64(a[0] + index * 8);
    const flags = field(0);
    const stack = field(5);
    return clone(thread, {
      flags: flags | 0,
      clearHandlers: Math.floor(flags / CLONE_CLEAR_SIGHAND) % 2 === 1,
      pidfd: field(1),
      childTid: field(2),
      parentTid: field(3),
      exitSignal: field(4),
      stack: stack === 0 ? 0 : stack + field(6),
      tls: field(7),
    });
  },
});
