/** sendto, sendmsg, recvfrom, recvmsg and their many-message forms. */

import { E, Errno } from "../errno.ts";
import { takeProgress } from "../io/pseudo.ts";
import {
  MSGHDR_SIZE,
  type MessageHeader,
  gather,
  readControl,
  readHeader,
  scatter,
  writeControl,
} from "../io/sockets/message.ts";
import * as N from "../io/sockets/numbers.ts";
import type { Incoming, Socket } from "../io/sockets/socket.ts";
import { dropFile } from "../references.ts";
import type { SystemCalls, Task } from "../types.ts";
import { Block } from "../wait.ts";
import { readTimespec } from "./polling.ts";
import { readAddress, socketOf, writeAddress } from "./sockets.ts";

/** `struct mmsghdr`: a msghdr and the bytes moved. */
const MMSGHDR_SIZE = 64;
const MOST_MESSAGES = 1024;

function sendMessage(task: Task, socket: Socket, header: MessageHeader, flags: number): number {
  const bytes = gather(task, header.parts, header.total);
  const { name, nameLength } = header;
  const address = name === 0 || nameLength === 0 ? undefined : readAddress(task, name, nameLength);
  const control = readControl(task, header.control, header.controlLength);
  return socket.send(task, { bytes, address, ...control, flags });
}

/** With MSG_WAITALL a stream goes on until all is there, its end has come, or a signal. */
function receiveAll(
  task: Task,
  socket: Socket,
  parts: MessageHeader["parts"],
  total: number,
  flags: number,
): Incoming & { done: number } {
  const stream = socket.type === N.SOCK_STREAM;
  const all = stream && (flags & N.MSG_WAITALL) !== 0 && (flags & N.MSG_PEEK) === 0;
  let done = all ? takeProgress(task) : 0;
  let last: Incoming | undefined;
  try {
    do {
      last = socket.receive(task, total - done, flags);
      scatter(task, parts, last.bytes, done);
      done += last.bytes.length;
    } while (all && done < total && last.bytes.length > 0 && last.rights.length === 0);
  } catch (problem) {
    if (done > 0 && (problem instanceof Errno || (problem instanceof Block && task.signalPending))) {
      return { ...(last ?? EMPTY), done };
    }
    if (problem instanceof Block && done > 0) task.restart = { ...task.restart, done };
    throw problem;
  }
  return { ...last, done };
}

const EMPTY: Incoming = {
  bytes: new Uint8Array(0),
  length: 0,
  address: undefined,
  rights: [],
  credentials: undefined,
  flags: 0,
};

/** What a call returns: MSG_TRUNC asks for a datagram's whole length. */
function resultOf(received: Incoming & { done: number }, socket: Socket, flags: number): number {
  const whole = (flags & N.MSG_TRUNC) !== 0 && socket.type !== N.SOCK_STREAM;
  return whole ? received.length : received.done;
}

function receiveMessage(task: Task, socket: Socket, at: number, flags: number): number {
  const { memory } = task;
  const header = readHeader(task, at);
  memory.writable(at, MSGHDR_SIZE);
  const received = receiveAll(task, socket, header.parts, header.total, flags);
  const room = header.control === 0 ? 0 : header.controlLength;
  const control = writeControl(task, received, header.control, room, flags);
  if (header.name !== 0) {
    const address = received.address ?? new Uint8Array(0);
    const part = address.subarray(0, header.nameLength);
    if (part.length > 0) memory.writable(header.name, part.length).set(part);
    memory.setU32(at + 8, address.length);
  }
  memory.setI64(at + 40, control.length);
  memory.setU32(at + 48, received.flags | control.flags | (flags & N.MSG_CMSG_CLOEXEC));
  return resultOf(received, socket, flags);
}

function recvfrom(task: Task, a: readonly number[]): number {
  const [fd, at, length, flags, name, nameLength] = a as [number, number, number, number, number, number];
  const socket = socketOf(task, fd | 0);
  const total = Math.min(length, 0x7ffff000);
  const parts = [{ address: at, length: total }];
  const received = receiveAll(task, socket, parts, total, flags | 0);
  received.rights.forEach(dropFile);
  if (name !== 0 && received.address !== undefined) writeAddress(task, received.address, name, nameLength);
  else if (name !== 0) task.memory.setU32(nameLength, 0);
  return resultOf(received, socket, flags | 0);
}

function sendto(task: Task, a: readonly number[]): number {
  const [fd, at, length, flags, name, nameLength] = a as [number, number, number, number, number, number];
  const socket = socketOf(task, fd | 0);
  const bytes = task.memory.readable(at, Math.min(length, 0x7ffff000));
  const address = name === 0 ? undefined : readAddress(task, name, nameLength | 0);
  return socket.send(task, { bytes, address, rights: [], credentials: undefined, flags: flags | 0 });
}

/** Messages one after the other; an error behind the first one ends it with the number of those that went. */
function many(task: Task, count: number, move: (index: number) => void, waitForOne: boolean): number {
  const most = Math.min(count >>> 0, MOST_MESSAGES);
  let done = task.restart?.["messages"] === undefined ? 0 : Number(task.restart["messages"]);
  for (; done < most; done += 1) {
    try {
      move(done);
    } catch (problem) {
      if (done > 0 && (problem instanceof Errno || waitForOne || task.signalPending)) return done;
      if (problem instanceof Block && done > 0) task.restart = { ...task.restart, messages: done };
      throw problem;
    }
  }
  return done;
}

export const messageCalls: SystemCalls = {
  sendto,
  recvfrom,
  sendmsg: (task, a) => sendMessage(task, socketOf(task, a[0] | 0), readHeader(task, a[1]), a[2] | 0),
  recvmsg: (task, a) => receiveMessage(task, socketOf(task, a[0] | 0), a[1], a[2] | 0),
  sendmmsg: (task, a) => {
    const socket = socketOf(task, a[0] | 0);
    const send = (i: number): void => {
      const at = a[1] + i * MMSGHDR_SIZE;
      const sent = sendMessage(task, socket, readHeader(task, at), a[3] | 0);
      task.memory.setU32(at + MSGHDR_SIZE, sent);
    };
    return many(task, a[2], send, false);
  },
  recvmmsg: (task, a) => {
    const socket = socketOf(task, a[0] | 0);
    const { kernel } = task.process;
    const timeout = readTimespec(task.memory, a[4]);
    // As on Linux, the time is looked at between messages only.
    const until = timeout === undefined ? Infinity : kernel.monotonic() + timeout;
    const waitForOne = (a[3] & N.MSG_WAITFORONE) !== 0;
    const receive = (i: number): void => {
      const at = a[1] + i * MMSGHDR_SIZE;
      if (i > 0 && kernel.monotonic() >= until) throw new Errno(E.AGAIN);
      const flags = (a[3] & ~N.MSG_WAITFORONE) | (waitForOne && i > 0 ? N.MSG_DONTWAIT : 0);
      task.memory.setU32(at + MSGHDR_SIZE, receiveMessage(task, socket, at, flags));
    };
    return many(task, a[2], receive, false);
  },
};
