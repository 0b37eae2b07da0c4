/** msgget with what belongs to it (System V message queues; msgop(2), msgctl(2)). */

import { E, Errno } from "../errno.ts";
import { IPC_LIMITS, type Message, type SystemVQueue, mustAllow, mustOwn } from "../ipc.ts";
import { ofThreads, type Thread } from "../task.ts";
import { Block, WaitQueue } from "../wait.ts";
import { IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT, seconds, setOwner, writeOwner } from "./ipc.ts";
import { atPlace, IPC_INFO, tellQueues } from "./system-v-info.ts";

const MSG_NOERROR = 0o10000;
const MSG_EXCEPT = 0o20000;
const MSG_COPY = 0o40000;
const MSG_STAT = 11;
const MSG_INFO = 12;
const MSG_STAT_ANY = 13;

function openQueue(thread: Thread, key: number, flags: number): number {
  const { process } = thread;
  const none = { messages: [], bytes: 0, most: IPC_LIMITS.queueBytes };
  const never = { sender: 0, receiver: 0, sent: 0, received: 0 };
  const { credentials, kernel } = process;
  return kernel.ipc.queues.open(key, flags, credentials, IPC_LIMITS.queues, (owned): SystemVQueue => ({
    ...owned,
    ...{ ...none, ...never },
    changed: seconds(thread),
    queue: new WaitQueue(),
  })).id;
}

/** The queue, which may have been removed while the caller waited. */
function queueOf(thread: Thread, id: number): SystemVQueue {
  const queue = thread.process.kernel.ipc.queues.find(id);
  if (queue === undefined) throw new Errno(thread.restart === undefined ? E.INVAL : E.IDRM);
  return queue;
}

function wait(thread: Thread, queue: SystemVQueue, flags: number, error: number): never {
  if ((flags & IPC_NOWAIT) !== 0) throw new Errno(error);
  thread.restart = {};
  throw new Block([queue.queue]);
}

function send(thread: Thread, id: number, at: number, size: number, flags: number): number {
  const { process, memory } = thread;
  const type = memory.getI64(at);
  if (size < 0 || size > IPC_LIMITS.messageBytes || id < 0 || type < 1) throw new Errno(E.INVAL);
  const text = memory.readable(at + 8, size).slice();
  const queue = queueOf(thread, id);
  mustAllow(queue, process.credentials, 2);
  if (queue.bytes + size > queue.most || queue.messages.length + 1 > queue.most) {
    return wait(thread, queue, flags, E.AGAIN);
  }
  queue.messages.push({ type, text });
  queue.bytes += size;
  queue.sender = process.pid;
  queue.sent = seconds(thread);
  queue.queue.wake();
  return 0;
}

/** Which message `type` means, among those that are there. */
function chosen(messages: readonly Message[], type: number, flags: number): Message | undefined {
  if (type === 0) return messages[0];
  if (type > 0) return messages.find((message) => (message.type === type) !== ((flags & MSG_EXCEPT) !== 0));
  const fitting = messages.filter((message) => message.type <= -type);
  const lowest = Math.min(...fitting.map((message) => message.type));
  return fitting.find((message) => message.type === lowest);
}

function receive(thread: Thread, id: number, at: number, room: number, type: number, flags: number): number {
  const { process, memory } = thread;
  if (id < 0 || room < 0) throw new Errno(E.INVAL);
  const copies = (flags & MSG_COPY) !== 0;
  if (copies && ((flags & MSG_EXCEPT) !== 0 || (flags & IPC_NOWAIT) === 0)) throw new Errno(E.INVAL);
  const queue = queueOf(thread, id);
  mustAllow(queue, process.credentials, 4);
  const message = copies ? queue.messages[type] : chosen(queue.messages, type, flags);
  if (message === undefined) return wait(thread, queue, flags, E.NOMSG);
  const { text } = message;
  if (text.length > room && (flags & MSG_NOERROR) === 0) throw new Errno(E["2BIG"]);
  const size = Math.min(text.length, room);
  memory.writable(at + 8, size).set(text.subarray(0, size));
  memory.setI64(at, message.type);
  if (copies) return size;
  queue.messages.splice(queue.messages.indexOf(message), 1);
  queue.bytes -= text.length;
  queue.receiver = process.pid;
  queue.received = seconds(thread);
  queue.queue.wake();
  return size;
}

function control(thread: Thread, id: number, command: number, at: number): number {
  const { process, memory } = thread;
  const { ipc } = process.kernel;
  if (command === IPC_INFO || command === MSG_INFO) return tellQueues(thread, at, command === MSG_INFO);
  const byPlace = command === MSG_STAT || command === MSG_STAT_ANY;
  const queue = byPlace ? atPlace(ipc.queues, id) : ipc.queues.get(id);
  const who = process.credentials;
  switch (command) {
    case IPC_RMID:
      mustOwn(queue, who);
      ipc.queues.remove(queue);
      queue.queue.wake();
      return 0;
    case IPC_SET: {
      mustOwn(queue, who);
      const most = memory.getI64(at + 88);
      if (most > IPC_LIMITS.queueBytes && who.euid !== 0) throw new Errno(E.PERM);
      setOwner(thread, at, queue);
      queue.most = most;
      queue.queue.wake();
      return 0;
    }
    case IPC_STAT:
    case MSG_STAT:
    case MSG_STAT_ANY:
      if (command !== MSG_STAT_ANY) mustAllow(queue, who, 4);
      // struct msqid64_ds
      memory.writable(at, 120).fill(0);
      writeOwner(thread, at, queue, queue.mode);
      [queue.sent, queue.received, queue.changed, queue.bytes, queue.messages.length, queue.most].forEach(
        (value, index) => memory.setI64(at + 48 + 8 * index, value),
      );
      memory.setU32(at + 96, queue.sender);
      memory.setU32(at + 100, queue.receiver);
      return byPlace ? queue.id : 0;
    default:
      throw new Errno(E.INVAL);
  }
}

export const systemVMessageCalls = ofThreads({
  msgget: (thread, a) => openQueue(thread, a[0] | 0, a[1] | 0),
  msgsnd: (thread, a) => send(thread, a[0] | 0, a[1], a[2], a[3] | 0),
  msgrcv: (thread, a) => receive(thread, a[0] | 0, a[1], a[2], a[3], a[4] | 0),
  msgctl: (thread, a) => control(thread, a[0] | 0, a[1] | 0, a[2]),
});
