/** The descriptors of a process. */

import { E, Errno } from "../errno.ts";
import { dropFile, holdFile } from "../references.ts";
import type { Descriptor, FileTable, OpenFile } from "../types.ts";
import type { Vfs } from "./vfs.ts";

export class Descriptors implements FileTable {
  private readonly entries: (Descriptor | undefined)[] = [];
  /** Below it all numbers are in use. */
  private lowest = 0;
  /** The soft RLIMIT_NOFILE. */
  most: number;
  private readonly vfs: Vfs;

  constructor(vfs: Vfs, most = 1024) {
    this.vfs = vfs;
    this.most = most;
  }

  get(fd: number): OpenFile {
    return this.descriptor(fd).file;
  }

  descriptor(fd: number): Descriptor {
    const entry = this.entries[fd];
    if (entry === undefined) throw new Errno(E.BADF);
    return entry;
  }

  find(fd: number): OpenFile | undefined {
    return this.entries[fd]?.file;
  }

  /** Numbers in use, ascending. */
  *numbers(): Iterable<number> {
    for (let fd = 0; fd < this.entries.length; fd += 1) if (this.entries[fd] !== undefined) yield fd;
  }

  add(file: OpenFile, closeOnExec: boolean, from = 0): number {
    let fd = Math.max(from, this.lowest);
    while (this.entries[fd] !== undefined) fd += 1;
    if (fd >= this.most) throw new Errno(E.MFILE);
    this.entries[fd] = { file, closeOnExec };
    if (from <= this.lowest) this.lowest = fd + 1;
    return fd;
  }

  /** Whether a number is free that `add` could give: asked before a file is made. */
  mustHaveRoom(): void {
    let fd = this.lowest;
    while (this.entries[fd] !== undefined) fd += 1;
    if (fd >= this.most) throw new Errno(E.MFILE);
  }

  /** dup2: that very number; what it was is closed. */
  replace(fd: number, file: OpenFile, closeOnExec: boolean): void {
    if (fd < 0 || fd >= this.most) throw new Errno(E.BADF);
    const before = this.entries[fd];
    this.entries[fd] = { file, closeOnExec };
    if (before !== undefined) this.dropped(before.file);
  }

  close(fd: number): void {
    const { file } = this.descriptor(fd);
    this.entries[fd] = undefined;
    this.lowest = Math.min(this.lowest, fd);
    this.dropped(file);
  }

  private dropped(file: OpenFile): void {
    this.vfs.hooks.locks?.closed(this, file);
    dropFile(file);
  }

  copy(): Descriptors {
    const copy = new Descriptors(this.vfs, this.most);
    this.entries.forEach((entry, fd) => {
      if (entry === undefined) return;
      copy.entries[fd] = { file: holdFile(entry.file), closeOnExec: entry.closeOnExec };
    });
    return copy;
  }

  closeOnExec(): void {
    for (const fd of [...this.numbers()]) if (this.entries[fd]!.closeOnExec) this.close(fd);
  }

  closeAll(): void {
    for (const fd of [...this.numbers()]) this.close(fd);
  }
}
