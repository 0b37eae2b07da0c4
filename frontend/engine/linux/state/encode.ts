/**
 * Writes the objects of a machine down. All that can be reached from it is walked once: plain objects, arrays, maps, sets, buffers and objects
 * of known classes (classes.ts); the rest must be what a fresh machine has at the same place (anchors.ts).
 */

import type { Maps } from "../memory/maps.ts";
import { AddressSpace } from "../memory/space.ts";
import { ProcDirectory, ProcInode, ProcLink, ProcText } from "../vfs/proc/nodes.ts";
import { ProcFileSystem } from "../vfs/proc/filesystem.ts";
import { Remembered } from "../vfs/remembered.ts";
import { WaitQueue } from "../wait.ts";
import type { Anchors } from "./anchors.ts";
import { classNameOf, transientOf } from "./classes.ts";
import { StateError } from "./contract.ts";
import type { Places } from "./places.ts";
import { placePages } from "./spaces.ts";

/** A number in an array of one: an object's number. ["u"], ["n", text], ["b", digits], ["f", anchor]: what JSON lacks. */
export type Value = null | boolean | number | string | [number] | [string] | [string, string];
/** Kind, anchor or 0, and what the kind has (decode.ts reads them). */
export type Entry = [string, string | 0, ...unknown[]];

export interface Written {
  /** Class and fields. */
  shapes: string[][];
  objects: Entry[];
}

/** Smaller buffers are in the text. */
const LARGE = 2048;
/** No buffer of ours is as large; a wasm memory is. */
const TOO_LARGE = 32 * 1024 * 1024;

export interface Spaces {
  /** Whose address space it is, and which of its pages are saved. */
  get(space: AddressSpace): { maps: Maps; pages: number[] } | undefined;
}

export class Encoder {
  private readonly anchors: Anchors;
  private readonly places: Places;
  private readonly spaces: Spaces;
  private readonly numbers = new Map<object, number>();
  private readonly queue: object[] = [];
  private readonly shapes = new Map<string, number>();
  private readonly objects: Entry[] = [];
  private readonly remembered: Remembered<unknown, object>[] = [];
  private readonly found: { maps: Maps; pages: number[]; entry: Entry }[] = [];
  private readonly buffers: { buffer: ArrayBuffer; entry: Entry }[] = [];
  /** What led to an object, for error messages. */
  private readonly from = new Map<object, [object, string]>();

  constructor(anchors: Anchors, places: Places, spaces: Spaces) {
    this.anchors = anchors;
    this.places = places;
    this.spaces = spaces;
  }

  /** Object 0 is `root`. Throws `StateError` for what cannot be written. */
  encode(root: object): Written {
    this.number(root);
    for (let at = 0; at < this.queue.length; at += 1) this.objects[at] = this.entry(this.queue[at]!);
    this.place();
    // Caches hold only what somebody else holds too, and that is known now.
    for (const cache of this.remembered) this.encodeRemembered(cache);
    return {
      shapes: [...this.shapes.keys()].map((text) => JSON.parse(text) as string[]),
      objects: this.objects,
    };
  }

  private number(object: object): number {
    let number = this.numbers.get(object);
    if (number === undefined) {
      number = this.queue.push(object) - 1;
      this.numbers.set(object, number);
    }
    return number;
  }

  private value(value: unknown, owner: object, name: string): Value {
    switch (typeof value) {
      case "string":
      case "boolean":
        return value;
      case "number":
        return Number.isFinite(value) && !Object.is(value, -0)
          ? value
          : ["n", Object.is(value, -0) ? "-0" : String(value)];
      case "undefined":
        return ["u"];
      case "bigint":
        return ["b", String(value)];
      case "function": {
        const anchor = this.anchors.get(value);
        if (anchor === undefined) throw this.refuse(owner, name, "a function");
        return ["f", anchor];
      }
      case "object":
        if (value === null) return null;
        if (!this.from.has(value)) this.from.set(value, [owner, name]);
        return [this.number(value)];
      default:
        throw this.refuse(owner, name, `a ${typeof value}`);
    }
  }

  private refuse(owner: object, name: string, what: string): StateError {
    const path = [name];
    for (let at: object | undefined = owner; at !== undefined && path.length < 12;) {
      path.unshift(at.constructor?.name ?? "object");
      const before = this.from.get(at);
      if (before !== undefined) path.unshift(before[1]);
      at = before?.[0];
    }
    return new StateError("bad_state", `The machine holds ${what} that can't be saved: ${path.join(".")}`);
  }

  private entry(object: object): Entry {
    const anchor = this.anchors.get(object) ?? 0;
    if (Array.isArray(object)) {
      return [
        "a",
        anchor,
        ...Array.from(object, (value: unknown, i) => this.value(value, object, String(i))),
      ];
    }
    if (object instanceof Map) {
      const parts: Value[] = [];
      for (const [key, value] of object) {
        parts.push(this.value(key, object, "key"), this.value(value, object, String(key)));
      }
      return ["m", anchor, ...parts];
    }
    if (object instanceof Set) {
      return ["s", anchor, ...[...object].map((value) => this.value(value, object, "element"))];
    }
    if (object instanceof ArrayBuffer) return this.bufferEntry(object);
    if (ArrayBuffer.isView(object)) {
      const { buffer, byteOffset, byteLength } = object;
      return ["v", 0, object.constructor.name, this.value(buffer, object, "buffer"), byteOffset, byteLength];
    }
    if (object instanceof AddressSpace) return this.spaceEntry(object);
    if (object instanceof ProcDirectory || object instanceof ProcText || object instanceof ProcLink) {
      return this.procEntry(object, anchor);
    }
    const name = classNameOf(object);
    if (name === undefined) {
      if (anchor === 0) {
        const [owner, field] = this.from.get(object) ?? [object, ""];
        throw this.refuse(owner, field, `a ${object.constructor.name}`);
      }
      return ["h", anchor];
    }
    if (object instanceof ProcFileSystem && anchor === 0) return ["q", 0, "", "", object.dev];
    if (object instanceof Remembered) {
      this.remembered.push(object);
      return ["r", anchor];
    }
    return this.objectEntry(object, name, anchor);
  }

  private objectEntry(object: object, name: string, anchor: string | 0): Entry {
    const transient = transientOf(name);
    const fields = Object.keys(object).filter((field) => !Object.hasOwn(transient, field));
    const values = fields.map((field): Value => {
      let value = (object as Record<string, unknown>)[field];
      if (object instanceof WaitQueue && value instanceof Set) value = this.guestWaiters(value);
      return this.value(value, object, field);
    });
    const text = JSON.stringify([name, ...fields]);
    let shape = this.shapes.get(text);
    if (shape === undefined) this.shapes.set(text, (shape = this.shapes.size));
    return ["o", anchor, shape, ...values];
  }

  /** Without the host's own, which are plain objects: they go with it. */
  private guestWaiters(waiters: Set<unknown>): Set<unknown> {
    const isHosts = (waiter: unknown): boolean => Object.getPrototypeOf(waiter) === Object.prototype;
    return [...waiters].some(isHosts) ? new Set([...waiters].filter((waiter) => !isHosts(waiter))) : waiters;
  }

  private bufferEntry(buffer: ArrayBuffer): Entry {
    const size = buffer.byteLength;
    if (size >= TOO_LARGE) {
      const [owner, field] = this.from.get(buffer)!;
      throw this.refuse(owner, field, "a view of an address space");
    }
    if (size >= LARGE) {
      const entry: Entry = ["p", 0, size];
      this.buffers.push({ buffer, entry });
      return entry;
    }
    let text = "";
    for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
    return ["y", 0, btoa(text)];
  }

  private spaceEntry(space: AddressSpace): Entry {
    const entry: Entry = ["x", 0, space.users, space.filled];
    const found = this.spaces.get(space);
    if (found !== undefined) this.found.push({ ...found, entry });
    return entry;
  }

  /** First everything takes the place that it had: what is new must not be there before. */
  private place(): void {
    for (const { maps, pages } of this.found) this.places.claimPages(maps.paging.places, pages);
    for (const { buffer } of this.buffers) this.places.claimBuffer(buffer);
    for (const { maps, pages, entry } of this.found) entry.push(...placePages(maps, pages, this.places));
    for (const { buffer, entry } of this.buffers) entry.push(...this.places.placeBuffer(buffer));
  }

  /** procfs makes its inodes when they are looked for: by name. */
  private procEntry(inode: ProcInode, anchor: string | 0): Entry {
    if (anchor !== 0) return ["h", anchor];
    return ["q", 0, classNameOf(inode)!, inode.path, this.value(inode.fs, inode, "fs")];
  }

  private encodeRemembered(cache: Remembered<unknown, object>): void {
    const entry = this.objects[this.numbers.get(cache)!]!;
    for (const [key, value] of cache.all()) {
      const number = this.numbers.get(value);
      if (number !== undefined) entry.push(this.value(key, cache, "key"), [number]);
    }
  }
}
