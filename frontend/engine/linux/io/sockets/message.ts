/** `struct msghdr` and control messages: what sendmsg and recvmsg pass beside the bytes. */

import { E, Errno } from "../../errno.ts";
import { dropFile, holdFile } from "../../references.ts";
import type { OpenFile, Task } from "../../types.ts";
import { MSG_CMSG_CLOEXEC, MSG_CTRUNC, SCM_CREDENTIALS, SCM_RIGHTS, SOL_SOCKET } from "./numbers.ts";
import type { ControlMessage, Incoming, PeerCredentials } from "./socket.ts";

export const MSGHDR_SIZE = 56;
const HEADER = 16;
/** Bytes of control messages (net.core.optmem_max). */
const MOST_CONTROL = 131072;
/** Descriptors in one message. */
const MOST_RIGHTS = 253;
const MOST_PARTS = 1024;
/** MAX_RW_COUNT. */
const MOST_BYTES = 0x7ffff000;

export interface Part {
  address: number;
  length: number;
}

export interface MessageHeader {
  name: number;
  nameLength: number;
  parts: Part[];
  total: number;
  control: number;
  controlLength: number;
}

export function readParts(task: Task, at: number, count: number): Part[] {
  const { memory } = task;
  if (count > MOST_PARTS) throw new Errno(E.MSGSIZE);
  const parts: Part[] = [];
  let total = 0;
  for (let i = 0; i < count; i += 1) {
    const length = memory.getI64(at + 16 * i + 8);
    if (length < 0) throw new Errno(E.INVAL);
    const fits = Math.min(length, MOST_BYTES - total);
    total += fits;
    parts.push({ address: memory.getI64(at + 16 * i), length: fits });
  }
  return parts;
}

export function readHeader(task: Task, at: number): MessageHeader {
  const { memory } = task;
  memory.readable(at, MSGHDR_SIZE);
  const nameLength = memory.getI32(at + 8);
  if (nameLength < 0) throw new Errno(E.INVAL);
  const parts = readParts(task, memory.getI64(at + 16), memory.getI64(at + 24));
  return {
    name: memory.getI64(at),
    nameLength: Math.min(nameLength, 128),
    parts,
    total: parts.reduce((sum, part) => sum + part.length, 0),
    control: memory.getI64(at + 32),
    controlLength: memory.getI64(at + 40),
  };
}

/** All parts in one piece; one part is not copied. */
export function gather(task: Task, parts: readonly Part[], total: number): Uint8Array {
  const used = parts.filter((part) => part.length > 0);
  if (used.length === 1) return task.memory.readable(used[0]!.address, used[0]!.length);
  const all = new Uint8Array(total);
  let at = 0;
  for (const { address, length } of used) {
    all.set(task.memory.readable(address, length), at);
    at += length;
  }
  return all;
}

/** Writes `bytes` behind the first `offset` bytes of the parts. */
export function scatter(task: Task, parts: readonly Part[], bytes: Uint8Array, offset: number): void {
  let skip = offset;
  let at = 0;
  for (const { address, length } of parts) {
    if (at === bytes.length) return;
    if (skip >= length) {
      skip -= length;
      continue;
    }
    const count = Math.min(length - skip, bytes.length - at);
    task.memory.writable(address + skip, count).set(bytes.subarray(at, at + count));
    at += count;
    skip = 0;
  }
}

export interface Control {
  rights: OpenFile[];
  credentials: PeerCredentials | undefined;
  messages: ControlMessage[];
}

/** Takes control messages apart; the files are held for the message. */
export function readControl(task: Task, at: number, length: number): Control {
  const control: Control = { rights: [], credentials: undefined, messages: [] };
  if (at === 0 || length === 0) return control;
  if (length > MOST_CONTROL) throw new Errno(E.NOBUFS);
  const { memory, process } = task;
  const fds: number[] = [];
  for (let next = 0; next + HEADER <= length;) {
    const size = memory.getI64(at + next);
    if (size < HEADER || size > length - next) throw new Errno(E.INVAL);
    const level = memory.getI32(at + next + 8);
    const type = memory.getI32(at + next + 12);
    const data = at + next + HEADER;
    if (level === SOL_SOCKET && type === SCM_RIGHTS) {
      for (let i = 0; i < (size - HEADER) >>> 2; i += 1) fds.push(memory.getI32(data + 4 * i));
    } else if (level === SOL_SOCKET && type === SCM_CREDENTIALS) {
      if (size !== HEADER + 12) throw new Errno(E.INVAL);
      control.credentials = checkedCredentials(task, data);
    } else if (level === SOL_SOCKET) {
      throw new Errno(E.INVAL);
    } else {
      const bytes = memory.readable(data, size - HEADER).slice();
      control.messages.push({ level, type, bytes });
    }
    next += (size + 7) & ~7;
  }
  if (fds.length > MOST_RIGHTS) throw new Errno(E.INVAL);
  const files = fds.map((fd) => process.files.get(fd));
  control.rights = files.map(holdFile);
  return control;
}

/** Only root may say that it is somebody else. */
function checkedCredentials(task: Task, at: number): PeerCredentials {
  const { memory, process } = task;
  const said = { pid: memory.getI32(at), uid: memory.getU32(at + 4), gid: memory.getU32(at + 8) };
  const { uid, euid, suid, gid, egid, sgid } = process.credentials;
  const honest =
    said.pid === process.pid && [uid, euid, suid].includes(said.uid) && [gid, egid, sgid].includes(said.gid);
  if (!honest && euid !== 0) throw new Errno(E.PERM);
  if (task.process.kernel.process(said.pid) === undefined) throw new Errno(E.SRCH);
  return said;
}

/** Gives control messages to the caller; bytes used of its buffer, and MSG_CTRUNC where it was too small. */
export function writeControl(
  task: Task,
  { rights, credentials, messages = [] }: Incoming,
  at: number,
  room: number,
  flags: number,
): { length: number; flags: number } {
  const { process } = task;
  let used = 0;
  let cut = 0;
  const put = (message: ControlMessage): void => {
    const whole = HEADER + message.bytes.length;
    const size = Math.min(whole, room - used);
    if (size < whole) cut = MSG_CTRUNC;
    if (size < HEADER) return;
    writeMessage(task, at + used, size, message);
    used = Math.min(room, used + ((whole + 7) & ~7));
  };
  if (credentials !== undefined) {
    const { pid, uid, gid } = credentials;
    put({ level: SOL_SOCKET, type: SCM_CREDENTIALS, bytes: words(pid, uid, gid) });
  }
  messages.forEach(put);
  if (rights.length === 0) return { length: used, flags: cut };
  const fits = Math.max(0, Math.min(rights.length, Math.floor((room - used - HEADER) / 4)));
  const fds: number[] = [];
  for (const file of rights.slice(0, fits)) {
    try {
      fds.push(process.files.add(file, (flags & MSG_CMSG_CLOEXEC) !== 0));
    } catch (problem) {
      if (!(problem instanceof Errno)) throw problem;
      break;
    }
  }
  for (const file of rights.slice(fds.length)) dropFile(file);
  if (fds.length < rights.length) cut = MSG_CTRUNC;
  if (fds.length > 0) put({ level: SOL_SOCKET, type: SCM_RIGHTS, bytes: words(...fds) });
  return { length: used, flags: cut };
}

function words(...values: number[]): Uint8Array {
  return new Uint8Array(Int32Array.from(values).buffer);
}

function writeMessage(task: Task, at: number, size: number, { level, type, bytes }: ControlMessage): void {
  const { memory } = task;
  memory.writable(at, size).set(bytes.subarray(0, size - HEADER), HEADER);
  memory.setI64(at, size);
  memory.setU32(at + 8, level);
  memory.setU32(at + 12, type);
}
