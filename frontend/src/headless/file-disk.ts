/** A raw image file as the machine's disk. */

import { closeSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import { BLOCK, CHUNK_BLOCKS, type BlockDevice, type SparseBlocks } from "../machine/machine";

export class FileDisk implements BlockDevice {
  readonly blocks: number;
  readonly dirtyBlocks = 0;
  /** Numbers of the 256 KiB chunks that were read from the file, in order of first read. */
  readonly trace: number[] = [];
  private readonly traced = new Set<number>();
  private readonly file: number;
  private readonly overlay = new Map<number, Uint8Array>();

  /** `throwaway`: writes stay in memory and the file is not touched. */
  constructor(
    path: string,
    private readonly throwaway: boolean,
  ) {
    this.file = openSync(path, throwaway ? "r" : "r+");
    const { size } = fstatSync(this.file);
    if (size === 0 || size % BLOCK !== 0)
      throw new Error(`${path} is not a disk image: its size is ${size} bytes`);
    this.blocks = size / BLOCK;
  }

  readNow(firstBlock: number, count: number): Uint8Array {
    const data = new Uint8Array(count * BLOCK);
    for (let done = 0; done < data.length;) {
      const read = readSync(this.file, data, done, data.length - done, firstBlock * BLOCK + done);
      if (read === 0)
        throw new Error(`block ${firstBlock + Math.floor(done / BLOCK)} is behind the end of the disk image`);
      done += read;
    }
    for (let i = 0; i < count; i++) {
      const block = firstBlock + i;
      const written = this.overlay.get(block);
      if (written) data.set(written, i * BLOCK);
      else this.note(Math.floor(block / CHUNK_BLOCKS));
    }
    return data;
  }

  async read(firstBlock: number, count: number): Promise<Uint8Array> {
    return this.readNow(firstBlock, count);
  }

  write(firstBlock: number, data: Uint8Array): void {
    if (firstBlock + data.length / BLOCK > this.blocks)
      throw new Error("the guest wrote behind the end of its disk");
    if (this.throwaway) {
      for (let at = 0; at < data.length; at += BLOCK) {
        this.overlay.set(firstBlock + at / BLOCK, data.subarray(at, at + BLOCK));
      }
      return;
    }
    for (let done = 0; done < data.length;) {
      done += writeSync(this.file, data, done, data.length - done, firstBlock * BLOCK + done);
    }
  }

  /** Nothing: the file itself is the result. */
  freeze(): SparseBlocks {
    return { numbers: new Uint32Array(0), data: new Uint8Array(0) };
  }

  close(): void {
    if (!this.throwaway) fsyncSync(this.file);
    closeSync(this.file);
  }

  private note(chunk: number): void {
    if (this.traced.has(chunk)) return;
    this.traced.add(chunk);
    this.trace.push(chunk);
  }
}
