/** System V IPC: shared memory segments, semaphores and message queues of a machine. Plain data but for the queues. */

import type { Credentials } from "./types.ts";
import { E, Errno } from "./errno.ts";
import type { SharedMemory } from "./memory/shared.ts";
import { WaitQueue } from "./wait.ts";

export const IPC_CREAT = 0o1000;
export const IPC_EXCL = 0o2000;
export const IPC_PRIVATE = 0;
/** In the mode of a segment that goes as soon as nobody has it. */
export const SHM_DEST = 0o1000;

/** What this machine allows: its ipcs -l. */
export const IPC_LIMITS = {
  segments: 4096,
  segmentBytes: 1024 ** 3,
  /** Of all segments. */
  pages: 4096 * 2 ** 18,
  sets: 32000,
  /** Semaphores of a set, operations of a call, and the highest value. */
  semaphores: 32000,
  operations: 500,
  value: 32767,
  queues: 32000,
  messageBytes: 8192,
  /** Of a queue, unless its owner says otherwise. */
  queueBytes: 16384,
} as const;

export interface Owned {
  id: number;
  key: number;
  mode: number;
  uid: number;
  gid: number;
  cuid: number;
  cgid: number;
  /** Seconds since 1970. */
  changed: number;
}

export interface Segment extends Owned {
  size: number;
  memory: SharedMemory;
  /** Removed as soon as nobody has it. */
  removed: boolean;
  creator: number;
  lastPid: number;
  attachTime: number;
  detachTime: number;
}

export interface Semaphore {
  value: number;
  pid: number;
}

export interface SemaphoreSet extends Owned {
  semaphores: Semaphore[];
  operated: number;
  queue: WaitQueue;
}

export interface Message {
  type: number;
  text: Uint8Array;
}

export interface SystemVQueue extends Owned {
  /** In the order in which they came. */
  messages: Message[];
  /** Of their texts. */
  bytes: number;
  /** How many bytes, and how many messages, may be there. */
  most: number;
  sender: number;
  receiver: number;
  sent: number;
  received: number;
  queue: WaitQueue;
}

/** What a process's end takes back (SEM_UNDO): by set and semaphore. */
export type Undo = Map<string, number>;

export class Objects<T extends Owned> {
  private readonly objects = new Map<number, T>();
  private next = 0;

  /** EINVAL for a number that is none, as the calls say. */
  get(id: number): T {
    const found = this.objects.get(id);
    if (found === undefined) throw new Errno(E.INVAL);
    return found;
  }

  find(id: number): T | undefined {
    return this.objects.get(id);
  }

  get size(): number {
    return this.objects.size;
  }

  /** What `get` calls do: the object with that key, or a new one unless there are `most`. */
  open(key: number, flags: number, who: Credentials, most: number, make: (owned: Owned) => T): T {
    if (key !== IPC_PRIVATE) {
      for (const object of this.objects.values()) {
        if (object.key !== key) continue;
        if ((flags & IPC_CREAT) !== 0 && (flags & IPC_EXCL) !== 0) throw new Errno(E.EXIST);
        mustAllow(object, who, (flags >>> 6) & 6);
        return object;
      }
      if ((flags & IPC_CREAT) === 0) throw new Errno(E.NOENT);
    }
    if (this.objects.size >= most) throw new Errno(E.NOSPC);
    const owner = { uid: who.euid, gid: who.egid, cuid: who.euid, cgid: who.egid };
    const object = make({ id: this.next, key, mode: flags & 0o777, ...owner, changed: 0 });
    this.next += 1;
    this.objects.set(object.id, object);
    return object;
  }

  remove(object: T): void {
    this.objects.delete(object.id);
  }

  values(): Iterable<T> {
    return this.objects.values();
  }
}

/** `wanted`: 4 to read, 2 to write. */
export function mustAllow(object: Owned, who: Credentials, wanted: number): void {
  if (who.euid === 0) return;
  const owner = who.euid === object.uid || who.euid === object.cuid;
  const member = [who.egid, ...who.groups].some((gid) => gid === object.gid || gid === object.cgid);
  const granted = object.mode >>> (owner ? 6 : member ? 3 : 0);
  if ((wanted & ~granted) !== 0) throw new Errno(E.ACCES);
}

export function mustOwn(object: Owned, who: Credentials): void {
  if (who.euid !== 0 && who.euid !== object.uid && who.euid !== object.cuid) throw new Errno(E.PERM);
}

export class Ipc {
  readonly segments = new Objects<Segment>();
  readonly semaphores = new Objects<SemaphoreSet>();
  readonly queues = new Objects<SystemVQueue>();

  /** Removed segments go when nobody has them mapped any more. */
  sweep(): void {
    for (const segment of [...this.segments.values()]) {
      if (!segment.removed || segment.memory.holders > 1) continue;
      this.segments.remove(segment);
      segment.memory.drop();
    }
  }

  /** A process ends: SEM_UNDO. */
  undo(undo: Undo): void {
    for (const [name, adjustment] of undo) {
      const [id, index] = name.split(":").map(Number);
      const set = this.semaphores.find(id!);
      const semaphore = set?.semaphores[index!];
      if (set === undefined || semaphore === undefined) continue;
      semaphore.value = Math.max(0, semaphore.value + adjustment);
      set.queue.wake();
    }
    undo.clear();
  }
}
