/** Futexes: who waits at which word, and what happens to them when a thread ends. */

import type { Backing } from "./memory/areas.ts";
import { Errno } from "./errno.ts";
import type { Maps } from "./memory/maps.ts";
import type { Thread } from "./task.ts";

const FUTEX_OWNER_DIED = 0x40000000;
const FUTEX_WAITERS = 0x80000000;
const TID_MASK = 0x3fffffff;
const ROBUST_LIST_LIMIT = 2048;

export class Futexes {
  private readonly waiting = new Map<string, Thread[]>();
  /** Names for what shared words lie in; process-private ones are named by their address space. */
  private readonly names = new WeakMap<object, number>();
  private nextName = 1;

  private keyOf(of: object): number {
    let name = this.names.get(of);
    if (name === undefined) {
      name = this.nextName++;
      this.names.set(of, name);
    }
    return name;
  }

  /** What identifies the word at `address`: the same for all who share the memory. */
  key(maps: Maps, address: number, isPrivate: boolean): string {
    const area = isPrivate ? undefined : maps.areas.find(address);
    if (area?.shared === true && area.backing !== undefined) {
      const backing: Backing = area.backing;
      return `s${this.keyOf(backing)}:${area.offset + (address - area.start)}`;
    }
    return `p${this.keyOf(maps)}:${address}`;
  }

  add(thread: Thread, key: string, bitset: number): void {
    thread.futex = { key, bitset };
    const list = this.waiting.get(key);
    if (list === undefined) this.waiting.set(key, [thread]);
    else list.push(thread);
  }

  /** The thread no longer waits. */
  forget(thread: Thread): void {
    if (thread.futex === undefined) return;
    const list = this.waiting.get(thread.futex.key);
    const at = list?.indexOf(thread) ?? -1;
    if (list !== undefined && at >= 0) {
      list.splice(at, 1);
      if (list.length === 0) this.waiting.delete(thread.futex.key);
    }
    thread.futex = undefined;
  }

  /** Wakes at most `count` of those whose bitset meets `bitset`. */
  wake(key: string, count: number, bitset = 0xffffffff): number {
    const list = this.waiting.get(key);
    if (list === undefined) return 0;
    let woken = 0;
    for (const thread of [...list]) {
      if (woken >= count) break;
      if ((thread.futex!.bitset & bitset) === 0) continue;
      this.forget(thread);
      thread.restart = { ...thread.restart, woken: 1 };
      thread.queue.wake();
      woken += 1;
    }
    return woken;
  }

  requeue(from: string, to: string, count: number): number {
    const list = this.waiting.get(from);
    if (list === undefined || from === to) return 0;
    let moved = 0;
    for (const thread of [...list]) {
      if (moved >= count) break;
      const { bitset } = thread.futex!;
      this.forget(thread);
      this.add(thread, to, bitset);
      moved += 1;
    }
    return moved;
  }

  /** Who has waited longest. */
  first(key: string): Thread | undefined {
    return this.waiting.get(key)?.[0];
  }

  waiters(key: string): number {
    return this.waiting.get(key)?.length ?? 0;
  }
}

/** Wakes at a word that a thread's end has changed: shared and private waiters alike. */
function wakeBoth(thread: Thread, address: number, count: number): void {
  const { futexes } = thread.process.kernel;
  const shared = futexes.key(thread.maps, address, false);
  const own = futexes.key(thread.maps, address, true);
  const woken = futexes.wake(own, count);
  if (shared !== own && woken < count) futexes.wake(shared, count - woken);
}

function releaseRobust(thread: Thread, word: number): void {
  if (word % 4 !== 0) return;
  const { memory } = thread;
  const value = memory.getU32(word);
  if ((value & TID_MASK) !== thread.tid) return;
  memory.setU32(word, ((value & FUTEX_WAITERS) | FUTEX_OWNER_DIED) >>> 0);
  if ((value & FUTEX_WAITERS) !== 0) wakeBoth(thread, word, 1);
}

function walkRobustList(thread: Thread, head: number): void {
  const { memory } = thread;
  const offset = memory.getI64(head + 8);
  const pending = memory.getI64(head + 16);
  // The lowest bit of an entry says that it is a PI futex.
  let entry = memory.getI64(head);
  for (let count = 0; count < ROBUST_LIST_LIMIT; count += 1) {
    const at = entry - (entry % 2);
    if (at === head || at === 0) break;
    const next = memory.getI64(at);
    if (at !== pending - (pending % 2)) releaseRobust(thread, at + offset);
    entry = next;
  }
  if (pending !== 0) releaseRobust(thread, pending - (pending % 2) + offset);
}

/** A thread ends: its robust list, and whoever joins it. */
export function exitFutexes(thread: Thread): void {
  const { kernel } = thread.process;
  kernel.futexes.forget(thread);
  const robust = thread.robustList;
  const clear = thread.clearChildTid;
  thread.robustList = 0;
  thread.clearChildTid = 0;
  if (robust === 0 && clear === 0) return;
  try {
    if (robust !== 0) walkRobustList(thread, robust);
    // Nobody is left to see it when the address space goes.
    if (clear !== 0 && thread.maps.space.users > 1) {
      thread.memory.setU32(clear, 0);
      wakeBoth(thread, clear, 1);
    }
  } catch (error) {
    // A wild pointer given by the program harms only itself.
    if (!(error instanceof Errno)) throw error;
  }
}
