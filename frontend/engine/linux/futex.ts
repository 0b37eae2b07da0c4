/** Futexes: who waits at which word, and what happens to them when a thread ends. */

import type { Backing } from "./memory/areas.ts";
import { Errno } from "./errno.ts";
import type { Maps } from "./memory/maps.ts";
import type { Thread } from "./task.ts";

const FUTEX_OWNER_DIED = 0x40000000;
const FUTEX_WAITERS = 0x80000000;
const TID_MASK = 0x3fffffff;
const ROBUST_LIST_LIMIT = 2048;

/** Where a word is, for all who share it. */
export interface FutexKey {
  /** Its address space, or what they have mapped. */
  memory: Maps | Backing;
  text: string;
}

export class Futexes {
  static readonly transient = { names: () => new WeakMap() };
  private readonly waiting = new Map<string, Thread[]>();
  /** Names for what words lie in. */
  private readonly names = new WeakMap<object, number>();
  private nextName = 1;

  /** What identifies the word at `address`: the same for all who share the memory. */
  key(maps: Maps, address: number, isPrivate: boolean): FutexKey {
    const area = isPrivate ? undefined : maps.areas.find(address);
    const shared = area?.shared === true ? area.backing : undefined;
    const memory: FutexKey["memory"] = shared ?? maps;
    const at = shared === undefined ? address : area!.offset + (address - area!.start);
    let name = this.names.get(memory);
    if (name === undefined) {
      name = this.nextName++;
      this.names.set(memory, name);
    }
    return { memory, text: `${name}:${at}` };
  }

  /** Names go with a machine that is saved only as far as somebody waits. */
  restored(): void {
    for (const [text, threads] of this.waiting) {
      for (const thread of threads) this.names.set(thread.futex!.key.memory, Number(text.split(":")[0]));
    }
  }

  add(thread: Thread, key: FutexKey, bitset: number): void {
    thread.futex = { key, bitset };
    const list = this.waiting.get(key.text);
    if (list === undefined) this.waiting.set(key.text, [thread]);
    else list.push(thread);
  }

  /** The thread no longer waits. */
  forget(thread: Thread): void {
    if (thread.futex === undefined) return;
    const list = this.waiting.get(thread.futex.key.text);
    const at = list?.indexOf(thread) ?? -1;
    if (list !== undefined && at >= 0) {
      list.splice(at, 1);
      if (list.length === 0) this.waiting.delete(thread.futex.key.text);
    }
    thread.futex = undefined;
  }

  /** Wakes at most `count` of those whose bitset meets `bitset`. */
  wake(key: FutexKey, count: number, bitset = 0xffffffff): number {
    const list = this.waiting.get(key.text);
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

  requeue(from: FutexKey, to: FutexKey, count: number): number {
    const list = this.waiting.get(from.text);
    if (list === undefined || from.text === to.text) return 0;
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
  first(key: FutexKey): Thread | undefined {
    return this.waiting.get(key.text)?.[0];
  }

  waiters(key: FutexKey): number {
    return this.waiting.get(key.text)?.length ?? 0;
  }
}

/** Wakes at a word that a thread's end has changed: shared and private waiters alike. */
function wakeBoth(thread: Thread, address: number, count: number): void {
  const { futexes } = thread.process.kernel;
  const shared = futexes.key(thread.maps, address, false);
  const own = futexes.key(thread.maps, address, true);
  const woken = futexes.wake(own, count);
  if (shared.text !== own.text && woken < count) futexes.wake(shared, count - woken);
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
