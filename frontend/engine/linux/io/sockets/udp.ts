/** UDP and UDP-Lite on the loopback, where no checksum is ever wrong. */

import { E, Errno } from "../../errno.ts";
import { dropFile } from "../../references.ts";
import type { Task } from "../../types.ts";
import { ioMachine } from "../machine.ts";
import { DatagramSocket } from "./datagram.ts";
import {
  ANY4,
  ANY6,
  type InetAddress,
  formatInet,
  isAny,
  isLocal,
  parseInet,
  route,
  sourceFor,
} from "./inet-address.ts";
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  IPPROTO_UDP,
  MSG_OOB,
  SHUT_RD,
  SHUT_WR,
  SOCK_DGRAM,
} from "./numbers.ts";
import { type PacketHeader, headerMessages, headerOf, packetWishes } from "./packet-control.ts";
import type { Ports } from "./ports.ts";
import type { Incoming, Outgoing } from "./socket.ts";

const MOST_BYTES = 65507;

export class UdpSocket extends DatagramSocket {
  private readonly ports: Ports;
  private local: InetAddress | undefined;
  private remote: InetAddress | undefined;

  constructor(task: Task, domain: number, flags = 0, protocol = IPPROTO_UDP) {
    super(task, domain, SOCK_DGRAM, protocol, flags);
    this.ports = ioMachine(task.process.kernel).udp;
  }

  private get any(): string {
    return this.domain === AF_INET ? ANY4 : ANY6;
  }

  /** For /proc/net. */
  get ends(): { local: InetAddress | undefined; remote: InetAddress | undefined } {
    return { local: this.local, remote: this.remote };
  }

  override bind(task: Task, address: Uint8Array): void {
    if (this.local !== undefined) throw new Errno(E.INVAL);
    const wanted = parseInet(address, this.domain);
    if (!isLocal(wanted.host)) throw new Errno(E.ADDRNOTAVAIL);
    this.local = { host: wanted.host, port: this.ports.bind(task, this, wanted) };
  }

  private bindAnywhere(task: Task): InetAddress {
    if (this.local === undefined) {
      const wanted = { host: this.any, port: 0 };
      this.local = { host: this.any, port: this.ports.bind(task, this, wanted) };
    }
    return this.local;
  }

  connect(task: Task, address: Uint8Array): void {
    if (address.length >= 2 && address[0] === AF_UNSPEC && address[1] === 0) {
      this.remote = undefined;
      return;
    }
    const wanted = parseInet(address, this.domain);
    const remote = { host: route(wanted.host), port: wanted.port };
    const local = this.bindAnywhere(task);
    // Found by its port number alone from now on, with what it is connected to (`takes`).
    if (isAny(local.host)) this.local = { host: sourceFor(remote.host), port: local.port };
    this.remote = remote;
  }

  send(task: Task, message: Outgoing): number {
    const { bytes, address, flags, messages = [] } = message;
    message.rights.forEach(dropFile);
    if ((flags & MSG_OOB) !== 0) throw new Errno(E.OPNOTSUPP);
    if (bytes.length > MOST_BYTES) throw new Errno(E.MSGSIZE);
    this.throwError();
    if (this.writeShut) this.brokenPipe(task, flags);
    let to = this.remote;
    if (address !== undefined) {
      const wanted = parseInet(address, this.domain);
      if (wanted.port === 0) throw new Errno(E.INVAL);
      to = { host: route(wanted.host), port: wanted.port };
    }
    if (to === undefined) throw new Errno(E.DESTADDRREQ);
    const wishes = packetWishes(messages, to.host.length === 8 ? AF_INET : AF_INET6);
    const local = this.bindAnywhere(task);
    const host = wishes.source ?? (isAny(local.host) ? sourceFor(to.host) : local.host);
    const from = { host, port: local.port };
    const receiver = this.ports.find(to, (socket) => (socket as UdpSocket).takes(from, this.protocol));
    if (receiver === undefined) {
      // What an ICMP message would tell a connected socket.
      if (this.remote !== undefined) this.error = E.CONNREFUSED;
      this.pollQueue.wake();
      return bytes.length;
    }
    (receiver as UdpSocket).arrived(bytes, from, headerOf(this, wishes, to.host));
    return bytes.length;
  }

  private takes(from: InetAddress, protocol: number): boolean {
    if (protocol !== this.protocol) return false;
    return this.remote === undefined || (this.remote.host === from.host && this.remote.port === from.port);
  }

  /** What does not fit is lost. */
  private arrived(bytes: Uint8Array, from: InetAddress, header: PacketHeader): void {
    if (this.readShut || this.queuedBytes + bytes.length > this.receiveBuffer) return;
    this.deliver({
      bytes: bytes.slice(),
      from: formatInet(from, this.domain),
      rights: [],
      credentials: undefined,
      header,
    });
  }

  override receive(task: Task, size: number, flags: number): Incoming {
    const header = this.queue[0]?.header;
    const received = super.receive(task, size, flags);
    return header === undefined ? received : { ...received, messages: headerMessages(this, header) };
  }

  shutdown(_task: Task, how: number): void {
    if (how < 0 || how > 2) throw new Errno(E.INVAL);
    if (this.remote === undefined) throw new Errno(E.NOTCONN);
    if (how !== SHUT_WR) this.readShut = true;
    if (how !== SHUT_RD) this.writeShut = true;
    this.pollQueue.wake();
  }

  localName(): Uint8Array {
    return formatInet(this.local ?? { host: this.any, port: 0 }, this.domain);
  }

  peerName(): Uint8Array {
    if (this.remote === undefined) throw new Errno(E.NOTCONN);
    return formatInet(this.remote, this.domain);
  }

  override release(): void {
    if (this.local !== undefined) this.ports.unbind(this, this.local.port);
    this.discard();
    this.pollQueue.wake();
  }
}
