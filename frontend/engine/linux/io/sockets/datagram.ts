/** Datagrams that were received: what UNIX datagram sockets, UDP and netlink have in common. */

import { E, Errno } from "../../errno.ts";
import { dropFile, holdFile } from "../../references.ts";
import type { OpenFile, Task } from "../../types.ts";
import { POLLERR, POLLHUP, POLLRDHUP, READABLE, WRITABLE } from "../constants.ts";
import * as N from "./numbers.ts";
import type { PacketHeader } from "./packet-control.ts";
import { type Incoming, type PeerCredentials, Socket } from "./socket.ts";

export interface Datagram {
  bytes: Uint8Array;
  /** Name of the sender; undefined: it has none. */
  from: Uint8Array | undefined;
  rights: OpenFile[];
  credentials: PeerCredentials | undefined;
  /** Of UDP. */
  header?: PacketHeader;
}

export abstract class DatagramSocket extends Socket {
  readonly queue: Datagram[] = [];
  queuedBytes = 0;

  deliver(datagram: Datagram): void {
    this.queue.push(datagram);
    this.queuedBytes += datagram.bytes.length;
    this.pollQueue.wake(Infinity, READABLE);
  }

  /** Senders may go on. */
  protected taken(): void {
    this.pollQueue.wake(Infinity, WRITABLE);
  }

  receive(task: Task, size: number, flags: number): Incoming {
    if ((flags & N.MSG_OOB) !== 0) throw new Errno(E.OPNOTSUPP);
    const first = this.queue[0];
    if (first === undefined) {
      this.throwError();
      if (this.readShut) return { ...NOTHING, bytes: new Uint8Array(0), rights: [] };
      return this.wait(task, flags, this.receiveTimeout);
    }
    const peek = (flags & N.MSG_PEEK) !== 0;
    if (!peek) {
      this.queue.shift();
      this.queuedBytes -= first.bytes.length;
      this.taken();
    }
    const passes = this.option(N.SOL_SOCKET, N.SO_PASSCRED) !== 0;
    return {
      bytes: first.bytes.slice(0, size),
      length: first.bytes.length,
      address: first.from,
      rights: peek ? first.rights.map(holdFile) : first.rights,
      credentials: passes ? (first.credentials ?? { pid: 0, uid: 65534, gid: 65534 }) : undefined,
      flags: first.bytes.length > size ? N.MSG_TRUNC : 0,
    };
  }

  get available(): number {
    return this.queue[0]?.bytes.length ?? 0;
  }

  override poll(task: Task): number {
    let events = 0;
    if (this.error !== 0) events |= POLLERR | READABLE;
    if (this.queue.length > 0 || this.readShut) events |= READABLE;
    if (this.readShut) events |= POLLRDHUP;
    if (this.readShut && this.writeShut) events |= POLLHUP;
    if (this.canSend(task)) events |= WRITABLE;
    return events;
  }

  protected canSend(_task: Task): boolean {
    return true;
  }

  /** What nobody will read. */
  protected discard(): void {
    for (const { rights } of this.queue.splice(0)) rights.forEach(dropFile);
    this.queuedBytes = 0;
  }
}

const NOTHING = { length: 0, address: undefined, credentials: undefined, flags: 0 };
