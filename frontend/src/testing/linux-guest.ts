/** A disk for linux machines under test, and a device on it that is as slow and as broken as a test wants it. */

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BLOCK, type BlockDevice, type SparseBlocks } from "../machine/machine";

const MIB = 8;

/** An ext4 image whose /sbin/init and /bin/sh are `linux-guest.c`. */
export function makeGuestDisk(): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), "linux-guest-"));
  try {
    const tree = join(folder, "tree");
    for (const name of ["sbin", "bin", "dev", "proc", "sys", "root"])
      mkdirSync(join(tree, name), { recursive: true });
    const init = join(tree, "sbin", "init");
    execFileSync("gcc", ["-O1", "-static", "-o", init, join(import.meta.dirname, "linux-guest.c")]);
    copyFileSync(init, join(tree, "bin", "sh"));
    writeFileSync(join(tree, "greeting"), "good morning\n");
    const image = join(folder, "disk.img");
    const env = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` };
    execFileSync(
      "mke2fs",
      ["-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^has_journal", "-d", tree, image, `${MIB}M`],
      { env },
    );
    return new Uint8Array(readFileSync(image));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export class TestDisk implements BlockDevice {
  readonly written = new Map<number, Uint8Array>();
  /** Blocks are at hand only after they have been read. */
  slow = false;
  /** Why reads fail at present. */
  failure: Error | undefined;
  private readonly present = new Set<number>();

  constructor(private readonly image: Uint8Array) {}

  get blocks(): number {
    return this.image.length / BLOCK;
  }

  get dirtyBlocks(): number {
    return this.written.size;
  }

  /** A disk that has what was written to this one. */
  copy(): TestDisk {
    const image = this.image.slice();
    for (const [block, data] of this.written) image.set(data, block * BLOCK);
    return new TestDisk(image);
  }

  readNow(first: number, count: number): Uint8Array | undefined {
    const numbers = Array.from({ length: count }, (_, i) => first + i);
    const isHere = (block: number): boolean => this.written.has(block) || this.present.has(block);
    if (this.slow && !numbers.every(isHere)) return undefined;
    const data = this.image.slice(first * BLOCK, (first + count) * BLOCK);
    numbers.forEach((block, i) => data.set(this.written.get(block) ?? [], i * BLOCK));
    return data;
  }

  async read(first: number, count: number): Promise<Uint8Array> {
    await new Promise((resolve) => setTimeout(resolve, 1));
    if (this.failure) throw this.failure;
    for (let i = 0; i < count; i++) this.present.add(first + i);
    return this.readNow(first, count)!;
  }

  write(first: number, data: Uint8Array): void {
    for (let at = 0; at < data.length; at += BLOCK)
      this.written.set(first + at / BLOCK, data.subarray(at, at + BLOCK));
  }

  freeze(): SparseBlocks {
    const numbers = [...this.written.keys()].sort((a, b) => a - b);
    const data = new Uint8Array(numbers.length * BLOCK);
    numbers.forEach((block, i) => data.set(this.written.get(block)!, i * BLOCK));
    return { numbers: Uint32Array.from(numbers), data };
  }
}
