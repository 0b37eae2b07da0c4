/**
 * Our block device behind v86's buffer interface. It knows at any moment whether an operation is in flight (a state saved
 * then would lose it), keeps operations that failed so that they can be tried again, and never answers with anything but
 * what the device gave.
 */

import { BLOCK, type BlockDevice } from "../machine";
import type { DiskBuffer } from "./v86";

interface Operation {
  /** Resolves when v86 has its answer. */
  perform(): Promise<void>;
  failure?: unknown;
}

export interface DiskPortEvents {
  read(bytes: number): void;
  written(bytes: number): void;
  /** An operation failed for good; it stays in flight until `retry`. */
  failed(error: unknown): void;
  /** Whether anything is in flight has changed. */
  waiting(yes: boolean): void;
}

export class DiskPort implements DiskBuffer {
  readonly byteLength: number;
  onload: ((event: unknown) => void) | undefined;
  private readonly operations = new Set<Operation>();
  private idleWaiters: (() => void)[] = [];

  constructor(
    private readonly device: BlockDevice,
    private readonly events: DiskPortEvents,
  ) {
    this.byteLength = device.blocks * BLOCK;
  }

  get busy(): boolean {
    return this.operations.size > 0;
  }

  get failure(): unknown {
    for (const operation of this.operations) if (operation.failure !== undefined) return operation.failure;
    return undefined;
  }

  /** Resolves at an instant when nothing is in flight; the caller's next synchronous code still sees it so. */
  async idle(): Promise<void> {
    while (this.busy) await new Promise<void>((resolve) => this.idleWaiters.push(resolve));
  }

  /** Tries the failed operations again; resolves when each has succeeded or failed once more. */
  async retry(): Promise<void> {
    const failed = [...this.operations].filter((operation) => operation.failure !== undefined);
    await Promise.all(failed.map((operation) => this.attempt(operation)));
  }

  load(): void {
    this.onload?.({});
  }

  get(start: number, length: number, done: (data: Uint8Array) => void): void {
    const first = Math.floor(start / BLOCK);
    const count = Math.ceil((start + length) / BLOCK) - first;
    const answer = (blocks: Uint8Array): void => {
      this.events.read(length);
      done(blocks.subarray(start - first * BLOCK, start - first * BLOCK + length));
    };
    const present = this.device.readNow(first, count);
    if (present) answer(present);
    else void this.attempt({ perform: async () => answer(await this.device.read(first, count)) });
  }

  set(start: number, data: Uint8Array, done: () => void): void {
    this.events.written(data.length);
    const first = Math.floor(start / BLOCK);
    const count = Math.ceil((start + data.length) / BLOCK) - first;
    const aligned = start === first * BLOCK && data.length === count * BLOCK;
    const merge = (old: Uint8Array): void => {
      const blocks = old.slice();
      blocks.set(data, start - first * BLOCK);
      this.device.write(first, blocks);
      done();
    };
    if (aligned) {
      // v86 reuses its buffer, and the device keeps what it is given.
      this.device.write(first, data.slice());
      done();
      return;
    }
    const present = this.device.readNow(first, count);
    if (present) merge(present);
    else {
      data = data.slice();
      void this.attempt({ perform: async () => merge(await this.device.read(first, count)) });
    }
  }

  /** No sector is read ahead of the guest: a resumed machine must start without its disk, and the default geometry will do. */
  get_and_cache(_start: number, _length: number, done: () => void): void {
    done();
  }

  get_from_cache(): undefined {
    return undefined;
  }

  /** The disk stays out of v86's state: it is saved as a device of its own. */
  get_state(): unknown[] {
    return [];
  }

  set_state(): void {}

  private async attempt(operation: Operation): Promise<void> {
    delete operation.failure;
    if (!this.busy) this.events.waiting(true);
    this.operations.add(operation);
    try {
      await operation.perform();
      this.operations.delete(operation);
    } catch (error) {
      operation.failure = error;
      this.events.failed(error);
      return;
    }
    if (this.busy) return;
    this.events.waiting(false);
    const waiters = this.idleWaiters;
    this.idleWaiters = [];
    for (const resolve of waiters) resolve();
  }
}
