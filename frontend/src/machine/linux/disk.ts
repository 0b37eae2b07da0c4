/** The machine's disk as the engine reads it, with what is in flight known. */

import type { Device } from "../../../engine/linux/vfs/ext4/store.ts";
import { BLOCK, type BlockDevice } from "../machine";

export interface LinuxDiskEvents {
  read(bytes: number): void;
  written(bytes: number): void;
  /** A read has ended, or begun: programs may run on, the activity light changes. */
  changed(): void;
}

export class LinuxDisk implements Device {
  readonly blocks: number;
  private inFlight = 0;

  constructor(
    private readonly device: BlockDevice,
    private readonly events: LinuxDiskEvents,
  ) {
    this.blocks = device.blocks;
  }

  get busy(): boolean {
    return this.inFlight > 0;
  }

  async read(firstBlock: number, count: number): Promise<Uint8Array> {
    this.inFlight += 1;
    this.events.changed();
    try {
      const bytes = await this.device.read(firstBlock, count);
      this.events.read(count * BLOCK);
      return bytes;
    } finally {
      this.inFlight -= 1;
      this.events.changed();
    }
  }

  readNow(firstBlock: number, count: number): Uint8Array | undefined {
    const bytes = this.device.readNow(firstBlock, count);
    if (bytes) this.events.read(bytes.length);
    return bytes;
  }

  write(firstBlock: number, data: Uint8Array): void {
    this.events.written(data.length);
    this.device.write(firstBlock, data);
  }
}
