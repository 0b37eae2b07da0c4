/** UNIX sockets with connections: SOCK_STREAM and SOCK_SEQPACKET. */

import { E, Errno } from "../../errno.ts";
import type { Task } from "../../types.ts";
import { AF_UNIX, SOCK_SEQPACKET, SOL_SOCKET, SO_PASSCRED } from "./numbers.ts";
import type { Outgoing, PeerCredentials } from "./socket.ts";
import { StreamSocket, credentialsOf } from "./stream.ts";
import { type UnixName, type UnixNames, bindUnix, findUnix, unixAddress, unixNames } from "./unix-names.ts";

export class UnixStreamSocket extends StreamSocket {
  private bound: UnixName | undefined;
  private names: UnixNames | undefined;
  /** Of a socket that was accepted: its listener's. */
  private path: string | undefined;
  private peerPath: string | undefined;

  constructor(task: Task, type: number, flags = 0) {
    super(task, AF_UNIX, type, 0, flags);
  }

  override bind(task: Task, address: Uint8Array): void {
    if (this.bound !== undefined) throw new Errno(E.INVAL);
    this.bound = bindUnix(task, this, address);
    this.names = unixNames(task);
    this.path = this.bound.path;
  }

  protected sibling(task: Task): UnixStreamSocket {
    return new UnixStreamSocket(task, this.type);
  }

  protected findListener(task: Task, address: Uint8Array): StreamSocket {
    const found = findUnix(task, address, this.type);
    if (!found.listening) throw new Errno(E.CONNREFUSED);
    return found as UnixStreamSocket;
  }

  protected connectedTo(server: StreamSocket, listener: StreamSocket): void {
    const accepted = server as UnixStreamSocket;
    accepted.path = this.peerPath = (listener as UnixStreamSocket).path;
    accepted.peerPath = this.path;
  }

  protected mustListen(): void {
    if (this.bound === undefined) throw new Errno(E.INVAL);
  }

  override send(task: Task, message: Outgoing): number {
    // An address on a stream is an error; on packets it is ignored.
    if (message.address !== undefined && this.type !== SOCK_SEQPACKET) {
      throw new Errno(this.state === "connected" ? E.ISCONN : E.OPNOTSUPP);
    }
    return super.send(task, message);
  }

  protected override senderCredentials(task: Task, peer: StreamSocket): PeerCredentials | undefined {
    const wanted = this.option(SOL_SOCKET, SO_PASSCRED) + peer.option(SOL_SOCKET, SO_PASSCRED);
    return wanted === 0 ? undefined : credentialsOf(task);
  }

  localName(): Uint8Array {
    return unixAddress(this.path);
  }

  peerName(): Uint8Array {
    if (this.state !== "connected") throw new Errno(E.NOTCONN);
    return unixAddress(this.peerPath);
  }

  override release(): void {
    if (this.names !== undefined) this.bound?.release(this.names, this);
    super.release();
  }
}
