/** TCP on the loopback: connections within the machine. */

import { E, Errno } from "../../errno.ts";
import type { Task } from "../../types.ts";
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
import { AF_INET, AF_UNSPEC, IPPROTO_TCP, SOCK_STREAM } from "./numbers.ts";
import type { Ports } from "./ports.ts";
import { StreamSocket } from "./stream.ts";

export class TcpSocket extends StreamSocket {
  private readonly ports: Ports;
  private local: InetAddress | undefined;
  private remote: InetAddress | undefined;

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
