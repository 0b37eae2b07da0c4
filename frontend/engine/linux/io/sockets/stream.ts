/** Connections: what UNIX streams, sequenced packets and TCP on the loopback have in common. */

import { E, Errno } from "../../errno.ts";
import { dropFile } from "../../references.ts";
import type { Task } from "../../types.ts";
import { Block } from "../../wait.ts";
import { POLLERR, POLLHUP, POLLRDHUP, READABLE, WRITABLE } from "../constants.ts";
import { takeProgress } from "../pseudo.ts";
import * as N from "./numbers.ts";
import { Segments } from "./segments.ts";
import { type Incoming, type Outgoing, type PeerCredentials, Socket } from "./socket.ts";

export type StreamState = "idle" | "listening" | "connecting" | "connected" | "closed";

export abstract class StreamSocket extends Socket {
  state: StreamState = "idle";
  peer: StreamSocket | undefined;
  readonly received: Segments;
  /** Connections that nobody has accepted yet. */
  accepts: StreamSocket[] = [];
  /** Who would connect once there is room in `accepts`. */
  private readonly candidates: StreamSocket[] = [];
  /** A connect has not been answered, or with EINPROGRESS: its end has not been told. */
  private unannounced = false;
  backlog = 0;
  /** The other side sends no more; its data may still be here. */
  peerEnded = false;
  /** The other side is gone altogether. */
  peerClosed = false;
  private credentials: PeerCredentials | undefined;

  constructor(task: Task, domain: number, type: number, protocol: number, flags = 0) {
    super(task, domain, type, protocol, flags);
    this.received = new Segments(type === N.SOCK_SEQPACKET);
  }

  /** A socket of the same kind, for the side that accepts. */
  protected abstract sibling(task: Task): StreamSocket;
  /** Whoever listens at that address; throws what connect shall answer. */
  protected abstract findListener(task: Task, address: Uint8Array): StreamSocket;
  /** Names of both sides are known now. */
  protected abstract connectedTo(server: StreamSocket, listener: StreamSocket): void;

  override get listening(): boolean {
    return this.state === "listening";
  }

  override get peerCredentials(): PeerCredentials | undefined {
    return this.credentials;
  }

  override listen(task: Task, backlog: number): void {
    if (this.state !== "idle" && this.state !== "listening") throw new Errno(E.INVAL);
    this.mustListen(task);
    // net.core.somaxconn.
    this.backlog = backlog < 0 ? 4096 : Math.min(backlog, 4096);
    this.state = "listening";
    this.credentials = credentialsOf(task);
    this.admit();
  }

  /** Before the state changes: a name is needed. */
  protected abstract mustListen(task: Task): void;

  connect(task: Task, address: Uint8Array): void {
    if (this.state === "connected") {
      if (!this.unannounced) throw new Errno(E.ISCONN);
      this.unannounced = false;
      return;
    }
    if (this.state === "listening") throw new Errno(this.domain === N.AF_UNIX ? E.INVAL : E.ISCONN);
    if (this.state !== "connecting") {
      this.throwError();
      this.begin(task, address);
      // A TCP connect that may not wait learns of its end later.
      if (this.nonBlocking && this.domain !== N.AF_UNIX) {
        this.unannounced = true;
        throw new Errno(E.INPROGRESS);
      }
      this.throwError();
    } else if (this.nonBlocking) {
      throw new Errno(E.ALREADY);
    }
    if ((this.state as StreamState) === "connected") return;
    this.throwError();
    // Made again once it is connected, the call succeeds.
    this.unannounced = true;
    throw new Block([this.pollQueue]);
  }

  private begin(task: Task, address: Uint8Array): void {
    const listener = this.findListener(task, address);
    this.credentials = credentialsOf(task);
    if (listener === this || listener.accepts.length <= listener.backlog) {
      this.establish(task, listener);
      return;
    }
    if (this.domain === N.AF_UNIX) this.wait(task, 0, this.sendTimeout, listener.pollQueue);
    this.state = "connecting";
    this.connector = task;
    listener.candidates.push(this);
  }

  /** Who called connect: its credentials go to the other side. */
  private connector: Task | undefined;

  private establish(task: Task, listener: StreamSocket): void {
    const server = listener.sibling(task);
    for (const [name, value] of listener.options) server.options.set(name, value);
    join(this, server);
    server.credentials = this.credentials;
    this.credentials = listener.credentials;
    this.connectedTo(server, listener);
    listener.accepts.push(server);
    listener.pollQueue.wake(Infinity, READABLE);
    this.pollQueue.wake();
  }

  /** Lets those in who wait to connect. */
  protected admit(): void {
    while (this.candidates.length > 0 && this.accepts.length <= this.backlog) {
      const candidate = this.candidates.shift()!;
      if (candidate.state === "connecting") candidate.establish(candidate.connector!, this);
    }
  }

  override accept(task: Task): StreamSocket {
    if (this.state !== "listening") throw new Errno(E.INVAL);
    const socket = this.accepts.shift();
    if (socket === undefined) return this.wait(task, 0, this.receiveTimeout);
    this.admit();
    this.pollQueue.wake(Infinity, WRITABLE);
    return socket;
  }

  override putBack(socket: Socket): void {
    this.accepts.unshift(socket as StreamSocket);
  }

  /** Both ends of socketpair. */
  pairWith(task: Task, other: StreamSocket): void {
    join(this, other);
    this.credentials = other.credentials = credentialsOf(task);
  }

  /** Bytes that may still be sent now. */
  get room(): number {
    const { peer } = this;
    return peer === undefined ? 0 : Math.max(0, this.sendBuffer - peer.received.length);
  }

  send(task: Task, message: Outgoing): number {
    const { bytes, flags, rights } = message;
    if ((flags & N.MSG_OOB) !== 0) this.mustSendUrgently();
    let done = takeProgress(task);
    let carried = rights;
    if (done > 0) {
      // They went with the first part.
      rights.forEach(dropFile);
      carried = [];
    }
    try {
      const records = this.type === N.SOCK_SEQPACKET;
      if (records && bytes.length > this.sendBuffer) throw new Errno(E.MSGSIZE);
      if (done === 0) this.throwError();
      do {
        if (this.writeShut || this.peerClosed) return this.sendToNobody(task, done, bytes, flags);
        const { peer } = this;
        if (this.state !== "connected" || peer === undefined) throw new Errno(this.unconnected());
        if (peer.readShut && this.domain === N.AF_UNIX) this.brokenPipe(task, flags);
        const { room } = this;
        const wanted = records ? bytes.length : Math.min(1, bytes.length);
        if (room < wanted) this.wait(task, flags, this.sendTimeout);
        const part = records ? bytes : bytes.subarray(done, done + room);
        if (!peer.readShut && (part.length > 0 || records)) {
          peer.received.push(part, carried, message.credentials ?? this.senderCredentials(task, peer));
          carried = [];
        }
        done += part.length;
        peer.pollQueue.wake(Infinity, READABLE);
      } while (done < bytes.length);
      if ((flags & N.MSG_OOB) !== 0 && done > 0) this.markUrgent(task, bytes[done - 1]!);
      return done;
    } catch (problem) {
      if (done > 0 && (problem instanceof Errno || task.signalPending)) return done;
      if (problem instanceof Block && done > 0) task.restart = { ...task.restart, done };
      throw problem;
    } finally {
      // Progress or not: the next attempt collects them anew.
      carried.forEach(dropFile);
    }
  }

  /** Whether MSG_OOB is known. */
  protected mustSendUrgently(): void {
    throw new Errno(E.OPNOTSUPP);
  }

  /** The last byte that was sent is urgent. */
  protected markUrgent(_task: Task, _value: number): void {}

  /** TCP notices at the first send only that the other side is gone. */
  private sendToNobody(task: Task, done: number, bytes: Uint8Array, flags: number): number {
    if (!this.writeShut && this.domain !== N.AF_UNIX && !this.reset) {
      this.reset = true;
      this.error = E.PIPE;
      this.pollQueue.wake();
      return bytes.length;
    }
    if (this.error === E.PIPE) this.error = 0;
    return done > 0 ? done : this.brokenPipe(task, flags);
  }

  /** TCP: the other side has thrown the connection away, and it is none any more. */
  protected reset = false;

  protected unconnected(): number {
    return E.NOTCONN;
  }

  /** What a receiver with SO_PASSCRED is told. */
  protected senderCredentials(_task: Task, _peer: StreamSocket): PeerCredentials | undefined {
    return undefined;
  }

  receive(task: Task, size: number, flags: number): Incoming {
    if ((flags & N.MSG_OOB) !== 0) throw new Errno(E.OPNOTSUPP);
    if (this.received.empty) {
      if (this.state === "listening") throw new Errno(this.domain === N.AF_UNIX ? E.INVAL : E.NOTCONN);
      if (this.peerEnded && this.domain !== N.AF_UNIX && this.error === E.PIPE) return nothing();
      this.throwError();
      if (this.readShut || this.peerEnded || this.peerClosed) return nothing();
      if (this.state !== "connected") throw new Errno(this.domain === N.AF_UNIX ? E.INVAL : E.NOTCONN);
      if (size === 0 && this.type === N.SOCK_STREAM) return nothing();
      this.wait(task, flags, this.receiveTimeout);
    }
    const peek = (flags & N.MSG_PEEK) !== 0;
    const passes = this.option(N.SOL_SOCKET, N.SO_PASSCRED) !== 0;
    const taken = this.received.take(size, peek, passes);
    if (!peek) this.peer?.pollQueue.wake(Infinity, WRITABLE);
    const record = this.type === N.SOCK_SEQPACKET;
    const cut = record && taken.length > taken.bytes.length ? N.MSG_TRUNC : 0;
    return {
      bytes: taken.bytes,
      length: record ? taken.length : taken.bytes.length,
      address: undefined,
      rights: taken.rights,
      credentials: passes ? (taken.credentials ?? { pid: 0, uid: 65534, gid: 65534 }) : undefined,
      flags: cut | (record ? N.MSG_EOR : 0),
    };
  }

  get available(): number {
    if (this.state === "listening") throw new Errno(E.INVAL);
    return this.received.firstLength;
  }

  shutdown(_task: Task, how: number): void {
    if (how < 0 || how > 2) throw new Errno(E.INVAL);
    const tcp = this.domain !== N.AF_UNIX;
    if (this.state === "listening" && tcp && how !== N.SHUT_WR) {
      this.stopListening();
      this.state = "idle";
      this.pollQueue.wake();
      return;
    }
    if (this.state !== "connected" && this.state !== "closed") throw new Errno(E.NOTCONN);
    if (this.reset) throw new Errno(E.NOTCONN);
    if (how !== N.SHUT_WR) {
      this.readShut = true;
      // The other side of a UNIX socket can't write any more; TCP's does not notice.
      this.peer?.pollQueue.wake();
    }
    if (how !== N.SHUT_RD) {
      this.writeShut = true;
      if (this.peer !== undefined) this.peer.peerEnded = true;
      this.peer?.pollQueue.wake();
    }
    this.pollQueue.wake();
  }

  override poll(): number {
    if (this.state === "listening") return this.accepts.length > 0 ? READABLE : 0;
    let events = 0;
    if (this.error !== 0) events |= POLLERR;
    if (this.state === "idle") return events | WRITABLE | POLLHUP;
    if (this.state === "connecting") return events;
    const unix = this.domain === N.AF_UNIX;
    const ended = this.readShut || this.peerEnded || this.peerClosed;
    const cannotWrite = this.writeShut || (unix && (this.peerClosed || this.peer?.readShut === true));
    if (!this.received.empty || ended) events |= READABLE;
    if (ended) events |= POLLRDHUP;
    if (ended && (cannotWrite || this.reset)) events |= POLLHUP;
    if (this.error !== 0) events |= READABLE | WRITABLE;
    if (cannotWrite || this.peerClosed || this.room >= Math.min(this.sendBuffer / 2, 4096))
      events |= WRITABLE;
    return events;
  }

  /** Nobody will accept those who wait. */
  protected stopListening(): void {
    for (const socket of this.accepts.splice(0)) dropFile(socket);
    for (const candidate of this.candidates.splice(0)) {
      if (candidate.state !== "connecting") continue;
      candidate.state = "idle";
      candidate.error = E.CONNREFUSED;
      candidate.pollQueue.wake();
    }
  }

  override release(): void {
    if (this.state === "listening") this.stopListening();
    const { peer } = this;
    this.state = "closed";
    this.peer = undefined;
    if (peer !== undefined) {
      // Who throws away what was sent to him resets the connection.
      const abrupt = this.linger.on !== 0 && this.linger.seconds === 0 && this.domain !== N.AF_UNIX;
      if (!this.received.empty || abrupt) {
        peer.error = E.CONNRESET;
        peer.reset = this.domain !== N.AF_UNIX;
      }
      peer.peerEnded = true;
      peer.peerClosed = true;
      peer.pollQueue.wake();
    }
    this.received.clear();
    this.pollQueue.wake();
  }
}

function join(a: StreamSocket, b: StreamSocket): void {
  a.peer = b;
  b.peer = a;
  a.state = b.state = "connected";
}

function nothing(): Incoming {
  return {
    bytes: new Uint8Array(0),
    length: 0,
    address: undefined,
    rights: [],
    credentials: undefined,
    flags: 0,
  };
}

export function credentialsOf(task: Task): PeerCredentials {
  const { pid, credentials } = task.process;
  return { pid, uid: credentials.euid, gid: credentials.egid };
}
