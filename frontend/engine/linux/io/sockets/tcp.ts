/** TCP on the loopback: connections within the machine. */

import { E, Errno } from "../../errno.ts";
import type { Task } from "../../types.ts";
import { POLLPRI, READABLE } from "../constants.ts";
import { ioMachine } from "../machine.ts";
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
  AF_UNSPEC,
  IPPROTO_TCP,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  SO_OOBINLINE,
  SOCK_STREAM,
  SOL_SOCKET,
} from "./numbers.ts";
import type { Ports } from "./ports.ts";
import { type Incoming, SIOCATMARK } from "./socket.ts";
import { StreamSocket } from "./stream.ts";
import { tellOwner, type UrgentByte } from "./urgent.ts";

export class TcpSocket extends StreamSocket {
  private readonly ports: Ports;
  private local: InetAddress | undefined;
  private remote: InetAddress | undefined;
  private urgent: UrgentByte | undefined;
  /** F_SETOWN: who gets SIGURG. */
  owner = 0;

  constructor(task: Task, domain: number, flags = 0) {
    super(task, domain, SOCK_STREAM, IPPROTO_TCP, flags);
    this.ports = ioMachine(task.process.kernel).tcp;
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

  protected mustListen(task: Task): void {
    this.ports.mustListenAlone(this, this.bindAnywhere(task));
  }

  override connect(task: Task, address: Uint8Array): void {
    if (address.length >= 2 && address[0] === AF_UNSPEC && address[1] === 0) {
      if (this.state === "connected") this.release();
      this.state = "idle";
      return;
    }
    super.connect(task, address);
  }

  protected findListener(task: Task, address: Uint8Array): StreamSocket {
    const wanted = parseInet(address, this.domain);
    const to = { host: route(wanted.host), port: wanted.port };
    const local = this.bindAnywhere(task);
    if (isAny(local.host)) this.local = { host: sourceFor(to.host), port: local.port };
    const found = this.ports.find(to, (socket) => socket.listening);
    if (found === undefined) {
      if (!this.nonBlocking) throw new Errno(E.CONNREFUSED);
      this.error = E.CONNREFUSED;
      this.pollQueue.wake();
      throw new Errno(E.INPROGRESS);
    }
    this.remote = to;
    return found as TcpSocket;
  }

  protected sibling(task: Task): TcpSocket {
    return new TcpSocket(task, this.domain);
  }

  protected connectedTo(server: StreamSocket): void {
    const accepted = server as TcpSocket;
    accepted.local = this.remote;
    accepted.remote = this.local;
    this.ports.share(accepted, accepted.local!);
  }

  localName(): Uint8Array {
    return formatInet(this.local ?? { host: this.any, port: 0 }, this.domain);
  }

  peerName(): Uint8Array {
    if (this.state !== "connected" || this.reset || this.remote === undefined) throw new Errno(E.NOTCONN);
    return formatInet(this.remote, this.domain);
  }

  protected override mustSendUrgently(): void {}

  protected override markUrgent(task: Task, value: number): void {
    const { peer } = this;
    if (peer instanceof TcpSocket && !peer.readShut) peer.urgentCame(task, value);
  }

  private urgentCame(task: Task, value: number): void {
    // An older one that the reader stands before is lost; one that is further on becomes a byte like others.
    if (this.urgent?.ahead === 0 && !this.isInline) this.received.take(1, false, false);
    this.urgent = { ahead: this.received.length - 1, value, taken: false };
    tellOwner(task.process.kernel, this.owner);
    this.pollQueue.wake(Infinity, POLLPRI | READABLE);
  }

  /** SO_OOBINLINE: the urgent byte is read like others, and only marks a place. */
  private get isInline(): boolean {
    return this.option(SOL_SOCKET, SO_OOBINLINE) !== 0;
  }

  /** What is read at once ends before the urgent byte; the byte itself is left out. */
  override receive(task: Task, size: number, flags: number): Incoming {
    if ((flags & MSG_OOB) !== 0) return this.receiveUrgent(size, flags);
    const peek = (flags & MSG_PEEK) !== 0;
    if (this.urgent?.ahead === 0 && !this.isInline) {
      if (peek) return this.peekBehind(task, size, flags);
      this.received.take(1, false, false);
      this.urgent = undefined;
    }
    const { urgent } = this;
    const most = urgent === undefined || urgent.ahead === 0 ? size : Math.min(size, urgent.ahead);
    const incoming = super.receive(task, most, flags);
    if (urgent !== undefined && !peek && incoming.bytes.length > 0) {
      urgent.ahead -= incoming.bytes.length;
      if (urgent.ahead < 0) this.urgent = undefined;
    }
    return incoming;
  }

  private receiveUrgent(size: number, flags: number): Incoming {
    if (this.state === "listening") throw new Errno(E.NOTCONN);
    const { urgent } = this;
    if (urgent === undefined || urgent.taken || this.isInline) throw new Errno(E.INVAL);
    if ((flags & MSG_PEEK) === 0) urgent.taken = true;
    const bytes = new Uint8Array(size > 0 ? [urgent.value] : []);
    return {
      bytes,
      length: bytes.length,
      address: undefined,
      rights: [],
      credentials: undefined,
      flags: size > 0 ? MSG_OOB : MSG_OOB | MSG_TRUNC,
    };
  }

  private peekBehind(task: Task, size: number, flags: number): Incoming {
    if (this.received.length === 1 && !this.peerEnded && !this.readShut) {
      this.wait(task, flags, this.receiveTimeout);
    }
    const incoming = super.receive(task, size + 1, flags);
    const bytes = incoming.bytes.subarray(1);
    return { ...incoming, bytes, length: bytes.length };
  }

  override get available(): number {
    const { length } = this.received;
    return this.urgent === undefined || this.isInline ? super.available : Math.min(length, this.urgent.ahead);
  }

  override poll(): number {
    let events = super.poll();
    const { urgent } = this;
    if (urgent === undefined) return events;
    if (!urgent.taken) events |= POLLPRI;
    const ended = this.readShut || this.peerEnded || this.error !== 0;
    if (urgent.ahead === 0 && this.received.length === 1 && !this.isInline && !ended) events &= ~READABLE;
    return events;
  }

  override ioctl(task: Task, request: number, argument: number): number {
    if (request !== SIOCATMARK) return super.ioctl(task, request, argument);
    task.memory.setU32(argument, this.urgent?.ahead === 0 ? 1 : 0);
    return 0;
  }

  protected override unconnected(): number {
    return E.PIPE;
  }

  override release(): void {
    super.release();
    if (this.local !== undefined) this.ports.unbind(this, this.local.port);
    this.local = undefined;
    this.remote = undefined;
  }
}
