/** The machine's disk as the engine reads it: it knows what is in flight, and keeps reads that failed so that they can be tried again. */

import type { Device } from "../../../engine/linux/vfs/ext4/store.ts";
import type { BlockDevice } from "../machine";

export interface LinuxDiskEvents {
  read(bytes: number): void;
  written(bytes: number): void;
  /** A read failed for good; it stays in flight until `retry`. */
  failed(error: unknown): void;
  /** A read has ended, or begun: programs may run on, the activity light changes. */
  changed(): void;
}

interface Read {
  first: number;
  count: number;
  resolve(bytes: Uint8Array): void;
  failure?: unknown;
}

export class LinuxDisk implements Device {
  readonly blocks: number;
  private readonly inFlight = new Set<Read>();

  constructor(
    private readonly device: BlockDevice,
    private readonly events: LinuxDiskEvents,
  ) {
    this.blocks = device.blocks;
  }

  get busy(): boolean {
    return this.inFlight.size > 0;
  }

  get failure(): unknown {
    for (const read of this.inFlight) if (read.failure !== undefined) return read.failure;
    return undefined;
  }

  /** Tries the failed reads again; resolves when each has succeeded or failed once more. */
  async retry(): Promise<void> {
    const failed = [...this.inFlight].filter((read) => read.failure !== undefined);
    await Promise.all(failed.map((read) => this.attempt(read)));
  }

  /** Never rejects: who reads waits until a retry succeeds. */
  read(first: number, count: number): Promise<Uint8Array> {
    return new Promise((resolve) => void this.attempt({ first, count, resolve }));
  }

  readNow(first: number, count: number): Uint8Array | undefined {
    const bytes = this.device.readNow(first, count);
    if (bytes) this.events.read(bytes.length);
    return bytes;
  }

  write(first: number, data: Uint8Array): void {
    this.events.written(data.length);
    this.device.write(first, data);
  }

  private async attempt(read: Read): Promise<void> {
    delete read.failure;
    this.inFlight.add(read);
    this.events.changed();
    try {
      const bytes = await this.device.read(read.first, read.count);
      this.inFlight.delete(read);
      this.events.read(bytes.length);
      read.resolve(bytes);
    } catch (error) {
      read.failure = error;
      this.events.failed(error);
    }
    this.events.changed();
  }
}
