/** Names that were walked: a tree that renames move, so that a working directory always knows its path. */

import type { ByteString } from "../types.ts";
import type { FsInode } from "./inode.ts";
import { Recent, Remembered } from "./remembered.ts";

export class Dentry {
  /** Itself for the root of a file system. */
  parent: Dentry;
  name: ByteString;
  readonly inode: FsInode;
  /** Its name has been removed. */
  deleted = false;
  private children: Remembered<ByteString, Dentry> | undefined;

  constructor(inode: FsInode, parent?: Dentry, name: ByteString = "/") {
    this.inode = inode;
    this.parent = parent ?? this;
    this.name = name;
  }

  get isRoot(): boolean {
    return this.parent === this;
  }

  /** What the name is in this directory; asks the file system when nobody knows. */
  child(name: ByteString): Dentry | undefined {
    const known = this.children?.get(name);
    if (known !== undefined) return known;
    const inode = this.inode.lookup(name);
    return inode === undefined ? undefined : this.adopt(name, inode);
  }

  /** A name that has just been made or found. */
  adopt(name: ByteString, inode: FsInode): Dentry {
    const dentry = new Dentry(inode, this, name);
    if (!this.inode.fs.volatile) this.remember(dentry);
    return dentry;
  }

  private remember(dentry: Dentry): void {
    this.children ??= new Remembered();
    this.children.set(dentry.name, dentry);
    recent.use(dentry);
  }

  /** The name has been removed from the file system. */
  remove(): void {
    this.parent.children?.delete(this.name);
    this.deleted = true;
  }

  /** Renamed; what was there is gone. */
  moveTo(parent: Dentry, name: ByteString): void {
    this.parent.children?.delete(this.name);
    this.parent = parent;
    this.name = name;
    parent.remember(this);
  }

  exchange(other: Dentry): void {
    const { parent, name } = this;
    this.moveTo(other.parent, other.name);
    other.parent = parent;
    other.name = name;
    parent.remember(other);
  }

  /** Whether `this` is `dentry` or lies under it. */
  isUnder(dentry: Dentry): boolean {
    for (let at: Dentry = this; ; at = at.parent) {
      if (at === dentry) return true;
      if (at.isRoot) return false;
    }
  }
}

const recent = new Recent<Dentry>(8192);
