/** Who a process is: numbers, groups, sessions, users. */

import { afterFileUserChange, afterUserChange, can, CAP_SETGID, CAP_SETUID } from "../capabilities.ts";
import { E, Errno } from "../errno.ts";
import type { ThreadGroup } from "../process.ts";
import { ofThreads, type Thread } from "../task.ts";
import type { Credentials } from "../types.ts";

const GROUPS_AT_MOST = 65536;

/** The process with that number or with a thread that has it, or the caller for 0. ESRCH. */
export function processBy(thread: Thread, pid: number): ThreadGroup {
  const { kernel } = thread.process;
  const process = pid === 0 ? thread.process : (kernel.process(pid) ?? kernel.threads.get(pid)?.process);
  if (process === undefined) throw new Errno(E.SRCH);
  return process;
}

function setProcessGroup(thread: Thread, pid: number, pgid: number): number {
  const { process, process: { kernel } } = thread; // prettier-ignore
  if (pgid < 0) throw new Errno(E.INVAL);
  const target = processBy(thread, pid);
  if (pid !== 0 && target.pid !== pid) throw new Errno(E.INVAL);
  if (target !== process && target.parent !== process) throw new Errno(E.SRCH);
  if (target !== process && target.hasExecuted) throw new Errno(E.ACCES);
  if (target.session !== process.session || target.sid === target.pid) throw new Errno(E.PERM);
  const group = pgid === 0 ? target.pid : pgid;
  if (group !== target.pid) {
    const members = [...kernel.group(group)];
    if (!members.some((member) => member.session === target.session)) throw new Errno(E.PERM);
  }
  target.pgid = group;
  return 0;
}

function setSession(thread: Thread): number {
  const { process } = thread;
  const { kernel, pid } = process;
  if ([...kernel.group(pid)].length > 0) throw new Errno(E.PERM);
  process.session = kernel.session(pid);
  process.session.terminal = undefined;
  process.pgid = pid;
  return pid;
}

function id(value: number): number | undefined {
  return (value | 0) === -1 ? undefined : value >>> 0;
}

type Kind = "u" | "g";

function isPrivileged(thread: Thread, kind: Kind): boolean {
  return can(thread.process.credentials, kind === "u" ? CAP_SETUID : CAP_SETGID);
}

function become(thread: Thread, next: Credentials): void {
  thread.process.credentials = afterUserChange(thread.process.credentials, next);
}

function setOne(thread: Thread, kind: Kind, value: number): number {
  const next = { ...thread.process.credentials };
  const real = `${kind}id` as const;
  const effective = `e${kind}id` as const;
  const saved = `s${kind}id` as const;
  if (isPrivileged(thread, kind)) next[real] = next[saved] = value;
  else if (value !== next[real] && value !== next[saved]) throw new Errno(E.PERM);
  next[effective] = next[`fs${kind}id`] = value;
  become(thread, next);
  return 0;
}

function setPair(thread: Thread, kind: Kind, real?: number, effective?: number): number {
  const now = thread.process.credentials;
  const next = { ...now };
  const own = [now[`${kind}id`], now[`e${kind}id`]];
  if (!isPrivileged(thread, kind)) {
    if (real !== undefined && !own.includes(real)) throw new Errno(E.PERM);
    if (effective !== undefined && ![...own, now[`s${kind}id`]].includes(effective)) throw new Errno(E.PERM);
  }
  if (real !== undefined) next[`${kind}id`] = real;
  if (effective !== undefined) next[`e${kind}id`] = effective;
  if (real !== undefined || (effective !== undefined && effective !== now[`${kind}id`])) {
    next[`s${kind}id`] = next[`e${kind}id`];
  }
  next[`fs${kind}id`] = next[`e${kind}id`];
  become(thread, next);
  return 0;
}

function setTriple(thread: Thread, kind: Kind, values: readonly (number | undefined)[]): number {
  const now = thread.process.credentials;
  const own = [now[`${kind}id`], now[`e${kind}id`], now[`s${kind}id`]];
  const refused = values.some((value) => value !== undefined && !own.includes(value));
  if (!isPrivileged(thread, kind) && refused) throw new Errno(E.PERM);
  const next = { ...now };
  next[`${kind}id`] = values[0] ?? next[`${kind}id`];
  next[`e${kind}id`] = values[1] ?? next[`e${kind}id`];
  next[`s${kind}id`] = values[2] ?? next[`s${kind}id`];
  next[`fs${kind}id`] = next[`e${kind}id`];
  become(thread, next);
  return 0;
}

function getTriple(thread: Thread, kind: Kind, addresses: readonly number[]): number {
  const now = thread.process.credentials;
  [now[`${kind}id`], now[`e${kind}id`], now[`s${kind}id`]].forEach((value, index) => {
    thread.memory.setU32(addresses[index]!, value);
  });
  return 0;
}

/** Returns what it was; changes nothing when not allowed. */
function setFileId(thread: Thread, kind: Kind, value: number): number {
  const now = thread.process.credentials;
  const old = now[`fs${kind}id`];
  const own = [now[`${kind}id`], now[`e${kind}id`], now[`s${kind}id`], old];
  if (isPrivileged(thread, kind) || own.includes(value)) {
    thread.process.credentials = afterFileUserChange(now, { ...now, [`fs${kind}id`]: value });
  }
  return old;
}

export const identityCalls = ofThreads({
  getpid: ({ process }) => process.pid,
  // Whoever has no parent here was started from outside.
  getppid: ({ process }) => process.parent?.pid ?? (process.pid === 1 ? 0 : 1),
  gettid: ({ tid }) => tid,
  getuid: ({ process }) => process.credentials.uid,
  geteuid: ({ process }) => process.credentials.euid,
  getgid: ({ process }) => process.credentials.gid,
  getegid: ({ process }) => process.credentials.egid,
  getpgrp: ({ process }) => process.pgid,
  getpgid: (thread, a) => processBy(thread, a[0] | 0).pgid,
  getsid: (thread, a) => processBy(thread, a[0] | 0).sid,
  setpgid: (thread, a) => setProcessGroup(thread, a[0] | 0, a[1] | 0),
  setsid: (thread) => setSession(thread),

  setuid: (thread, a) => setOne(thread, "u", a[0] >>> 0),
  setgid: (thread, a) => setOne(thread, "g", a[0] >>> 0),
  setreuid: (thread, a) => setPair(thread, "u", id(a[0]), id(a[1])),
  setregid: (thread, a) => setPair(thread, "g", id(a[0]), id(a[1])),
  setresuid: (thread, a) => setTriple(thread, "u", [id(a[0]), id(a[1]), id(a[2])]),
  setresgid: (thread, a) => setTriple(thread, "g", [id(a[0]), id(a[1]), id(a[2])]),
  getresuid: (thread, a) => getTriple(thread, "u", a),
  getresgid: (thread, a) => getTriple(thread, "g", a),
  setfsuid: (thread, a) => setFileId(thread, "u", a[0] >>> 0),
  setfsgid: (thread, a) => setFileId(thread, "g", a[0] >>> 0),

  getgroups(thread, a) {
    const { groups } = thread.process.credentials;
    const room = a[0] | 0;
    if (room < 0 || (room > 0 && room < groups.length)) throw new Errno(E.INVAL);
    if (room > 0) groups.forEach((group, index) => thread.memory.setU32(a[1] + index * 4, group));
    return groups.length;
  },

  setgroups(thread, a) {
    const count = a[0] | 0;
    if (!isPrivileged(thread, "g")) throw new Errno(E.PERM);
    if (count < 0 || count > GROUPS_AT_MOST) throw new Errno(E.INVAL);
    const groups = Array.from({ length: count }, (_, index) => thread.memory.getU32(a[1] + index * 4));
    thread.process.credentials = { ...thread.process.credentials, groups };
    return 0;
  },
});
