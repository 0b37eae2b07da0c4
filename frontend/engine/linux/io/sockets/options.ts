/** getsockopt and setsockopt. Options without an effect on the loopback are kept and told. */

import { E, Errno } from "../../errno.ts";
import type { Task } from "../../types.ts";
import * as N from "./numbers.ts";
import type { Socket } from "./socket.ts";
import { DEFAULT_BUFFER } from "./socket.ts";

const TCP_INFO = 11;
const TCP_CONGESTION = 13;
const SO_BINDTODEVICE = 25;
const SO_PEERGROUPS = 59;
const LEAST_SEND_BUFFER = 4608;
const LEAST_RECEIVE_BUFFER = 2304;

/** Plain numbers: what they are before anybody sets them. */
const PLAIN: Readonly<Record<number, Readonly<Record<number, number>>>> = {
  [N.SOL_SOCKET]: {
    [N.SO_REUSEADDR]: 0,
    5: 0, // DONTROUTE
    [N.SO_BROADCAST]: 0,
    9: 0, // KEEPALIVE
    [N.SO_OOBINLINE]: 0,
    11: 0, // NO_CHECK
    12: 0, // PRIORITY
    [N.SO_REUSEPORT]: 0,
    [N.SO_PASSCRED]: 0,
    [N.SO_RCVLOWAT]: 1,
    29: 0, // TIMESTAMP
    34: 0, // PASSSEC
    35: 0, // TIMESTAMPNS
    36: 0, // MARK
    37: 0, // TIMESTAMPING
    40: 0, // RXQ_OVFL
    42: -1, // PEEK_OFF
    44: 0, // LOCK_FILTER
    46: 0, // BUSY_POLL
    49: -1, // INCOMING_CPU
    60: 0, // ZEROCOPY
  },
  [N.IPPROTO_IP]: {
    1: 0, // TOS
    2: 64, // TTL
    3: 0, // HDRINCL
    6: 0, // RECVOPTS
    8: 0, // PKTINFO
    10: 1, // MTU_DISCOVER
    11: 0, // RECVERR
    12: 0, // RECVTTL
    13: 0, // RECVTOS
    14: 65535, // MTU
    15: 0, // FREEBIND
    19: 0, // TRANSPARENT
    24: 0, // BIND_ADDRESS_NO_PORT
    33: 1, // MULTICAST_TTL
    34: 1, // MULTICAST_LOOP
    49: 1, // MULTICAST_ALL
  },
  [N.IPPROTO_IPV6]: {
    16: 64, // UNICAST_HOPS
    18: 1, // MULTICAST_HOPS
    19: 1, // MULTICAST_LOOP
    23: 1, // MTU_DISCOVER
    24: 65536, // MTU
    25: 0, // RECVERR
    [N.IPV6_V6ONLY]: 0,
    49: 0, // RECVPKTINFO
    51: 0, // RECVHOPLIMIT
    66: 0, // RECVTCLASS
    67: 0, // TCLASS
    78: 0, // FREEBIND
  },
  [N.IPPROTO_TCP]: {
    1: 0, // NODELAY
    2: 32768, // MAXSEG
    3: 0, // CORK
    4: 7200, // KEEPIDLE
    5: 75, // KEEPINTVL
    6: 9, // KEEPCNT
    7: 6, // SYNCNT
    8: 60, // LINGER2
    9: 0, // DEFER_ACCEPT
    12: 1, // QUICKACK
    18: 0, // USER_TIMEOUT
    23: 0, // FASTOPEN
    25: 0, // NOTSENT_LOWAT
    30: 0, // FASTOPEN_CONNECT
  },
  [N.IPPROTO_UDPLITE]: {
    10: 0, // SEND_CSCOV
    11: 0, // RECV_CSCOV
  },
};
/** Kept as 0 or 1. */
const BOOLEANS: Readonly<Record<number, readonly number[]>> = {
  [N.SOL_SOCKET]: [2, 5, 6, 9, 10, 11, 15, 16, 29, 34, 35, 40, 60],
  [N.IPPROTO_TCP]: [1, 3, 12],
  [N.IPPROTO_IPV6]: [25, 26, 49, 51, 66],
};

function mustFit(socket: Socket, level: number): void {
  const inet = socket.domain === N.AF_INET || socket.domain === N.AF_INET6;
  const known =
    level === N.SOL_SOCKET ||
    (level === N.IPPROTO_IP && inet) ||
    (level === N.IPPROTO_IPV6 && socket.domain === N.AF_INET6) ||
    (level === N.IPPROTO_TCP && inet && socket.type === N.SOCK_STREAM) ||
    (level === N.IPPROTO_UDPLITE && socket.protocol === N.IPPROTO_UDPLITE);
  if (known) return;
  throw new Errno(socket.domain === N.AF_UNIX ? E.OPNOTSUPP : E.NOPROTOOPT);
}

export function setOption(
  task: Task,
  socket: Socket,
  level: number,
  name: number,
  at: number,
  length: number,
): void {
  const { memory } = task;
  if (length < 0) throw new Errno(E.INVAL);
  mustFit(socket, level);
  if (level === N.SOL_SOCKET) {
    switch (name) {
      case N.SO_SNDBUF:
      case N.SO_SNDBUFFORCE:
      case N.SO_RCVBUF:
      case N.SO_RCVBUFFORCE:
        return setBuffer(socket, name, intAt(task, at, length));
      case N.SO_LINGER:
        if (length < 8) throw new Errno(E.INVAL);
        socket.linger = { on: memory.getI32(at) === 0 ? 0 : 1, seconds: memory.getI32(at + 4) };
        return;
      case N.SO_RCVTIMEO:
      case N.SO_SNDTIMEO:
      case N.SO_RCVTIMEO_NEW:
      case N.SO_SNDTIMEO_NEW:
        return setTimeout(task, socket, name, at, length);
      case SO_BINDTODEVICE:
        return bindToDevice(task, at, length);
      case 26: // ATTACH_FILTER
      case 27: // DETACH_FILTER
        throw new Errno(E.NOPROTOOPT);
    }
  }
  if (level === N.IPPROTO_TCP && name === TCP_CONGESTION) {
    if (!["cubic", "reno"].includes(textAt(task, at, length))) throw new Errno(E.NOENT);
    return;
  }
  if (PLAIN[level]?.[name] === undefined) throw new Errno(E.NOPROTOOPT);
  // Options of IP may be given as a single byte.
  const value =
    level === N.IPPROTO_IP && length >= 1 && length < 4 ? memory.getU8(at) : intAt(task, at, length);
  const kept = BOOLEANS[level]?.includes(name) === true ? (value === 0 ? 0 : 1) : value;
  socket.options.set(`${level}:${name}`, kept);
}

function intAt(task: Task, at: number, length: number): number {
  if (length < 4) throw new Errno(E.INVAL);
  return task.memory.getI32(at);
}

function textAt(task: Task, at: number, length: number): string {
  return String.fromCharCode(...task.memory.readable(at, Math.min(length, 16))).split("\0")[0]!;
}

/** Linux doubles what is asked for, and has limits of its own. */
function setBuffer(socket: Socket, name: number, asked: number): void {
  const most = name >= N.SO_SNDBUFFORCE ? 0x3fffffff : DEFAULT_BUFFER;
  const value = 2 * Math.min(Math.max(asked, 0), most);
  const send = name === N.SO_SNDBUF || name === N.SO_SNDBUFFORCE;
  const key = `${N.SOL_SOCKET}:${send ? N.SO_SNDBUF : N.SO_RCVBUF}`;
  socket.options.set(key, Math.max(value, send ? LEAST_SEND_BUFFER : LEAST_RECEIVE_BUFFER));
}

function setTimeout(task: Task, socket: Socket, name: number, at: number, length: number): void {
  if (length < 16) throw new Errno(E.INVAL);
  const seconds = task.memory.getI64(at);
  const micros = task.memory.getI64(at + 8);
  if (micros < 0 || micros >= 1e6) throw new Errno(E.DOM);
  const time = Math.max(0, seconds * 1e9 + micros * 1e3);
  if (name === N.SO_RCVTIMEO || name === N.SO_RCVTIMEO_NEW) socket.receiveTimeout = time;
  else socket.sendTimeout = time;
}

/** There is only one device. */
function bindToDevice(task: Task, at: number, length: number): void {
  const name = textAt(task, at, length);
  if (name !== "" && name !== "lo") throw new Errno(E.NODEV);
}

/** The option's bytes; the caller cuts them to the buffer that is there. */
export function getOption(task: Task, socket: Socket, level: number, name: number): Uint8Array {
  mustFit(socket, level);
  if (level === N.SOL_SOCKET) {
    const special = socketOption(socket, name);
    if (special !== undefined) return special;
    if (name === SO_PEERGROUPS) return ints(...task.process.credentials.groups);
  }
  if (level === N.IPPROTO_TCP && name === TCP_CONGESTION) return text("cubic", 16);
  if (level === N.IPPROTO_TCP && name === TCP_INFO) return tcpInfo(socket);
  const initial = PLAIN[level]?.[name];
  if (initial === undefined) throw new Errno(E.NOPROTOOPT);
  return ints(socket.option(level, name, initial));
}

function socketOption(socket: Socket, name: number): Uint8Array | undefined {
  switch (name) {
    case N.SO_TYPE:
      return ints(socket.type);
    case N.SO_DOMAIN:
      return ints(socket.domain);
    case N.SO_PROTOCOL:
      return ints(socket.protocol);
    case N.SO_ACCEPTCONN:
      return ints(socket.listening ? 1 : 0);
    case N.SO_ERROR: {
      const { error } = socket;
      socket.error = 0;
      return ints(error);
    }
    case N.SO_SNDBUF:
      return ints(socket.sendBuffer);
    case N.SO_RCVBUF:
      return ints(socket.receiveBuffer);
    case 19: // SNDLOWAT
      return ints(1);
    case N.SO_LINGER:
      return ints(socket.linger.on, socket.linger.seconds);
    case N.SO_RCVTIMEO:
    case N.SO_RCVTIMEO_NEW:
      return time(socket.receiveTimeout);
    case N.SO_SNDTIMEO:
    case N.SO_SNDTIMEO_NEW:
      return time(socket.sendTimeout);
    case N.SO_PEERCRED: {
      const who = socket.peerCredentials;
      return who === undefined ? ints(0, -1, -1) : ints(who.pid, who.uid, who.gid);
    }
    case SO_BINDTODEVICE:
      return new Uint8Array(0);
    case 57: {
      // COOKIE
      const cookie = new Uint8Array(8);
      new DataView(cookie.buffer).setUint32(0, socket.inode.ino, true);
      return cookie;
    }
    default:
      return undefined;
  }
}

function ints(...values: number[]): Uint8Array {
  return new Uint8Array(Int32Array.from(values).buffer);
}

function time(nanoseconds: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigInt64(0, BigInt(Math.floor(nanoseconds / 1e9)), true);
  view.setBigInt64(8, BigInt(Math.floor((nanoseconds % 1e9) / 1e3)), true);
  return bytes;
}

function text(content: string, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < content.length; i += 1) bytes[i] = content.charCodeAt(i);
  return bytes;
}

/** `struct tcp_info`, of which the state is what programs look at. */
function tcpInfo(socket: Socket): Uint8Array {
  const bytes = new Uint8Array(104);
  const ESTABLISHED = 1;
  const CLOSED = 7;
  const LISTEN = 10;
  let state = CLOSED;
  if (socket.listening) state = LISTEN;
  else if ("state" in socket && socket.state === "connected") state = ESTABLISHED;
  bytes[0] = state;
  return bytes;
}
