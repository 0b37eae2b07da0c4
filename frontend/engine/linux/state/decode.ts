/** Makes the objects that encode.ts has written, in a fresh machine: what that has already is filled, the rest is made. */

import type { LinuxKernel } from "../kernel.ts";
import type { AddressSpace } from "../memory/space.ts";
import { ProcFileSystem } from "../vfs/proc/filesystem.ts";
import { ProcDirectory, type ProcInode, ProcText } from "../vfs/proc/nodes.ts";
import { Remembered } from "../vfs/remembered.ts";
import type { Vfs } from "../vfs/vfs.ts";
import { findAnchor } from "./anchors.ts";
import { classNameOf, prototypeOf, transientOf } from "./classes.ts";
import { type ReadBlock, StateError } from "./contract.ts";
import type { Entry, Value, Written } from "./encode.ts";
import { rememberPlaces } from "./places.ts";
import { restoreSpace, type SpacePages } from "./spaces.ts";
import { E, Errno } from "../errno.ts";
import { PAGE_SIZE } from "../abi.ts";

const VIEWS = { Uint8Array, Int32Array, Uint32Array, Uint16Array, Int16Array, Float64Array };

/** What the restored machine is made from. */
export interface Fresh {
  /** As they were given to `nameAnchors`. */
  roots: Record<string, object>;
  kernel: LinuxKernel;
  vfs: Vfs;
  read: ReadBlock;
}

export class Decoder {
  /** Address spaces and where their pages come from. */
  readonly spaces = new Map<AddressSpace, SpacePages>();
  private readonly written: Written;
  private readonly fresh: Fresh;
  private readonly objects: object[] = [];
  private readonly used = new Set<object>();
  private readonly functions = new Map<string, object>();

  constructor(written: Written, fresh: Fresh) {
    this.written = written;
    this.fresh = fresh;
  }

  /** The root and all that belongs to it. Throws `StateError`. */
  decode(): object {
    const { objects } = this.written;
    this.findFunctions();
    const anchored = objects.map((entry) => this.anchored(entry));
    for (const [i, entry] of objects.entries()) this.objects[i] ??= anchored[i] ?? this.make(entry);
    for (const [i, entry] of objects.entries()) this.fill(this.objects[i]!, entry);
    // Only now processes are there to be looked for.
    for (const [i, entry] of objects.entries())
      if (entry[0] === "q") this.findInProc(this.objects[i]!, entry);
    const root = this.objects[0];
    if (root === undefined) throw new StateError("bad_state", "The saved machine is empty.");
    return root;
  }

  /** All objects of a class. */
  *every<T extends object>(kind: abstract new (...a: never[]) => T): Iterable<T> {
    for (const object of this.objects) if (object instanceof kind) yield object;
  }

  /** What a fresh machine has at that place, when it is of the same kind and nobody else is it. */
  private anchored(entry: Entry): object | undefined {
    const [kind, path] = entry;
    if (path === 0) return undefined;
    const found = findAnchor(this.fresh.roots, path);
    if (kind === "h") {
      if (found === undefined)
        throw new StateError("state_version", `The saved machine names ${path}, which is not there.`);
      return found;
    }
    if (found === undefined || this.used.has(found) || !this.isAlike(found, entry)) return undefined;
    this.used.add(found);
    return found;
  }

  private isAlike(found: object, entry: Entry): boolean {
    switch (entry[0]) {
      case "a":
        return Array.isArray(found);
      case "m":
        return found instanceof Map;
      case "s":
        return found instanceof Set;
      case "r":
        return found instanceof Remembered;
      default:
        return classNameOf(found) === this.shape(entry)[0] && !Array.isArray(found);
    }
  }

  private shape(entry: Entry): string[] {
    const shape = this.written.shapes[entry[2] as number];
    if (shape === undefined || shape.includes("__proto__"))
      throw new StateError("bad_state", "The saved machine has an object of no kind.");
    return shape;
  }

  private make(entry: Entry): object {
    switch (entry[0]) {
      case "a":
        return [];
      case "m":
        return new Map();
      case "s":
        return new Set();
      case "r":
        return new Remembered();
      case "y":
        return Uint8Array.from(atob(entry[2] as string), (c) => c.charCodeAt(0)).buffer;
      case "p":
        return this.buffer(entry[2] as number, entry.slice(3) as number[]);
      case "v":
        return this.view(entry);
      case "x":
        return this.space(entry);
      case "q":
        return entry[2] === ""
          ? this.procfs(entry[4] as number)
          : (Object.create(this.prototype(entry[2] as string)) as object);
      case "o":
        return Object.create(this.prototype(this.shape(entry)[0]!)) as object;
      default:
        throw new StateError("bad_state", `The saved machine has an object of kind ${entry[0]}.`);
    }
  }

  private prototype(name: string): object {
    const prototype = prototypeOf(name);
    if (prototype === undefined)
      throw new StateError(
        "state_version",
        `The saved machine has a ${name}, which this version does not know.`,
      );
    return prototype;
  }

  private buffer(size: number, places: number[]): ArrayBuffer {
    const bytes = new Uint8Array(places.length * PAGE_SIZE);
    places.forEach((place, i) => {
      const block = this.fresh.read(place);
      if (block !== undefined) bytes.set(block, i * PAGE_SIZE);
    });
    const buffer = bytes.buffer.slice(0, size);
    rememberPlaces(buffer, places);
    return buffer;
  }

  /** Views come behind objects that are made without them, so their buffers may not be there yet. */
  private view(entry: Entry): object {
    const [, , name, reference, offset, length] = entry as [
      string,
      0,
      keyof typeof VIEWS | "DataView",
      [number],
      number,
      number,
    ];
    const [number] = reference;
    this.objects[number] ??= this.make(this.written.objects[number]!);
    const buffer = this.objects[number] as ArrayBuffer;
    if (name === "DataView") return new DataView(buffer, offset, length);
    const View = VIEWS[name];
    if (View === undefined) throw new StateError("state_version", `The saved machine has a ${name}.`);
    return new View(buffer, offset, length / View.BYTES_PER_ELEMENT);
  }

  private space(entry: Entry): object {
    const [, , users, filled, ...runs] = entry as [string, 0, number, number, ...number[]];
    const space = restoreSpace(this.fresh.kernel.pool, runs, this.fresh.read);
    space.users = users;
    space.filled = filled;
    this.spaces.set(space, runs);
    return space;
  }

  private procfs(dev: number): object {
    return Object.assign(new ProcFileSystem(this.fresh.vfs, this.fresh.kernel), { dev });
  }

  private value(value: Value): unknown {
    if (!Array.isArray(value)) return value;
    const [kind, text] = value;
    if (typeof kind === "number") {
      const object = this.objects[kind];
      if (object === undefined)
        throw new StateError("bad_state", "The saved machine names an object that is not there.");
      return object;
    }
    switch (kind) {
      case "u":
        return undefined;
      case "n":
        return Number(text);
      case "b":
        return BigInt(text!);
      default: {
        const found = this.functions.get(text!);
        if (found === undefined) throw new StateError("bad_state", "The saved machine calls nothing.");
        return found;
      }
    }
  }

  /** Before anything is filled: the way to a function may lead through what is. */
  private findFunctions(): void {
    for (const entry of this.written.objects) {
      for (const value of entry) {
        if (!Array.isArray(value) || value[0] !== "f") continue;
        const path = value[1] as string;
        if (this.functions.has(path)) continue;
        const found = findAnchor(this.fresh.roots, path);
        if (typeof found !== "function") {
          throw new StateError("state_version", `The saved machine calls ${path}, which is not there.`);
        }
        this.functions.set(path, found);
      }
    }
  }

  private fill(object: object, entry: Entry): void {
    const values = (from: number): unknown[] =>
      (entry.slice(from) as Value[]).map((value) => this.value(value));
    switch (entry[0]) {
      case "a": {
        const array = object as unknown[];
        array.length = 0;
        for (const value of values(2)) array.push(value);
        return;
      }
      case "m": {
        const map = object as Map<unknown, unknown>;
        map.clear();
        const parts = values(2);
        for (let at = 0; at < parts.length; at += 2) map.set(parts[at], parts[at + 1]);
        return;
      }
      case "s": {
        const set = object as Set<unknown>;
        set.clear();
        for (const value of values(2)) set.add(value);
        return;
      }
      case "r": {
        const parts = values(2);
        const cache = object as Remembered<unknown, object>;
        for (let at = 0; at < parts.length; at += 2) cache.set(parts[at], parts[at + 1] as object);
        return;
      }
      case "o":
        this.fillObject(object as Record<string, unknown>, entry, values(3));
        return;
      default:
    }
  }

  private fillObject(object: Record<string, unknown>, entry: Entry, values: unknown[]): void {
    const [name, ...fields] = this.shape(entry) as [string, ...string[]];
    fields.forEach((field, i) => (object[field] = values[i]));
    if (this.used.has(object)) return;
    for (const [field, initial] of Object.entries(transientOf(name))) object[field] = initial();
  }

  private findInProc(into: object, entry: Entry): void {
    if (entry[2] === "") return;
    const path = entry[3] as string;
    const fs = this.value(entry[4] as Value) as ProcFileSystem;
    let at: ProcInode | undefined = fs.root;
    try {
      for (const name of path.split("/").slice(1))
        at = at instanceof ProcDirectory ? at.lookup(name) : undefined;
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      at = undefined;
    }
    if (at !== undefined && Object.getPrototypeOf(at) === Object.getPrototypeOf(into))
      Object.assign(into, at);
    else Object.assign(into, this.goneFromProc(fs, path, into));
  }

  /** Of a process that has ended: somebody still has the file open, and reads an error. */
  private goneFromProc(fs: ProcFileSystem, path: string, into: object): object {
    const gone = (): never => {
      throw new Errno(E.SRCH);
    };
    if (into instanceof ProcDirectory)
      return new ProcDirectory(fs, path, { names: () => [], find: () => undefined });
    return Object.assign(new ProcText(fs, path, gone), { text: gone, place: gone });
  }
}
