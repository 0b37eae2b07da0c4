/** mq_open and what belongs to it. */

import { E, Errno } from "../errno.ts";
import { MessageQueue, MessageQueueFile, type Notification } from "../io/message-queue.ts";
import { O_ACCMODE, O_CREAT, O_EXCL, O_NONBLOCK, O_RDONLY, O_WRONLY, S_IFREG } from "../vfs/constants.ts";
import { PseudoInode } from "../io/pseudo.ts";
import { NetlinkSocket } from "../io/sockets/netlink.ts";
import { SIGNALS } from "../signals/numbers.ts";
import { sendToProcess } from "../signals/send.ts";
import { ofThreads, type Thread } from "../task.ts";
import { Block, type WaitQueue } from "../wait.ts";
import { contextOf } from "../vfs/context.ts";
import { readTimespec } from "./clocks.ts";
import { addFile } from "./open.ts";

const MQUEUE_DEVICE = 0x12;
const O_CLOEXEC = 0o2000000;
/** /proc/sys/fs/mqueue: what a queue gets, what it may get, and what root may give it. */
const MESSAGES = 10;
const BYTES = 8192;
const MESSAGES_OF_ROOT = 65536;
const BYTES_OF_ROOT = 16 * 1024 * 1024;
const QUEUES = 256;
/** RLIMIT_MSGQUEUE: bytes that all queues of a user may hold. */
const BYTES_IN_ALL = 819200;
const HIGHEST_PRIORITY = 32767;
const SIGEV_SIGNAL = 0;
const SIGEV_NONE = 1;
const SIGEV_THREAD = 2;
const SI_MESGQ = -3;
const COOKIE = 32;
/** Last byte of the cookie: a message has come; the notification was taken back. */
const WOKEN_UP = 1;
const REMOVED = 2;

function nameAt(thread: Thread, address: number): string {
  const name = thread.memory.string(address, 256);
  if (name === "") throw new Errno(E.NOENT);
  if (name.includes("/") || name === "." || name === "..") throw new Errno(E.ACCES);
  if (name.length > 255) throw new Errno(E.NAMETOOLONG);
  return name;
}

/** `wanted`: 4 to read, 2 to write. */
function mustAllow(thread: Thread, queue: MessageQueue, wanted: number): void {
  const { fsuid, fsgid, groups } = thread.process.credentials;
  if (fsuid === 0) return;
  const { mode, uid, gid } = queue.inode.stat();
  const shift = fsuid === uid ? 6 : [fsgid, ...groups].includes(gid) ? 3 : 0;
  if ((wanted & ~(mode >> shift)) !== 0) throw new Errno(E.ACCES);
}

function create(thread: Thread, name: string, mode: number, attributes: number): MessageQueue {
  const { process, memory } = thread;
  let [messages, bytes] = [MESSAGES, BYTES];
  const isRoot = process.credentials.euid === 0;
  if (attributes !== 0) {
    [messages, bytes] = [memory.getI64(attributes + 8), memory.getI64(attributes + 16)];
    const [mostMessages, mostBytes] = isRoot ? [MESSAGES_OF_ROOT, BYTES_OF_ROOT] : [MESSAGES, BYTES];
    if (messages <= 0 || bytes <= 0 || messages > mostMessages || bytes > mostBytes) {
      throw new Errno(E.INVAL);
    }
    // Linux counts what it keeps of each message, too.
    if (messages * (bytes + 64) > BYTES_IN_ALL) throw new Errno(E.MFILE);
  }
  const inode = new PseudoInode(thread, MQUEUE_DEVICE, S_IFREG | (mode & ~contextOf(process).umask));
  const queue = new MessageQueue(name, inode, messages, bytes);
  process.kernel.messageQueues.add(queue, isRoot ? Infinity : QUEUES);
  return queue;
}

function open(thread: Thread, address: number, flags: number, mode: number, attributes: number): number {
  const name = nameAt(thread, address);
  const access = flags & O_ACCMODE;
  if (access === O_ACCMODE) throw new Errno(E.INVAL);
  const { messageQueues } = thread.process.kernel;
  let queue = messageQueues.find(name);
  if (queue === undefined) {
    if ((flags & O_CREAT) === 0) throw new Errno(E.NOENT);
    queue = create(thread, name, mode & 0o777, attributes);
  } else {
    if ((flags & O_CREAT) !== 0 && (flags & O_EXCL) !== 0) throw new Errno(E.EXIST);
    mustAllow(thread, queue, access === O_RDONLY ? 4 : access === O_WRONLY ? 2 : 6);
  }
  return addFile(thread, new MessageQueueFile(queue, flags), (flags & O_CLOEXEC) !== 0);
}

function unlink(thread: Thread, address: number): number {
  const name = nameAt(thread, address);
  const { messageQueues } = thread.process.kernel;
  const queue = messageQueues.find(name);
  if (queue === undefined) throw new Errno(E.NOENT);
  const { fsuid } = thread.process.credentials;
  // Its directory is sticky.
  if (fsuid !== 0 && fsuid !== queue.inode.stat().uid) throw new Errno(E.ACCES);
  messageQueues.remove(name);
  return 0;
}

function fileAt(thread: Thread, fd: number): MessageQueueFile {
  const file = thread.process.files.get(fd);
  if (!(file instanceof MessageQueueFile)) throw new Errno(E.BADF);
  return file;
}

/** Until there is room or a message; `timeout` is the address of a realtime. */
function wait(thread: Thread, file: MessageQueueFile, queue: WaitQueue, timeout: number): never {
  const { kernel } = thread.process;
  if (file.nonBlocking) throw new Errno(E.AGAIN);
  let deadline = thread.restart?.deadline ?? Infinity;
  if (thread.restart?.deadline === undefined && timeout !== 0) {
    const { seconds, nanoseconds } = kernel.realtime();
    const left = readTimespec(thread, timeout) - seconds * 1e9 - nanoseconds;
    deadline = kernel.monotonic() + left;
  }
  if (kernel.monotonic() >= deadline) throw new Errno(E.TIMEDOUT);
  thread.restart = deadline === Infinity ? {} : { deadline };
  throw new Block([queue], deadline);
}

function send(
  thread: Thread,
  fd: number,
  from: number,
  length: number,
  priority: number,
  until: number,
): number {
  if (until !== 0) readTimespec(thread, until);
  if (priority > HIGHEST_PRIORITY) throw new Errno(E.INVAL);
  const file = fileAt(thread, fd);
  file.mustSend();
  const { queue } = file;
  if (length > queue.mostBytes) throw new Errno(E.MSGSIZE);
  const bytes = thread.memory.readable(from, length).slice();
  if (queue.full) wait(thread, file, queue.senders, until);
  const tells = queue.messages.length === 0 && queue.receivers.empty;
  queue.put({ priority, bytes });
  if (tells) tell(thread, queue);
  return 0;
}

function receive(
  thread: Thread,
  fd: number,
  into: number,
  length: number,
  priority: number,
  until: number,
): number {
  if (until !== 0) readTimespec(thread, until);
  const file = fileAt(thread, fd);
  file.mustReceive();
  const { queue } = file;
  if (length < queue.mostBytes) throw new Errno(E.MSGSIZE);
  const first = queue.messages[0];
  if (first === undefined) return wait(thread, file, queue.receivers, until);
  const target = thread.memory.writable(into, first.bytes.length);
  if (priority !== 0) thread.memory.setU32(priority, first.priority);
  target.set(first.bytes);
  queue.take();
  return first.bytes.length;
}

/** The notification is over with that. */
function tell(thread: Thread, queue: MessageQueue): void {
  const { notification } = queue;
  if (notification === undefined) return;
  queue.notification = undefined;
  const { kernel, pid, credentials } = thread.process;
  const owner = kernel.process(notification.pid);
  if (notification.socket !== undefined) notifySocket(notification, WOKEN_UP);
  else if (notification.signal !== 0 && owner !== undefined) {
    const { signal, value } = notification;
    sendToProcess(owner, { signal, code: SI_MESGQ, pid, uid: credentials.uid, value });
  }
}

function notifySocket({ socket, cookie }: Notification, how: number): void {
  const bytes = cookie.slice();
  bytes[COOKIE - 1] = how;
  socket?.deliver({ bytes, from: undefined, rights: [], credentials: undefined });
}

function notify(thread: Thread, fd: number, event: number): number {
  const { memory, process } = thread;
  const how = event === 0 ? SIGEV_NONE : memory.getI32(event + 12);
  const signal = event === 0 ? 0 : memory.getI32(event + 8);
  if (![SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD].includes(how)) throw new Errno(E.INVAL);
  if (how === SIGEV_SIGNAL && (signal < 0 || signal > SIGNALS)) throw new Errno(E.INVAL);
  let socket: NetlinkSocket | undefined;
  let cookie = new Uint8Array(0);
  let value = 0n;
  if (how === SIGEV_THREAD) {
    const file = process.files.get(signal);
    if (!(file instanceof NetlinkSocket)) throw new Errno(E.INVAL);
    socket = file;
    cookie = memory.readable(memory.getI64(event), COOKIE).slice();
  } else if (event !== 0) {
    value = memory.getBig(event);
  }
  const file = fileAt(thread, fd);
  const { queue } = file;
  if (event === 0) {
    if (queue.notification?.pid !== process.pid) return 0;
    notifySocket(queue.notification, REMOVED);
    queue.notification = undefined;
    return 0;
  }
  if (queue.notification !== undefined) throw new Errno(E.BUSY);
  const kept = how === SIGEV_SIGNAL ? signal : 0;
  queue.notification = { pid: process.pid, file, signal: kept, value, socket, cookie };
  return 0;
}

function attributes(thread: Thread, fd: number, next: number, old: number): number {
  const { memory } = thread;
  const flags = next === 0 ? undefined : memory.getI64(next);
  if (flags !== undefined && (flags & ~O_NONBLOCK) !== 0) throw new Errno(E.INVAL);
  const file = fileAt(thread, fd);
  const { mostMessages, mostBytes, messages } = file.queue;
  if (old !== 0) {
    memory.writable(old, 64).fill(0);
    [file.flags & O_NONBLOCK, mostMessages, mostBytes, messages.length].forEach((value, index) => {
      memory.setI64(old + index * 8, value);
    });
  }
  if (flags !== undefined) file.flags = (file.flags & ~O_NONBLOCK) | flags;
  return 0;
}

export const messageQueueCalls = ofThreads({
  mq_open: (thread, a) => open(thread, a[0], a[1] | 0, a[2], a[3]),
  mq_unlink: (thread, a) => unlink(thread, a[0]),
  mq_timedsend: (thread, a) => send(thread, a[0] | 0, a[1], a[2], a[3] >>> 0, a[4]),
  mq_timedreceive: (thread, a) => receive(thread, a[0] | 0, a[1], a[2], a[3], a[4]),
  mq_notify: (thread, a) => notify(thread, a[0] | 0, a[1]),
  mq_getsetattr: (thread, a) => attributes(thread, a[0] | 0, a[1], a[2]),
});
