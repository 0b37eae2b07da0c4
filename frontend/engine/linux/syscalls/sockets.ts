/** The calls of sockets, but for those that move messages (messages.ts). */

import { E, Errno } from "../errno.ts";
import { O_CLOEXEC, O_NONBLOCK } from "../io/constants.ts";
import * as N from "../io/sockets/numbers.ts";
import { NetlinkSocket } from "../io/sockets/netlink.ts";
import { getOption, setOption } from "../io/sockets/options.ts";
import { Socket } from "../io/sockets/socket.ts";
import { TcpSocket } from "../io/sockets/tcp.ts";
import { UdpSocket } from "../io/sockets/udp.ts";
import { UnixDatagramSocket } from "../io/sockets/unix-datagram.ts";
import { UnixStreamSocket } from "../io/sockets/unix-stream.ts";
import { dropFile } from "../references.ts";
import type { SystemCalls, Task } from "../types.ts";
import { addPair } from "./pipes.ts";

/** `struct sockaddr_storage`. */
const MOST_ADDRESS = 128;
const NETLINK_ROUTE = 0;

export function socketOf(task: Task, fd: number): Socket {
  const file = task.process.files.get(fd);
  if (!(file instanceof Socket)) throw new Errno(E.NOTSOCK);
  return file;
}

export function readAddress(task: Task, at: number, length: number): Uint8Array {
  if (length < 0 || length > MOST_ADDRESS) throw new Errno(E.INVAL);
  return task.memory.readable(at, length).slice();
}

/** Cut to the room at `at`; the whole length goes to `lengthAt`. */
export function writeAddress(task: Task, address: Uint8Array, at: number, lengthAt: number): void {
  const room = task.memory.getI32(lengthAt);
  if (room < 0) throw new Errno(E.INVAL);
  const part = address.subarray(0, room);
  if (part.length > 0) task.memory.writable(at, part.length).set(part);
  task.memory.setU32(lengthAt, address.length);
}

function checkedFlags(type: number): { kind: number; flags: number; cloexec: boolean } {
  if ((type & ~(N.SOCK_TYPE_MASK | O_CLOEXEC | O_NONBLOCK)) !== 0) throw new Errno(E.INVAL);
  return {
    kind: type & N.SOCK_TYPE_MASK,
    flags: type & O_NONBLOCK,
    cloexec: (type & O_CLOEXEC) !== 0,
  };
}

function makeSocket(task: Task, domain: number, kind: number, protocol: number, flags: number): Socket {
  if (kind < 1 || kind > 10) throw new Errno(E.INVAL);
  switch (domain) {
    case N.AF_UNIX:
      if (protocol !== 0 && protocol !== N.AF_UNIX) throw new Errno(E.PROTONOSUPPORT);
      if (kind === N.SOCK_STREAM || kind === N.SOCK_SEQPACKET) {
        return new UnixStreamSocket(task, kind, flags);
      }
      if (kind === N.SOCK_DGRAM || kind === N.SOCK_RAW) return new UnixDatagramSocket(task, flags);
      throw new Errno(E.SOCKTNOSUPPORT);
    case N.AF_INET:
    case N.AF_INET6:
      return makeInet(task, domain, kind, protocol, flags);
    case N.AF_NETLINK:
      if (kind !== N.SOCK_RAW && kind !== N.SOCK_DGRAM) throw new Errno(E.SOCKTNOSUPPORT);
      if (protocol !== NETLINK_ROUTE) throw new Errno(E.PROTONOSUPPORT);
      return new NetlinkSocket(task, kind, flags);
    default:
      throw new Errno(E.AFNOSUPPORT);
  }
}

function makeInet(task: Task, domain: number, kind: number, protocol: number, flags: number): Socket {
  if (kind === N.SOCK_STREAM) {
    if (protocol !== 0 && protocol !== N.IPPROTO_TCP) throw new Errno(E.PROTONOSUPPORT);
    return new TcpSocket(task, domain, flags);
  }
  if (kind === N.SOCK_DGRAM) {
    if (![0, N.IPPROTO_UDP, N.IPPROTO_UDPLITE].includes(protocol)) throw new Errno(E.PROTONOSUPPORT);
    return new UdpSocket(task, domain, flags, protocol === 0 ? N.IPPROTO_UDP : protocol);
  }
  // Raw sockets see nothing here that would not be wrong.
  if (kind === N.SOCK_RAW) throw new Errno(protocol === 0 ? E.PROTONOSUPPORT : E.PERM);
  throw new Errno(E.SOCKTNOSUPPORT);
}

function socketpair(task: Task, domain: number, type: number, protocol: number, at: number): number {
  const { kind, flags, cloexec } = checkedFlags(type);
  task.memory.writable(at, 8);
  const a = makeSocket(task, domain, kind, protocol, flags);
  const b = makeSocket(task, domain, kind, protocol, flags);
  if (a instanceof UnixStreamSocket && b instanceof UnixStreamSocket) a.pairWith(task, b);
  else if (a instanceof UnixDatagramSocket && b instanceof UnixDatagramSocket) a.pairWith(task, b);
  else {
    dropFile(a);
    dropFile(b);
    throw new Errno(E.OPNOTSUPP);
  }
  addPair(task, [a, b], cloexec, at);
  return 0;
}

function accept(task: Task, fd: number, at: number, lengthAt: number, type: number): number {
  const { kind, flags, cloexec } = checkedFlags(type);
  if (kind !== 0) throw new Errno(E.INVAL);
  const listener = socketOf(task, fd);
  const socket = listener.accept(task);
  socket.flags |= flags;
  try {
    if (at !== 0) writeAddress(task, peerOrNone(socket), at, lengthAt);
    return task.process.files.add(socket, cloexec);
  } catch (problem) {
    listener.putBack(socket);
    throw problem;
  }
}

/** Whoever connected may be gone again. */
function peerOrNone(socket: Socket): Uint8Array {
  try {
    return socket.peerName();
  } catch {
    return new Uint8Array(2);
  }
}

function getsockopt(task: Task, a: readonly number[]): number {
  const [fd, level, name, at, lengthAt] = a as [number, number, number, number, number];
  const socket = socketOf(task, fd | 0);
  const room = task.memory.getI32(lengthAt);
  if (room < 0) throw new Errno(E.INVAL);
  const value = getOption(task, socket, level | 0, name | 0).subarray(0, room);
  if (value.length > 0) task.memory.writable(at, value.length).set(value);
  task.memory.setU32(lengthAt, value.length);
  return 0;
}

export const socketCalls: SystemCalls = {
  socket: (task, a) => {
    const { kind, flags, cloexec } = checkedFlags(a[1] | 0);
    return task.process.files.add(makeSocket(task, a[0] | 0, kind, a[2] | 0, flags), cloexec);
  },
  socketpair: (task, a) => socketpair(task, a[0] | 0, a[1] | 0, a[2] | 0, a[3]),
  bind: (task, a) => {
    socketOf(task, a[0] | 0).bind(task, readAddress(task, a[1], a[2] | 0));
    return 0;
  },
  connect: (task, a) => {
    socketOf(task, a[0] | 0).connect(task, readAddress(task, a[1], a[2] | 0));
    return 0;
  },
  listen: (task, a) => {
    socketOf(task, a[0] | 0).listen(task, a[1] | 0);
    return 0;
  },
  accept: (task, a) => accept(task, a[0] | 0, a[1], a[2], 0),
  accept4: (task, a) => accept(task, a[0] | 0, a[1], a[2], a[3] | 0),
  shutdown: (task, a) => {
    socketOf(task, a[0] | 0).shutdown(task, a[1] | 0);
    return 0;
  },
  getsockname: (task, a) => {
    writeAddress(task, socketOf(task, a[0] | 0).localName(), a[1], a[2]);
    return 0;
  },
  getpeername: (task, a) => {
    writeAddress(task, socketOf(task, a[0] | 0).peerName(), a[1], a[2]);
    return 0;
  },
  getsockopt,
  setsockopt: (task, a) => {
    setOption(task, socketOf(task, a[0] | 0), a[1] | 0, a[2] | 0, a[3], a[4] | 0);
    return 0;
  },
};
