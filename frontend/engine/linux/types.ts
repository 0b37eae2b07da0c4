/**
 * What the parts of the Linux layer know of each other. Names of files are byte strings: one character (0 to 255) for each
 * byte, because a name need not be UTF-8. Times are numbers of nanoseconds (a double is exact to 2^53 ns, 104 days: monotonic) or `Time`.
 */

import type { Pipe } from "./io/pipe.ts";
import type { WaitQueue } from "./wait.ts";

export type ByteString = string;

/** Seconds since 1970 and nanoseconds: what a file's times need. */
export interface Time {
  seconds: number;
  nanoseconds: number;
}

export interface Credentials {
  uid: number;
  euid: number;
  suid: number;
  fsuid: number;
  gid: number;
  egid: number;
  sgid: number;
  fsgid: number;
  groups: number[];
  /** Where they are not what the user has by being root or not. Never changed, only replaced. */
  capabilities?: Capabilities | undefined;
}

/** Sets of capabilities(7), a bit for each. */
export interface Capabilities {
  effective: bigint;
  permitted: bigint;
  inheritable: bigint;
  ambient: bigint;
  bounding: bigint;
  /** PR_SET_KEEPCAPS. */
  kept: boolean;
}

/** As of `struct stat`; sizes in bytes, `blocks` of 512 bytes. */
export interface Stat {
  dev: number;
  ino: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  size: number;
  blksize: number;
  blocks: number;
  atime: Time;
  mtime: Time;
  ctime: Time;
}

/**
 * The memory of a process, for system calls. All throw `Errno` EFAULT for what the process may not touch and `Block` for a page that is still
 * on its way from a disk. Views are valid until the call ends or memory grows, whichever is first.
 */
export interface UserMemory {
  /** A view for reading. */
  readable(address: number, length: number): Uint8Array;
  /** A view that will be written now: pages become dirty. */
  writable(address: number, length: number): Uint8Array;
  getU8(address: number): number;
  getU16(address: number): number;
  getU32(address: number): number;
  getI32(address: number): number;
  /** Signed; exact up to 2^53. */
  getI64(address: number): number;
  setU8(address: number, value: number): void;
  setU16(address: number, value: number): void;
  setU32(address: number, value: number): void;
  /** A number, negative or up to 2^53, as 64 bits. */
  setI64(address: number, value: number): void;
  /** A NUL-terminated string of at most `most` bytes; longer: ENAMETOOLONG. */
  string(address: number, most?: number): ByteString;
}

/** What a descriptor refers to (an open file description). Shared by dup and fork; `release` when the last descriptor is closed. */
export interface OpenFile {
  /** O_* status flags (O_NONBLOCK, O_APPEND, access mode). */
  flags: number;
  offset: number;
  /** How many hold it, 1 at first; only linux/references.ts changes it. 0: released. */
  references: number;
  /** Bytes read, 0 at the end. `position` null: at `offset`, which moves. Throws `Block` (or EAGAIN with O_NONBLOCK). */
  read(task: Task, into: Uint8Array, position: number | null): number;
  write(task: Task, from: Uint8Array, position: number | null): number;
  /** POLL* bits that hold now. */
  poll(task: Task): number;
  /** Woken whenever `poll` may have changed. */
  readonly pollQueue: WaitQueue;
  ioctl(task: Task, request: number, argument: number): number;
  /** The inode behind it; for pipes and sockets one of their own pseudo file system. */
  readonly inode: Inode;
  /** The path walked to it, as /proc/self/fd shows it. */
  readonly name: ByteString;
  /** Devices only: lseek answers 0 instead of ESPIPE. */
  readonly seekable?: boolean;
  release(): void;
}

export interface Descriptor {
  file: OpenFile;
  closeOnExec: boolean;
}

/** One file of a file system. `vfs/` has the whole interface (`FsInode`); this is what others need. */
export interface Inode {
  readonly ino: number;
  stat(): Stat;
  /**
   * A page of a regular file's content for a mapping: 4096 bytes, zeros behind the end; the file's cache itself, so that who
   * maps it shared sees writes. Throws `Block` while it is on its way.
   */
  page(index: number): Uint8Array;
  /** Grows whenever the content changes by anything but a shared mapping; pages mapped before are then read anew. */
  readonly version: number;
  /** A shared mapping has written that page. */
  pageDirtied(index: number): void;
  /** A mapping holds it: it must live on though its last name is removed. */
  hold(): void;
  drop(): void;
}

/** Calling thread, as system calls see it. */
export interface Task {
  readonly tid: number;
  readonly process: Process;
  readonly memory: UserMemory;
  /**
   * What has to survive until the call that blocked is made again; undefined at a call's first attempt. Plain data: it is
   * saved with the machine. The scheduler clears it when a call ends.
   */
  restart: Restart | undefined;
  /** Whether an unblocked signal is pending: a call that has moved some bytes ends with what it has. */
  readonly signalPending: boolean;
  /**
   * A signal mask (bit n - 1 is signal n) for as long as this call takes, as ppoll has it: call it at every attempt; it
   * works at the first one. The mask before comes back when the call ends, or after the handler that interrupts it.
   */
  temporaryMask(mask: bigint): void;
}

export interface Restart {
  /** Monotonic nanoseconds. */
  deadline?: number;
  /** Bytes, or whatever the call counts, that are done. */
  done?: number;
  [name: string]: number | string | undefined;
}

/** A thread group. */
export interface Process {
  readonly pid: number;
  readonly parent: Process | undefined;
  pgid: number;
  sid: number;
  /** Shared between processes only by clone(CLONE_FILES). */
  files: FileTable;
  /** Shared by clone(CLONE_FS). */
  fs: FileSystemContext;
  credentials: Credentials;
  readonly kernel: Kernel;
  /** Soft limit: RLIMIT_* of linux/limits.ts; Infinity for none. */
  limit(resource: number): number;
  readonly session: Session;
}

/** What setsid begins. */
export interface Session {
  readonly sid: number;
  /** Its controlling terminal. */
  terminal: ControllingTerminal | undefined;
}

export interface ControllingTerminal {
  /** The session's leader has ended: SIGHUP to the foreground, and the terminal is free again. */
  sessionEnded(session: Session): void;
  /** For /dev/tty and /proc. */
  readonly device: number;
}

export interface FileTable {
  /** Throws EBADF. */
  get(fd: number): OpenFile;
  /** The lowest free number from `from` on; EMFILE beyond RLIMIT_NOFILE. Takes over the caller's reference. */
  add(file: OpenFile, closeOnExec: boolean, from?: number): number;
  close(fd: number): void;
  /** For fork: the same descriptions, counted once more. */
  copy(): FileTable;
  /** At execve. */
  closeOnExec(): void;
  /** When the last process that uses it has ended. */
  closeAll(): void;
}

/** Where names begin. The two are `Location`s of vfs/. */
export interface FileSystemContext {
  cwd: unknown;
  root: unknown;
  umask: number;
  /** For fork. */
  copy(): FileSystemContext;
}

export interface Kernel {
  /** Nanoseconds since the machine began; stands still while it is saved. */
  monotonic(): number;
  realtime(): Time;
  /** Cryptographically random. */
  random(into: Uint8Array): void;
  /** Sends a signal to a process group (terminals). */
  signalGroup(pgid: number, signal: number): void;
  signalProcess(process: Process, signal: number): void;
  processes(): Iterable<Process>;
  process(pid: number): Process | undefined;
  /** Calls `queue.wake()` at that monotonic time. */
  wakeAt(time: number, queue: WaitQueue): void;
  log(message: string): void;
  /** The last number of a pipe, a socket or the like. */
  lastInode: number;
  /** Pipes behind FIFOs that are open, by inode. */
  readonly fifos: Map<string, Pipe>;
  /** Whether no process of the group has its parent in another group of its session: terminal reads fail with EIO then. */
  groupIsOrphaned(pgid: number): boolean;
  /** Whether that task blocks or ignores the signal (SIGTTIN, SIGTTOU). */
  signalIgnored(task: Task, signal: number): boolean;
}

/** Arguments of a system call as signed numbers, exact up to 2^53; an int is `a[0] | 0`, a pointer `a[1]`. */
export type Arguments = readonly [number, number, number, number, number, number];
/** Returns what goes into rax (an error is thrown as `Errno`). */
export type SystemCall = (task: Task, a: Arguments) => number;
/** By Linux's name; numbers are in syscalls/numbers.ts. */
export type SystemCalls = Record<string, SystemCall>;
