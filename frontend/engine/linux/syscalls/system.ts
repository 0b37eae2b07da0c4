/** The machine and its limits: uname, sysinfo, rlimits, prctl, scheduling, and what is refused politely. */

import { E, Errno } from "../errno.ts";
import { RLIMIT_AS, RLIMIT_NOFILE } from "../limits.ts";
import type { ThreadGroup } from "../process.ts";
import { ofThreads, type Thread } from "../task.ts";
import type { ByteString } from "../types.ts";
import { Descriptors } from "../vfs/descriptors.ts";
import { getCapabilities, setCapabilities } from "./capabilities.ts";
import { processBy } from "./identity.ts";

const ARCH_SET_GS = 0x1001;
const ARCH_SET_FS = 0x1002;
const ARCH_GET_FS = 0x1003;
const ARCH_GET_GS = 0x1004;
const ADDRESS_END = 2n ** 47n;
const PER_QUERY = 0xffffffff;
const PRIO_PROCESS = 0;
const PRIO_PGRP = 1;
const PRIO_USER = 2;
const IOPRIO_CLASS_NONE = 0;
const IOPRIO_CLASS_RT = 1;
const IOPRIO_CLASS_IDLE = 3;
const IOPRIO_LEVELS = 8;
const GRND_FLAGS = 7;
const MEMBARRIER_QUERY = 0;
/** GLOBAL, GLOBAL_EXPEDITED and PRIVATE_EXPEDITED with their registrations: one processor needs no barrier. */
const MEMBARRIER_COMMANDS = 0x1f;

/** What uname tells. */
export const RELEASE: ByteString = "6.1.0-webvm";
export const VERSION: ByteString = "#1 SMP Debian 6.1";

function limitIn(thread: Thread, address: number): number {
  const value = thread.memory.getBig(address);
  return value === 2n ** 64n - 1n ? Infinity : Number(value);
}

function limitOut(thread: Thread, address: number, value: number): void {
  if (value === Infinity) thread.memory.setBig(address, 2n ** 64n - 1n);
  else thread.memory.setI64(address, value);
}

function limits(thread: Thread, pid: number, resource: number, from: number, old: number): number {
  const process = processBy(thread, pid);
  const now = process.limits[resource];
  if (now === undefined) throw new Errno(E.INVAL);
  const next = from === 0 ? undefined : { soft: limitIn(thread, from), hard: limitIn(thread, from + 8) };
  if (next !== undefined) {
    if (next.soft > next.hard) throw new Errno(E.INVAL);
    if (next.hard > now.hard && thread.process.credentials.euid !== 0) throw new Errno(E.PERM);
  }
  if (old !== 0) {
    limitOut(thread, old, now.soft);
    limitOut(thread, old + 8, now.hard);
  }
  if (next === undefined) return 0;
  process.limits[resource] = next;
  const { leader } = process;
  if (resource === RLIMIT_NOFILE && process.files instanceof Descriptors) process.files.most = next.soft;
  if (resource === RLIMIT_AS && leader !== undefined) leader.maps.limit = next.soft;
  return 0;
}

function architecture(thread: Thread, code: number, address: number): number {
  const { registers } = thread;
  const base = BigInt.asUintN(64, BigInt(address));
  switch (code) {
    case ARCH_SET_FS:
    case ARCH_SET_GS:
      if (base >= ADDRESS_END) throw new Errno(E.PERM);
      if (code === ARCH_SET_FS) registers.fsBase = base;
      else registers.gsBase = base;
      return 0;
    case ARCH_GET_FS:
      thread.memory.setBig(address, registers.fsBase);
      return 0;
    case ARCH_GET_GS:
      thread.memory.setBig(address, registers.gsBase);
      return 0;
    default:
      throw new Errno(E.INVAL);
  }
}

/** The processes that `which` and `who` name: one, a group's or a user's. */
function named(thread: Thread, which: number, who: number): ThreadGroup[] {
  const { process } = thread;
  if (which === PRIO_PROCESS) return [processBy(thread, who)];
  const all = [...process.kernel.processes()];
  if (which === PRIO_PGRP) return all.filter((each) => each.pgid === (who || process.pgid));
  if (which !== PRIO_USER) throw new Errno(E.INVAL);
  return all.filter((each) => each.credentials.uid === (who || process.credentials.uid));
}

/** ioprio_get and ioprio_set: kept, and nothing waits for it. `which` counts from 1. */
function ioPriority(thread: Thread, which: number, who: number, value: number | undefined): number {
  if (value !== undefined) {
    const [kind, level] = [value >> 13, value & 0x1fff];
    if (kind < 0 || kind > IOPRIO_CLASS_IDLE) throw new Errno(E.INVAL);
    if (kind === IOPRIO_CLASS_NONE ? level !== 0 : level >= IOPRIO_LEVELS) throw new Errno(E.INVAL);
    if (kind === IOPRIO_CLASS_RT && thread.process.credentials.euid !== 0) throw new Errno(E.PERM);
  }
  const targets = named(thread, which - 1, who);
  if (targets.length === 0) throw new Errno(E.SRCH);
  if (value === undefined) {
    // The best one: real-time before the others, and what has none counts as best effort.
    const rank = (each: ThreadGroup): number => each.ioPriority || (2 << 13) | 4;
    return targets.reduce((best, each) => (rank(each) < rank(best) ? each : best)).ioPriority;
  }
  for (const each of targets) each.ioPriority = value;
  return 0;
}

function priority(thread: Thread, which: number, who: number, nice: number | undefined): number {
  const { process } = thread;
  const targets = named(thread, which, who);
  if (targets.length === 0) throw new Errno(E.SRCH);
  if (nice === undefined) return 20 - Math.min(...targets.map((each) => each.nice));
  const value = Math.max(-20, Math.min(19, nice));
  for (const each of targets) {
    if (value < each.nice && process.credentials.euid !== 0) throw new Errno(E.ACCES);
    each.nice = value;
  }
  return 0;
}

function putName(thread: Thread, address: number, values: readonly ByteString[]): void {
  const bytes = thread.memory.writable(address, 65 * values.length);
  bytes.fill(0);
  values.forEach((value, index) => {
    for (let at = 0; at < Math.min(value.length, 64); at += 1) bytes[index * 65 + at] = value.charCodeAt(at);
  });
}

function hostName(thread: Thread, address: number, length: number): ByteString {
  if (thread.process.credentials.euid !== 0) throw new Errno(E.PERM);
  if (length < 0 || length > 64) throw new Errno(E.INVAL);
  return String.fromCharCode(...thread.memory.readable(address, length));
}

export const systemCalls = ofThreads({
  uname(thread, a) {
    const { hostname, domainname } = thread.process.kernel;
    putName(thread, a[0], ["Linux", hostname, RELEASE, VERSION, "x86_64", domainname]);
    return 0;
  },

  sethostname(thread, a) {
    thread.process.kernel.hostname = hostName(thread, a[0], a[1] | 0);
    return 0;
  },

  setdomainname(thread, a) {
    thread.process.kernel.domainname = hostName(thread, a[0], a[1] | 0);
    return 0;
  },

  sysinfo(thread, a) {
    const { kernel } = thread.process;
    const { memory } = thread;
    memory.writable(a[0], 112).fill(0);
    memory.setI64(a[0], Math.floor(kernel.monotonic() / 1e9));
    // Fixed point with 16 bits behind it.
    kernel.scheduler.load.at(kernel.monotonic()).forEach((average, index) => {
      memory.setI64(a[0] + 8 * (index + 1), Math.round(average * 65536));
    });
    memory.setI64(a[0] + 32, kernel.pages.most * 4096);
    memory.setI64(a[0] + 40, (kernel.pages.most - kernel.pages.pages) * 4096);
    memory.setU16(a[0] + 80, [...kernel.processes()].length);
    memory.setU32(a[0] + 104, 1);
    return 0;
  },

  getrandom(thread, a) {
    if ((a[2] & ~GRND_FLAGS) !== 0) throw new Errno(E.INVAL);
    const length = Math.min(a[1], 32 * 1024 * 1024);
    const into = thread.memory.writable(a[0], length);
    thread.process.kernel.random(into);
    return length;
  },

  getrlimit: (thread, a) => limits(thread, 0, a[0] | 0, 0, a[1]),
  setrlimit: (thread, a) => limits(thread, 0, a[0] | 0, a[1], 0),
  prlimit64: (thread, a) => limits(thread, a[0] | 0, a[1] | 0, a[2], a[3]),

  arch_prctl: (thread, a) => architecture(thread, a[0] | 0, a[1]),
  capget: (thread, a) => getCapabilities(thread, a[0], a[1]),
  capset: (thread, a) => setCapabilities(thread, a[0], a[1]),
  getpriority: (thread, a) => priority(thread, a[0] | 0, a[1] | 0, undefined),
  setpriority: (thread, a) => priority(thread, a[0] | 0, a[1] | 0, a[2] | 0),

  personality(thread, a) {
    const { process } = thread;
    const old = process.personality;
    if (a[0] >>> 0 !== PER_QUERY) process.personality = a[0] >>> 0;
    return old;
  },

  membarrier(_thread, a) {
    const command = a[0] | 0;
    if (command === MEMBARRIER_QUERY) return MEMBARRIER_COMMANDS;
    if ((command & MEMBARRIER_COMMANDS) === 0) throw new Errno(E.INVAL);
    return 0;
  },

  getcpu(thread, a) {
    if (a[0] !== 0) thread.memory.setU32(a[0], 0);
    if (a[1] !== 0) thread.memory.setU32(a[1], 0);
    return 0;
  },

  kcmp(thread, a) {
    const [first, second] = [processBy(thread, a[0] | 0), processBy(thread, a[1] | 0)];
    if ((a[2] | 0) !== 0) throw new Errno(E.OPNOTSUPP);
    const [left, right] = [first.files.get(a[3] | 0), second.files.get(a[4] | 0)];
    return left === right ? 0 : 3;
  },

  ioprio_get: (thread, a) => ioPriority(thread, a[0] | 0, a[1] | 0, undefined),
  ioprio_set: (thread, a) => ioPriority(thread, a[0] | 0, a[1] | 0, a[2] | 0),
  // Asked for and refused as a kernel does that has it not, or allows it nobody.
  rseq: () => -E.NOSYS,
  ptrace: () => -E.PERM,
  seccomp: () => -E.INVAL,
  bpf: () => -E.PERM,
  perf_event_open: () => -E.ACCES,
  userfaultfd: () => -E.PERM,
  unshare: () => -E.PERM,
  setns: () => -E.PERM,
  reboot: () => -E.PERM,
  acct: () => -E.NOSYS,
  init_module: () => -E.PERM,
  finit_module: () => -E.PERM,
  delete_module: () => -E.PERM,
  kexec_load: () => -E.PERM,
  iopl: () => -E.PERM,
  ioperm: () => -E.PERM,
  io_uring_setup: () => -E.NOSYS,
  io_setup: () => -E.NOSYS,
  get_mempolicy: () => -E.NOSYS,
  set_mempolicy: () => -E.NOSYS,
  mbind: () => -E.NOSYS,
  migrate_pages: () => -E.NOSYS,
  move_pages: () => -E.NOSYS,
  modify_ldt: () => -E.NOSYS,
  process_vm_readv: () => -E.PERM,
  process_vm_writev: () => -E.PERM,
  fanotify_init: () => -E.PERM,
  swapon: () => -E.PERM,
  swapoff: () => -E.PERM,
  restart_syscall: () => -E.INTR,
  futex_waitv: () => -E.NOSYS,
  pkey_alloc: () => -E.NOSYS,
  landlock_create_ruleset: () => -E.OPNOTSUPP,
  add_key: () => -E.NOSYS,
  request_key: () => -E.NOSYS,
  keyctl: () => -E.NOSYS,
});
