/** POSIX message queues (mq_overview(7)). */

import { E, Errno } from "../errno.ts";
import type { ByteString, Inode, Task } from "../types.ts";
import { WaitQueue } from "../wait.ts";
import { READABLE, WRITABLE } from "./constants.ts";
import { PseudoFile } from "./pseudo.ts";
import type { NetlinkSocket } from "./sockets/netlink.ts";

export interface Message {
  priority: number;
  bytes: Uint8Array;
}

/** Who is to hear of a message that comes to an empty queue, once. */
export interface Notification {
  /** The process that has asked, and the open file it asked through. */
  pid: number;
  file: MessageQueueFile;
  /** 0: only that nobody else may ask. */
  signal: number;
  value: bigint;
  /** SIGEV_THREAD: the socket that glibc's thread reads from, and what is put into it. */
  socket: NetlinkSocket | undefined;
  cookie: Uint8Array;
}

export class MessageQueue {
  readonly name: ByteString;
  readonly inode: Inode;
  readonly mostMessages: number;
  readonly mostBytes: number;
  /** In the order in which they are received. */
  readonly messages: Message[] = [];
  /** Who waits for a message, and who for room. */
  readonly receivers = new WaitQueue();
  readonly senders = new WaitQueue();
  /** Of all its open files: poll. */
  readonly pollQueue = new WaitQueue();
  notification: Notification | undefined;

  constructor(name: ByteString, inode: Inode, mostMessages: number, mostBytes: number) {
    this.name = name;
    this.inode = inode;
    this.mostMessages = mostMessages;
    this.mostBytes = mostBytes;
  }

  get full(): boolean {
    return this.messages.length >= this.mostMessages;
  }

  /** Behind those of the same priority. */
  put(message: Message): void {
    const after = this.messages.findIndex(({ priority }) => priority < message.priority);
    if (after < 0) this.messages.push(message);
    else this.messages.splice(after, 0, message);
    this.receivers.wake(1);
    this.pollQueue.wake(Infinity, READABLE);
  }

  take(): Message {
    const message = this.messages.shift()!;
    this.senders.wake(1);
    this.pollQueue.wake(Infinity, WRITABLE);
    return message;
  }
}

export class MessageQueueFile extends PseudoFile {
  readonly queue: MessageQueue;

  constructor(queue: MessageQueue, flags: number) {
    super(queue.inode, flags, queue.pollQueue);
    this.queue = queue;
  }

  get name(): ByteString {
    return `/${this.queue.name}`;
  }

  /** As of mqueuefs: one line about the queue. */
  override read(_task: Task, into: Uint8Array, position: number | null): number {
    this.mustRead();
    const { messages, notification } = this.queue;
    const bytes = messages.reduce((sum, message) => sum + message.bytes.length, 0);
    const pad = (value: number, width: number): string => String(value).padEnd(width);
    const text =
      `QSIZE:${pad(bytes, 10)} NOTIFY:${pad(notification === undefined || notification.signal !== 0 ? 0 : 1, 5)} ` +
      `SIGNO:${pad(notification?.signal ?? 0, 5)} NOTIFY_PID:${pad(notification?.pid ?? 0, 6)}\n`;
    const at = position ?? this.offset;
    const part = text.slice(at, at + into.length);
    for (let i = 0; i < part.length; i += 1) into[i] = part.charCodeAt(i);
    if (position === null) this.offset = at + part.length;
    return part.length;
  }

  mustReceive(): void {
    this.mustRead();
  }

  mustSend(): void {
    this.mustWrite();
  }

  override poll(): number {
    return (this.queue.messages.length > 0 ? READABLE : 0) | (this.queue.full ? 0 : WRITABLE);
  }

  override release(): void {
    if (this.queue.notification?.file === this) this.queue.notification = undefined;
  }
}

/** By name; a queue that was unlinked lives on while somebody has it open. */
export class MessageQueues {
  private readonly queues = new Map<ByteString, MessageQueue>();

  find(name: ByteString): MessageQueue | undefined {
    return this.queues.get(name);
  }

  add(queue: MessageQueue, most: number): void {
    if (this.queues.size >= most) throw new Errno(E.NOSPC);
    this.queues.set(queue.name, queue);
  }

  remove(name: ByteString): void {
    this.queues.delete(name);
  }
}
