/** What all sockets are: open files with options, an error that waits to be told, and messages. */

import { E, Errno } from "../../errno.ts";
import { dropFile } from "../../references.ts";
import type { OpenFile, Task } from "../../types.ts";
import { Block, type WaitQueue } from "../../wait.ts";
import { FIONREAD, O_RDWR, SIGPIPE, S_IFSOCK } from "../constants.ts";
import { PseudoFile, PseudoInode, SOCKET_DEVICE, refusePosition } from "../pseudo.ts";
import { interfaceControl } from "./interfaces.ts";
import { MSG_DONTWAIT, MSG_NOSIGNAL, SOL_SOCKET, SO_RCVBUF, SO_SNDBUF } from "./numbers.ts";

/** `struct ucred`. */
export interface PeerCredentials {
  pid: number;
  uid: number;
  gid: number;
}

/** One control message that is neither descriptors nor credentials. */
export interface ControlMessage {
  level: number;
  type: number;
  bytes: Uint8Array;
}

export interface Outgoing {
  bytes: Uint8Array;
  /** `struct sockaddr` of the receiver. */
  address: Uint8Array | undefined;
  /** Held for the message; whoever takes or drops it drops them. */
  rights: OpenFile[];
  /** What SCM_CREDENTIALS said. */
  credentials: PeerCredentials | undefined;
  messages?: ControlMessage[];
  flags: number;
}

export interface Incoming {
  bytes: Uint8Array;
  /** Of a datagram that was longer than the buffer: its whole length. */
  length: number;
  address: Uint8Array | undefined;
  rights: OpenFile[];
  credentials: PeerCredentials | undefined;
  messages?: ControlMessage[];
  /** MSG_* for the caller. */
  flags: number;
}

/** net.core.wmem_default and rmem_default. */
export const DEFAULT_BUFFER = 212992;
export const SIOCATMARK = 0x8905;
const SIOCOUTQ = 0x5411;

export abstract class Socket extends PseudoFile {
  readonly domain: number;
  readonly type: number;
  readonly protocol: number;
  /** Options that are plain numbers, by "level:name". */
  readonly options = new Map<string, number>();
  /** SO_ERROR: told once. */
  error = 0;
  /** Nanoseconds of SO_RCVTIMEO and SO_SNDTIMEO; 0: for ever. */
  receiveTimeout = 0;
  sendTimeout = 0;
  linger = { on: 0, seconds: 0 };
  readShut = false;
  writeShut = false;

  constructor(task: Task, domain: number, type: number, protocol: number, flags = 0) {
    super(new PseudoInode(task, SOCKET_DEVICE, S_IFSOCK | 0o777), O_RDWR | flags);
    this.domain = domain;
    this.type = type;
    this.protocol = protocol;
  }

  get name(): string {
    return `socket:[${this.inode.ino}]`;
  }

  option(level: number, name: number, missing = 0): number {
    return this.options.get(`${level}:${name}`) ?? missing;
  }

  get sendBuffer(): number {
    return this.option(SOL_SOCKET, SO_SNDBUF, DEFAULT_BUFFER);
  }

  get receiveBuffer(): number {
    return this.option(SOL_SOCKET, SO_RCVBUF, DEFAULT_BUFFER);
  }

  bind(_task: Task, _address: Uint8Array): void {
    throw new Errno(E.OPNOTSUPP);
  }

  abstract connect(task: Task, address: Uint8Array): void;

  listen(_task: Task, _backlog: number): void {
    throw new Errno(E.OPNOTSUPP);
  }

  accept(_task: Task): Socket {
    throw new Errno(E.OPNOTSUPP);
  }

  /** A connection that could not be given to the caller after all. */
  putBack(_socket: Socket): void {}

  get listening(): boolean {
    return false;
  }

  abstract send(task: Task, message: Outgoing): number;
  abstract receive(task: Task, size: number, flags: number): Incoming;
  abstract shutdown(task: Task, how: number): void;
  abstract localName(): Uint8Array;
  /** Throws ENOTCONN. */
  abstract peerName(): Uint8Array;
  /** FIONREAD. */
  abstract readonly available: number;

  get peerCredentials(): PeerCredentials | undefined {
    return undefined;
  }

  /** Tells an error that came meanwhile, once. */
  throwError(): void {
    const { error } = this;
    if (error === 0) return;
    this.error = 0;
    throw new Errno(error);
  }

  /** Waits, unless the caller would not or has waited long enough. */
  wait(task: Task, flags: number, timeout: number, ...queues: WaitQueue[]): never {
    if (this.nonBlocking || (flags & MSG_DONTWAIT) !== 0) throw new Errno(E.AGAIN);
    if (timeout === 0) throw new Block([this.pollQueue, ...queues]);
    const now = task.process.kernel.monotonic();
    const deadline = task.restart?.deadline ?? now + timeout;
    if (now >= deadline) throw new Errno(E.AGAIN);
    task.restart = { ...task.restart, deadline };
    throw new Block([this.pollQueue, ...queues], deadline);
  }

  brokenPipe(task: Task, flags: number): never {
    if ((flags & MSG_NOSIGNAL) === 0) task.process.kernel.signalProcess(task.process, SIGPIPE);
    throw new Errno(E.PIPE);
  }

  override read(task: Task, into: Uint8Array, position: number | null): number {
    refusePosition(position);
    const { bytes, rights } = this.receive(task, into.length, 0);
    into.set(bytes);
    rights.forEach(dropFile);
    return bytes.length;
  }

  override write(task: Task, from: Uint8Array, position: number | null): number {
    refusePosition(position);
    return this.send(task, {
      bytes: from,
      address: undefined,
      rights: [],
      credentials: undefined,
      flags: 0,
    });
  }

  override ioctl(task: Task, request: number, argument: number): number {
    switch (request) {
      case FIONREAD:
        task.memory.setU32(argument, this.available);
        return 0;
      case SIOCOUTQ:
      case SIOCATMARK:
        task.memory.setU32(argument, 0);
        return 0;
      default:
        return interfaceControl(task, this.domain, request, argument) ?? super.ioctl(task, request, argument);
    }
  }
}
