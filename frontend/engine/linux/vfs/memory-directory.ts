/** Directories in memory. The names of one from a tree below are read once, when they are listed or changed. */

import { E, Errno } from "../errno.ts";
import type { ByteString } from "../types.ts";
import { typeOfMode } from "./constants.ts";
import type { Entry, NewInode } from "./inode.ts";
import { MemoryInode } from "./memory-inode.ts";

interface Name {
  /** Grows with each name: the order of listing, and the cookie. */
  order: number;
  /** undefined: the file below with this name. */
  inode: MemoryInode | undefined;
}

/** As tmpfs has it: a size for each entry. */
const ENTRY_SIZE = 20;

export class MemoryDirectory extends MemoryInode {
  private names: Map<ByteString, Name> | undefined;
  private nextOrder = 3;

  constructor(...source: ConstructorParameters<typeof MemoryInode>) {
    super(...source);
    if (this.lower === undefined) {
      this.nlink = 2;
      this.names = new Map();
    }
  }

  override get size(): number {
    if (this.lower !== undefined) return this.lower.stat.size;
    if (this.fs.likeDisk) return 4096;
    return this.names === undefined ? 0 : this.names.size * ENTRY_SIZE + 2 * ENTRY_SIZE;
  }

  override lookup(name: ByteString): MemoryInode | undefined {
    const entry = this.names?.get(name);
    if (entry !== undefined) return entry.inode ?? this.below(name);
    return this.names === undefined ? this.below(name) : undefined;
  }

  private below(name: ByteString): MemoryInode | undefined {
    const lower = this.lower?.lookup(name);
    return lower === undefined ? undefined : this.fs.fromLower(lower);
  }

  /** From here on the names are what is in memory. */
  private load(): Map<ByteString, Name> {
    if (this.names !== undefined) return this.names;
    const names = new Map<ByteString, Name>();
    for (const name of this.lower!.list()) names.set(name, { order: this.nextOrder++, inode: undefined });
    return (this.names = names);
  }

  private add(name: ByteString, inode: MemoryInode): void {
    this.load().set(name, { order: this.nextOrder++, inode });
    this.touch();
    this.version += 1;
  }

  private remove(name: ByteString): void {
    this.load().delete(name);
    this.touch();
    this.version += 1;
  }

  override create(name: ByteString, attributes: NewInode): MemoryInode {
    if (this.nlink === 0) throw new Errno(E.NOENT);
    this.load();
    const inode = this.fs.make(attributes);
    this.add(name, inode);
    if (inode.isDirectory) this.nlink += 1;
    return inode;
  }

  override createUnnamed(attributes: NewInode): MemoryInode {
    const inode = this.fs.make(attributes);
    inode.nlink = 0;
    return inode;
  }

  override link(name: ByteString, inode: MemoryInode): void {
    if (this.nlink === 0) throw new Errno(E.NOENT);
    this.add(name, inode);
    inode.relinked(1);
  }

  override unlink(name: ByteString, inode: MemoryInode): void {
    this.remove(name);
    inode.relinked(-1);
  }

  override rmdir(name: ByteString, inode: MemoryInode): void {
    if (!inode.empty) throw new Errno(E.NOTEMPTY);
    this.remove(name);
    this.nlink -= 1;
    inode.relinked(-inode.nlink);
  }

  override rename(
    name: ByteString,
    inode: MemoryInode,
    to: MemoryDirectory,
    newName: ByteString,
    target: MemoryInode | undefined,
    exchange: boolean,
  ): void {
    if (to.nlink === 0) throw new Errno(E.NOENT);
    if (!exchange && target?.isDirectory === true && !target.empty) throw new Errno(E.NOTEMPTY);
    this.load();
    to.load();
    if (exchange && target !== undefined) {
      this.remove(name);
      to.remove(newName);
      this.add(name, target);
    } else {
      if (target?.isDirectory === true) to.rmdir(newName, target);
      else if (target !== undefined) to.unlink(newName, target);
      this.remove(name);
      target = undefined;
    }
    to.add(newName, inode);
    if (to !== this) {
      const moved = Number(inode.isDirectory) - Number(target?.isDirectory ?? false);
      this.nlink -= moved;
      to.nlink += moved;
    }
    inode.relinked(0);
    target?.relinked(0);
  }

  override readdir(cookie: number, emit: (entry: Entry) => boolean): void {
    for (const [name, { order, inode }] of this.load()) {
      if (order <= cookie) continue;
      const file = inode ?? this.lower?.lookup(name)?.stat;
      // It has gone from the host since.
      if (file === undefined) continue;
      const type = typeOfMode(file.mode);
      if (!emit({ name, ino: file.ino, type, next: order })) return;
    }
  }

  override get empty(): boolean {
    return this.load().size === 0;
  }
}
