/** Blocks of the device: read when they are at hand, changed in transactions that are applied whole or not at all. */

import { Block, WaitQueue } from "../../wait.ts";

/** Of frontend/src/machine/machine.ts's `BlockDevice`: what a file system needs. Blocks of 4 KiB. */
export interface Device {
  readonly blocks: number;
  read(firstBlock: number, count: number): Promise<Uint8Array>;
  readNow(firstBlock: number, count: number): Uint8Array | undefined;
  write(firstBlock: number, data: Uint8Array): void;
}

export const DEVICE_BLOCK = 4096;
/** Blocks of metadata that are kept. */
const MOST_KEPT = 4096;
/** Blocks that came and have not been asked for again. */
const MOST_ARRIVED = 2048;

export class Store {
  static readonly transient = { onError: () => () => {}, kept: () => new Map(), arrived: () => new Map() };
  readonly device: Device;
  /** Told when the device cannot read for good: the machine stops; who waits goes on waiting. */
  onError: (problem: unknown) => void = () => {};
  private readonly mostKept: number;
  private readonly kept = new Map<number, Uint8Array>();
  private readonly pinned = new Map<number, Uint8Array>();
  private readonly arrived = new Map<number, Uint8Array>();
  private readonly waiting = new Map<string, WaitQueue>();
  private staged: Map<number, Uint8Array> | undefined;
  private undoing: (() => void)[] = [];
  private afterwards: (() => void)[] = [];

  /** `mostKept`: blocks of metadata to keep. */
  constructor(device: Device, mostKept = MOST_KEPT) {
    this.device = device;
    this.mostKept = mostKept;
  }

  /** Blocks from the device, `count` one after the other. Throws `Block`. */
  data(first: number, count: number): Uint8Array {
    const now = this.device.readNow(first, count) ?? this.fromArrived(first, count);
    if (now !== undefined) return now;
    const key = `${first}+${count}`;
    let queue = this.waiting.get(key);
    if (queue === undefined) {
      this.waiting.set(key, (queue = new WaitQueue()));
      this.fetch(key, first, count);
    }
    throw new Block([queue], Infinity, false);
  }

  private fetch(key: string, first: number, count: number): void {
    this.device.read(first, count).then(
      (bytes) => {
        for (let i = 0; i < count; i += 1) {
          // It may have been written meanwhile.
          const written = this.device.readNow(first + i, 1);
          this.arrived.set(first + i, written ?? bytes.slice(i * DEVICE_BLOCK, (i + 1) * DEVICE_BLOCK));
        }
        while (this.arrived.size > MOST_ARRIVED) this.arrived.delete(this.arrived.keys().next().value!);
        const queue = this.waiting.get(key);
        this.waiting.delete(key);
        queue?.wake();
      },
      (problem: unknown) => {
        this.onError(problem);
      },
    );
  }

  /** Reads once more what had failed. */
  retry(): void {
    for (const key of this.waiting.keys()) {
      const [first, count] = key.split("+").map(Number);
      this.fetch(key, first!, count!);
    }
  }

  private fromArrived(first: number, count: number): Uint8Array | undefined {
    for (let i = 0; i < count; i += 1) if (!this.arrived.has(first + i)) return undefined;
    if (count === 1) return this.arrived.get(first);
    const all = new Uint8Array(count * DEVICE_BLOCK);
    for (let i = 0; i < count; i += 1) all.set(this.arrived.get(first + i)!, i * DEVICE_BLOCK);
    return all;
  }

  /** Content goes to the device at once; not part of a transaction. The store keeps no reference. */
  writeData(block: number, bytes: Uint8Array): void {
    this.arrived.delete(block);
    const kept = this.kept.get(block) ?? this.pinned.get(block);
    kept?.set(bytes);
    this.device.write(block, bytes.slice());
  }

  /** A block of metadata, as the transaction sees it; not to be changed. Throws `Block`. */
  block(number: number): Uint8Array {
    const there = this.staged?.get(number) ?? this.kept.get(number) ?? this.pinned.get(number);
    if (there !== undefined) return there;
    const bytes = this.data(number, 1).slice();
    this.keep(number, bytes);
    return bytes;
  }

  private keep(number: number, bytes: Uint8Array): void {
    if (this.pinned.has(number)) {
      this.pinned.set(number, bytes);
      return;
    }
    this.kept.delete(number);
    this.kept.set(number, bytes);
    if (this.kept.size > this.mostKept) this.kept.delete(this.kept.keys().next().value!);
  }

  /** Reads a block that is never forgotten. */
  pin(number: number): void {
    if (!this.pinned.has(number)) this.pinned.set(number, this.data(number, 1).slice());
  }

  /** A copy of a block that will be written when the transaction ends. Throws `Block`. */
  edit(number: number): Uint8Array {
    const staged = this.mustStage();
    let bytes = staged.get(number);
    if (bytes === undefined) staged.set(number, (bytes = this.block(number).slice()));
    return bytes;
  }

  /** Zeros that will be written when the transaction ends; what was there is not read. */
  fresh(number: number): Uint8Array {
    const bytes = new Uint8Array(DEVICE_BLOCK);
    this.mustStage().set(number, bytes);
    return bytes;
  }

  private mustStage(): Map<number, Uint8Array> {
    if (this.staged === undefined) throw new Error("a file system was changed outside a transaction");
    return this.staged;
  }

  /** Called when the transaction fails. */
  undo(action: () => void): void {
    this.mustStage();
    this.undoing.push(action);
  }

  /** Called when the transaction has been applied. */
  committed(action: () => void): void {
    this.mustStage();
    this.afterwards.push(action);
  }

  get inTransaction(): boolean {
    return this.staged !== undefined;
  }

  /** Applies what `action` staged when it returns, nothing of it when it throws. */
  transaction<T>(action: () => T): T {
    if (this.staged !== undefined) return action();
    this.staged = new Map();
    let afterwards: (() => void)[] = [];
    try {
      const result = action();
      for (const [number, bytes] of this.staged) {
        this.arrived.delete(number);
        this.keep(number, bytes);
        this.device.write(number, bytes.slice());
      }
      afterwards = this.afterwards;
      return result;
    } catch (problem) {
      for (const undo of this.undoing.reverse()) undo();
      throw problem;
    } finally {
      this.staged = undefined;
      this.undoing = [];
      this.afterwards = [];
      for (const action of afterwards) action();
    }
  }
}
