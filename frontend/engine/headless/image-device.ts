/** A disk image of the host as a block device. What the guest writes stays in memory. */

import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import type { Device } from "../linux/vfs/ext4/store.ts";

const BLOCK = 4096;

export class ImageDevice implements Device {
  readonly blocks: number;
  readonly #fd: number;
  readonly #written = new Map<number, Uint8Array>();

  constructor(path: string) {
    this.#fd = openSync(path, "r");
    this.blocks = Math.floor(fstatSync(this.#fd).size / BLOCK);
  }

  readNow(firstBlock: number, count: number): Uint8Array {
    const bytes = new Uint8Array(count * BLOCK);
    for (let done = 0; done < bytes.length;) {
      const got = readSync(this.#fd, bytes, done, bytes.length - done, firstBlock * BLOCK + done);
      if (got === 0) break;
      done += got;
    }
    for (let i = 0; i < count; i += 1) {
      const written = this.#written.get(firstBlock + i);
      if (written !== undefined) bytes.set(written, i * BLOCK);
    }
    return bytes;
  }

  async read(firstBlock: number, count: number): Promise<Uint8Array> {
    return this.readNow(firstBlock, count);
  }

  write(firstBlock: number, data: Uint8Array): void {
    for (let at = 0; at < data.length; at += BLOCK) {
      this.#written.set(firstBlock + at / BLOCK, data.slice(at, at + BLOCK));
    }
  }

  /** Puts what was written into another file, a copy of the image. */
  writeTo(path: string): void {
    const fd = openSync(path, "r+");
    for (const [block, bytes] of this.#written) writeSync(fd, bytes, 0, BLOCK, block * BLOCK);
    closeSync(fd);
  }

  close(): void {
    closeSync(this.#fd);
  }
}
