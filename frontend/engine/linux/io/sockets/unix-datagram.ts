/** UNIX datagram sockets: nothing is lost, a full receiver makes senders wait. */

import { E, Errno } from "../../errno.ts";
import { dropFile } from "../../references.ts";
import type { Task } from "../../types.ts";
import { READABLE } from "../constants.ts";
import { DatagramSocket } from "./datagram.ts";
import * as N from "./numbers.ts";
import type { Outgoing, PeerCredentials } from "./socket.ts";
import { credentialsOf } from "./stream.ts";
import { type UnixName, type UnixNames, bindUnix, findUnix, unixAddress, unixNames } from "./unix-names.ts";

/** net.unix.max_dgram_qlen, as systemd sets it. */
const MOST_QUEUED = 512;

export class UnixDatagramSocket extends DatagramSocket {
  private bound: UnixName | undefined;
  private names: UnixNames | undefined;
  private peer: UnixDatagramSocket | undefined;
  private peerPath: string | undefined;
  private credentials: PeerCredentials | undefined;
  private released = false;

  constructor(task: Task, flags = 0) {
    super(task, N.AF_UNIX, N.SOCK_DGRAM, 0, flags);
  }

  override get peerCredentials(): PeerCredentials | undefined {
    return this.credentials;
  }

  override bind(task: Task, address: Uint8Array): void {
    if (this.bound !== undefined) throw new Errno(E.INVAL);
    this.bound = bindUnix(task, this, address);
    this.names = unixNames(task);
  }

  connect(task: Task, address: Uint8Array): void {
    if (address.length >= 2 && address[0] === N.AF_UNSPEC && address[1] === 0) {
      this.peer = undefined;
      return;
    }
    const peer = findUnix(task, address, N.SOCK_DGRAM) as UnixDatagramSocket;
    if (peer.peer !== undefined && peer.peer !== this) throw new Errno(E.PERM);
    this.peer = peer;
    this.peerPath = peer.bound?.path;
  }

  pairWith(task: Task, other: UnixDatagramSocket): void {
    this.peer = other;
    other.peer = this;
    this.credentials = other.credentials = credentialsOf(task);
  }

  private isFull(receiver: UnixDatagramSocket, size: number): boolean {
    return (
      receiver !== this &&
      (receiver.queue.length >= MOST_QUEUED ||
        (receiver.queue.length > 0 && receiver.queuedBytes + size > this.sendBuffer))
    );
  }

  send(task: Task, message: Outgoing): number {
    const { bytes, flags } = message;
    let { rights } = message;
    try {
      if ((flags & N.MSG_OOB) !== 0) throw new Errno(E.OPNOTSUPP);
      if (bytes.length > this.sendBuffer - 32) throw new Errno(E.MSGSIZE);
      this.throwError();
      if (this.writeShut) this.brokenPipe(task, flags);
      let receiver = this.peer;
      if (message.address !== undefined) {
        receiver = findUnix(task, message.address, N.SOCK_DGRAM) as UnixDatagramSocket;
      }
      if (receiver === undefined) throw new Errno(E.NOTCONN);
      if (receiver.released) {
        if (message.address === undefined) this.peer = undefined;
        throw new Errno(E.CONNREFUSED);
      }
      if (receiver.peer !== undefined && receiver.peer !== this) throw new Errno(E.PERM);
      if (receiver.readShut) this.brokenPipe(task, flags);
      if (this.isFull(receiver, bytes.length)) {
        this.wait(task, flags, this.sendTimeout, receiver.pollQueue);
      }
      const from = this.bound === undefined ? undefined : unixAddress(this.bound.path);
      const credentials = message.credentials ?? credentialsOf(task);
      receiver.deliver({ bytes: bytes.slice(), from, rights, credentials });
      rights = [];
      return bytes.length;
    } finally {
      rights.forEach(dropFile);
    }
  }

  protected override canSend(): boolean {
    return this.peer === undefined || !this.isFull(this.peer, 0);
  }

  /** Who is connected to it waits in its own queue. */
  protected override taken(): void {
    super.taken();
    this.peer?.pollQueue.wake();
  }

  shutdown(_task: Task, how: number): void {
    if (how < 0 || how > 2) throw new Errno(E.INVAL);
    if (this.peer === undefined) throw new Errno(E.NOTCONN);
    if (how !== N.SHUT_WR) this.readShut = true;
    if (how !== N.SHUT_RD) this.writeShut = true;
    this.pollQueue.wake();
    this.peer.pollQueue.wake();
  }

  localName(): Uint8Array {
    return unixAddress(this.bound?.path);
  }

  peerName(): Uint8Array {
    if (this.peer === undefined) throw new Errno(E.NOTCONN);
    return unixAddress(this.peerPath);
  }

  override release(): void {
    this.released = true;
    if (this.names !== undefined) this.bound?.release(this.names, this);
    if (this.peer !== undefined && this.peer.peer === this) {
      if (this.queue.length > 0) this.peer.error = E.CONNRESET;
      this.peer.pollQueue.wake(Infinity, READABLE);
    }
    this.discard();
    this.pollQueue.wake();
  }
}
