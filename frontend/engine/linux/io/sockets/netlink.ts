/** NETLINK_ROUTE, to be asked for links, addresses and routes: there is the loopback, and no more. */

import { E, Errno } from "../../errno.ts";
import { dropFile } from "../../references.ts";
import type { Task } from "../../types.ts";
import { DatagramSocket } from "./datagram.ts";
import { AF_INET, AF_INET6, AF_NETLINK } from "./numbers.ts";
import type { Outgoing } from "./socket.ts";

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_REQUEST = 1;
const NLM_F_MULTI = 2;
const NLM_F_ACK = 4;
const NLM_F_DUMP = 0x300;
const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_GETADDR = 22;
const RTM_GETROUTE = 26;
const HEADER = 16;

const ARPHRD_LOOPBACK = 772;
/** UP, LOOPBACK, RUNNING, LOWER_UP. */
const LINK_FLAGS = 0x10049;
const SCOPE_HOST = 254;
const PERMANENT = 0x80;

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/** An attribute: length, type, value, padded to four bytes. */
function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array((4 + value.length + 3) & ~3);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, 4);
  return bytes;
}

function concat(...parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const LOOPBACK_NAME = Uint8Array.of(0x6c, 0x6f, 0);

function link(): Uint8Array {
  const info = new Uint8Array(16);
  const view = new DataView(info.buffer);
  view.setUint16(2, ARPHRD_LOOPBACK, true);
  view.setInt32(4, 1, true);
  view.setUint32(8, LINK_FLAGS, true);
  return concat(
    info,
    attribute(3, LOOPBACK_NAME),
    attribute(13, u32(1000)), // transmit queue
    attribute(16, Uint8Array.of(0)), // state: unknown
    attribute(4, u32(65536)), // MTU
    attribute(1, new Uint8Array(6)), // address
    attribute(2, new Uint8Array(6)), // broadcast
  );
}

function address(family: number): Uint8Array {
  const host = family === AF_INET ? Uint8Array.of(127, 0, 0, 1) : new Uint8Array(16);
  if (family === AF_INET6) host[15] = 1;
  const prefix = family === AF_INET ? 8 : 128;
  const info = concat(Uint8Array.of(family, prefix, PERMANENT, SCOPE_HOST), u32(1));
  const attributes = [attribute(1, host), attribute(8, u32(PERMANENT))];
  if (family === AF_INET) attributes.splice(1, 0, attribute(2, host), attribute(3, LOOPBACK_NAME));
  return concat(info, ...attributes);
}

export class NetlinkSocket extends DatagramSocket {
  private port = 0;

  constructor(task: Task, type: number, flags = 0) {
    super(task, AF_NETLINK, type, 0, flags);
  }

  override bind(task: Task, name: Uint8Array): void {
    if (name.length < 12) throw new Errno(E.INVAL);
    const view = new DataView(name.buffer, name.byteOffset);
    if (view.getUint16(0, true) !== AF_NETLINK) throw new Errno(E.INVAL);
    this.port = view.getUint32(4, true) || task.process.pid;
  }

  connect(task: Task): void {
    this.port ||= task.process.pid;
  }

  /** Every message in it is a request; the answers are there at once. */
  send(task: Task, message: Outgoing): number {
    const { bytes } = message;
    message.rights.forEach(dropFile);
    this.port ||= task.process.pid;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at + HEADER <= bytes.length;) {
      const length = view.getUint32(at, true);
      if (length < HEADER || at + length > bytes.length) break;
      const type = view.getUint16(at + 4, true);
      const flags = view.getUint16(at + 6, true);
      const sequence = view.getUint32(at + 8, true);
      const family = length > HEADER ? view.getUint8(at + HEADER) : 0;
      if ((flags & NLM_F_REQUEST) !== 0) {
        this.answer(type, flags, sequence, family, bytes.slice(at, at + HEADER));
      }
      at += (length + 3) & ~3;
    }
    return bytes.length;
  }

  private answer(type: number, flags: number, sequence: number, family: number, request: Uint8Array): void {
    const dump = (flags & NLM_F_DUMP) !== 0;
    const found: { type: number; body: Uint8Array }[] = [];
    let error = 0;
    if (type === RTM_GETLINK) {
      found.push({ type: RTM_NEWLINK, body: link() });
    } else if (type === RTM_GETADDR && dump) {
      for (const one of [AF_INET, AF_INET6]) {
        if (family === 0 || family === one) found.push({ type: RTM_NEWADDR, body: address(one) });
      }
    } else if (type !== RTM_GETROUTE || !dump) {
      error = type === RTM_GETROUTE ? E.NETUNREACH : E.OPNOTSUPP;
    }
    const multi = dump ? NLM_F_MULTI : 0;
    if (error === 0) {
      const messages = found.map((one) => this.message(one.type, multi, sequence, one.body));
      if (messages.length > 0) this.give(concat(...messages));
      if (dump) return this.give(this.message(NLMSG_DONE, multi, sequence, u32(0)));
      if ((flags & NLM_F_ACK) === 0) return;
    }
    this.give(this.message(NLMSG_ERROR, 0, sequence, concat(u32(-error), request)));
  }

  private message(type: number, flags: number, sequence: number, body: Uint8Array): Uint8Array {
    const bytes = new Uint8Array((HEADER + body.length + 3) & ~3);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, HEADER + body.length, true);
    view.setUint16(4, type, true);
    view.setUint16(6, flags, true);
    view.setUint32(8, sequence, true);
    view.setUint32(12, this.port, true);
    bytes.set(body, HEADER);
    return bytes;
  }

  private give(bytes: Uint8Array): void {
    this.deliver({ bytes, from: name(0), rights: [], credentials: { pid: 0, uid: 0, gid: 0 } });
  }

  shutdown(): void {
    throw new Errno(E.OPNOTSUPP);
  }

  localName(): Uint8Array {
    return name(this.port);
  }

  peerName(): Uint8Array {
    return name(0);
  }

  override release(): void {
    this.discard();
  }
}

function name(port: number): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(4, port, true);
  return bytes;
}
