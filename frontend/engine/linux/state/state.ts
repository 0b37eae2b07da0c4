/** Saving a machine whole, and bringing it back: docs/design/engine.md, "Saving". */

import { PAGE_SIZE } from "../abi.ts";
import type { Host } from "../kernel.ts";
import { Machine } from "../machine.ts";
import { Maps } from "../memory/maps.ts";
import type { AddressSpace } from "../memory/space.ts";
import type { Time } from "../types.ts";
import { Store } from "../vfs/ext4/store.ts";
import { MemoryFileSystem } from "../vfs/memory-fs.ts";
import { makeRoot } from "../vfs/root.ts";
import type { Vfs } from "../vfs/vfs.ts";
import { type Anchors, nameAnchors } from "./anchors.ts";
import { type ReadBlock, type StateBlock, StateError } from "./contract.ts";
import { Decoder } from "./decode.ts";
import { Encoder, type Written } from "./encode.ts";
import { Places } from "./places.ts";
import { adoptPages, neededPages } from "./spaces.ts";

/** Goes up with every change of what is written. */
export const LAYOUT = 6;
const MAGIC = 0x4d56_4c57;
const HEADER_WORDS = 4;
/** Blocks for the text behind those of the memory: `STATE_BLOCKS` less the page's own (machine.ts of the service). */
const TEXT_BLOCKS = 8192 - 65;
const PAGES_PER_MIB = 256;
/** Of all places, those that only pages of processes and of files in memory take: the rest is for buffers. */
const FOR_PAGES = 7 / 8;

interface Text extends Written {
  /** Nanoseconds since the machine began. */
  monotonic: number;
}

/** What belongs to the host and is named in a saved machine: its disk, streams. */
export type HostObjects = Readonly<Record<string, object>>;

export interface MachineOptions {
  host: Host;
  module: WebAssembly.Module;
  memoryMib: number;
  /** How many ttyS it has; 8 when nobody says. */
  terminals?: number;
  hostObjects: HostObjects;
}

interface Saveable {
  options: MachineOptions;
  anchors: Anchors;
}

const saveables = new WeakMap<Machine, Saveable>();

function rootsOf(machine: Machine, options: MachineOptions): Record<string, object> {
  return { ...options.hostObjects, machine };
}

/** A machine that can be saved. Nothing may run in it before. */
export function makeMachine(vfs: Vfs, options: MachineOptions): Machine {
  const { host, module, memoryMib, terminals } = options;
  const pages = Math.floor(memoryMib * PAGES_PER_MIB * FOR_PAGES);
  const machine = new Machine(host, vfs, module, { pages, terminals });
  saveables.set(machine, { options, anchors: nameAnchors(rootsOf(machine, options)) });
  return machine;
}

/** Something of the host's that came later: it is the same object in the restored machine. */
export function addHostObject(machine: Machine, name: string, object: object): void {
  const saveable = saveables.get(machine)!;
  saveable.options = {
    ...saveable.options,
    hostObjects: { ...saveable.options.hostObjects, [name]: object },
  };
  saveable.anchors.set(object, name);
}

/**
 * The whole machine at this instant, between two steps: all blocks that are not zeros. Writes to the disk what its files have in memory:
 * throws `Block` while that waits for the disk (nothing is lost: try again), `StateError` for what cannot be saved.
 */
export function captureMachine(machine: Machine): StateBlock[] {
  const saveable = saveables.get(machine);
  if (saveable === undefined) throw new StateError("bad_state", "This machine was not made to be saved.");
  const { kernel } = machine;
  const spaces = new Map<AddressSpace, { maps: Maps; pages: number[] }>();
  for (const { maps } of kernel.threads.values()) {
    if (maps.space.users === 0 || spaces.has(maps.space)) continue;
    maps.paging.writeBack();
    maps.space.unload();
    spaces.set(maps.space, { maps, pages: [] });
  }
  machine.vfs.sync();
  const memoryBlocks = saveable.options.memoryMib * PAGES_PER_MIB;
  const places = new Places(memoryBlocks);
  for (const entry of spaces.values()) entry.pages = neededPages(entry.maps);
  const written = new Encoder(saveable.anchors, places, spaces).encode(machine);
  const text: Text = { monotonic: kernel.monotonic(), ...written };
  return [...places.blocks, ...textBlocks(text, memoryBlocks)];
}

function* textBlocks(text: Text, first: number): Iterable<StateBlock> {
  const bytes = new TextEncoder().encode(JSON.stringify(text));
  const count = Math.ceil((bytes.length + HEADER_WORDS * 4) / PAGE_SIZE);
  if (count > TEXT_BLOCKS)
    throw new StateError("bad_state", "The machine has too many open files and processes to be saved.");
  const all = new Uint8Array(count * PAGE_SIZE);
  const words = new Int32Array(all.buffer);
  words.set([MAGIC, LAYOUT, bytes.length, first]);
  all.set(bytes, HEADER_WORDS * 4);
  for (let i = 0; i < count; i += 1) yield { number: first + i, words, at: (i * PAGE_SIZE) / 4 };
}

function readText(read: ReadBlock, first: number): Text {
  const head = read(first);
  const words = head && new Int32Array(head.slice(0, HEADER_WORDS * 4).buffer);
  if (words?.[0] !== MAGIC) throw new StateError("bad_state", "This is no saved machine of this kind.");
  if (words[1] !== LAYOUT) {
    throw new StateError("state_version", "The machine was saved by another version of the engine.");
  }
  if (words[3] !== first)
    throw new StateError("memory_size", "The machine was saved with another size of memory.");
  const size = words[2]! + HEADER_WORDS * 4;
  const all = new Uint8Array(Math.ceil(size / PAGE_SIZE) * PAGE_SIZE);
  for (let at = 0; at < size; at += PAGE_SIZE) {
    const block = read(first + at / PAGE_SIZE);
    if (block !== undefined) all.set(block, at);
  }
  return JSON.parse(new TextDecoder().decode(all.subarray(HEADER_WORDS * 4, size))) as Text;
}

/**
 * The machine that was captured, in the state it had. `host` goes on at its time: `continueFrom` is called. Throws `StateError`.
 * Who makes it sets again what is the host's: output of consoles, `onError` of the disk.
 */
export function restoreMachine(options: MachineOptions, read: ReadBlock): Machine {
  try {
    return restored(options, read);
  } catch (error) {
    if (error instanceof StateError) throw error;
    // What nobody of us has written can fail anywhere.
    throw new StateError("bad_state", "The saved machine is damaged.", { cause: error });
  }
}

function restored(options: MachineOptions, read: ReadBlock): Machine {
  const text = readText(read, options.memoryMib * PAGES_PER_MIB);
  options.host.continueFrom(text.monotonic);
  const now = (): Time => options.host.realtime();
  const machine = makeMachine(makeRoot({ now, root: (vfs) => new MemoryFileSystem(vfs) }), options);
  const { kernel, vfs } = machine;
  const decoder = new Decoder(text, { roots: rootsOf(machine, options), kernel, vfs, read });
  if (decoder.decode() !== machine)
    throw new StateError("bad_state", "The saved machine is another kind of thing.");
  // Counted anew: what the fresh machine had is what the saved one has, too.
  kernel.pages.pages = 0;
  for (const fs of decoder.every(MemoryFileSystem)) kernel.pages.take(fs.pagesInUse);
  for (const maps of decoder.every(Maps)) {
    const runs = decoder.spaces.get(maps.space);
    if (runs !== undefined && maps.space.users > 0) adoptPages(maps, runs);
  }
  kernel.futexes.restored();
  for (const store of decoder.every(Store)) store.retry();
  return machine;
}
