/** What ipcs(1) and lsipc(1) ask of System V IPC: limits, what is in use, objects by their place (shmctl(2), semctl(2), msgctl(2)). */

import { PAGE_SIZE } from "../abi.ts";
import { E, Errno } from "../errno.ts";
import { IPC_LIMITS, type Objects, type Owned } from "../ipc.ts";
import type { Thread } from "../task.ts";

export const IPC_INFO = 3;
const { segmentBytes, segments, pages, sets, semaphores, operations, value } = IPC_LIMITS;
const { queues, messageBytes, queueBytes } = IPC_LIMITS;
/** Numbers of long ago that Linux makes up from others. */
const MESSAGE_SEGMENT = 16;
const MESSAGE_SEGMENTS = 0xffff;
const UNDO_SIZE = 20;

/** The object at that place. EINVAL: there is none. */
export function atPlace<T extends Owned>(objects: Objects<T>, place: number): T {
  const found = [...objects.values()][place];
  if (found === undefined) throw new Errno(E.INVAL);
  return found;
}

/** The last place that is taken, which is what the calls for information return. */
function lastPlace(objects: Objects<Owned>): number {
  return Math.max(0, objects.size - 1);
}

/** struct shminfo64, or with `used` struct shm_info. */
export function tellSegments(thread: Thread, at: number, used: boolean): number {
  const { memory } = thread;
  const { ipc } = thread.process.kernel;
  const numbers = used ? [ipc.segments.size, 0, 0, 0, 0, 0] : [segmentBytes, 1, segments, segments, pages];
  if (used) {
    for (const segment of ipc.segments.values()) {
      numbers[1]! += segment.memory.size / PAGE_SIZE;
      numbers[2]! += segment.memory.pages.size;
    }
  }
  memory.writable(at, used ? 48 : 72).fill(0);
  numbers.forEach((number, index) => memory.setI64(at + 8 * index, number));
  return lastPlace(ipc.segments);
}

function setNumbers(thread: Thread, at: number, numbers: readonly number[]): void {
  numbers.forEach((number, index) => thread.memory.setU32(at + 4 * index, number));
}

/** struct seminfo; with `used` its sizes are numbers of sets and semaphores. */
export function tellSets(thread: Thread, at: number, used: boolean): number {
  const all = [...thread.process.kernel.ipc.semaphores.values()];
  const inSets = all.reduce((sum, set) => sum + set.semaphores.length, 0);
  const most = sets * semaphores;
  const last = used ? [all.length, value, inSets] : [UNDO_SIZE, value, value];
  setNumbers(thread, at, [most, sets, most, most, semaphores, operations, operations, ...last]);
  return lastPlace(thread.process.kernel.ipc.semaphores);
}

/** struct msginfo; with `used` pool, map and headers are queues, messages and their bytes. */
export function tellQueues(thread: Thread, at: number, used: boolean): number {
  const all = [...thread.process.kernel.ipc.queues.values()];
  const messages = all.reduce((sum, queue) => sum + queue.messages.length, 0);
  const bytes = all.reduce((sum, queue) => sum + queue.bytes, 0);
  const [pool, map, headers] = used
    ? [all.length, messages, bytes]
    : [(queues * queueBytes) / 1024, queueBytes, queueBytes];
  const limits = [messageBytes, queueBytes, queues, MESSAGE_SEGMENT];
  setNumbers(thread, at, [pool!, map!, ...limits, headers!, MESSAGE_SEGMENTS]);
  return lastPlace(thread.process.kernel.ipc.queues);
}
