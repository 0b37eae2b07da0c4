/** A file of an ext2, ext3 or ext4 file system. */

import { E, Errno } from "../../errno.ts";
import type { ByteString, Stat } from "../../types.ts";
import { Block } from "../../wait.ts";
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, typeOfMode } from "../constants.ts";
import { type Attributes as NewValues, type Entry, FsInode, type NewInode } from "../inode.ts";
import { InodeBlocks } from "./blocks.ts";
import { Content } from "./content.ts";
import { Directory } from "./directory.ts";
import type { Ext4FileSystem } from "./filesystem.ts";
import { FLAG_EXTENTS, type RawInode } from "./raw-inode.ts";
import { mayBeNamed, readAttributes, releaseAttributeBlock, writeAttributes } from "./xattrs.ts";

const MOST_LINKS = 65000;
const FAST_LINK = 60;
const MOST_SIZE = 2 ** 44;

export class Ext4Inode extends FsInode {
  readonly fs: Ext4FileSystem;
  readonly raw: RawInode;
  readonly blocks: InodeBlocks;
  readonly directory: Directory;
  readonly content: Content;
  /** Its number is free, or another file's already; who still has this object (as a working directory) changes nothing. */
  private gone = false;

  constructor(fs: Ext4FileSystem, raw: RawInode) {
    super();
    this.fs = fs;
    this.raw = raw;
    this.blocks = new InodeBlocks(fs, raw);
    this.directory = new Directory(this);
    this.content = new Content(this);
  }

  get ino(): number {
    return this.raw.ino;
  }

  get mode(): number {
    return this.raw.mode;
  }

  get uid(): number {
    return this.raw.uid;
  }

  get gid(): number {
    return this.raw.gid;
  }

  get size(): number {
    return this.raw.size;
  }

  get nlink(): number {
    return this.raw.links;
  }

  get rdev(): number {
    return this.raw.rdev;
  }

  stat(): Stat {
    return this.raw.stat(this.fs.dev);
  }

  /** In a transaction; everything of this inode goes back when it fails. */
  change<T>(action: () => T): T {
    if (this.gone) throw new Errno(E.NOENT);
    return this.fs.transaction(() => {
      this.fs.touchInode(this);
      return action();
    });
  }

  /** What `change` needs: how to go back. */
  save(): () => void {
    const bytes = this.raw.bytes.slice();
    const restore = this.blocks.save();
    return () => {
      this.raw.replace(bytes);
      restore();
      this.directory.forget();
    };
  }

  setSize(size: number): void {
    if (size > MOST_SIZE) throw new Errno(E.FBIG);
    if (size >= 2 ** 31) this.fs.geometry.needLargeFiles();
    this.raw.size = size;
  }

  touch(): void {
    this.raw.mtime = this.raw.ctime = this.fs.now();
  }

  override lookup(name: ByteString): Ext4Inode | undefined {
    if (!this.isDirectory) throw new Errno(E.NOTDIR);
    const ino = this.directory.find(name);
    return ino === undefined ? undefined : this.fs.inode(ino);
  }

  override readdir(cookie: number, emit: (entry: Entry) => boolean): void {
    this.directory.list(cookie, (entry) =>
      // Without types among the features, the inode has to say.
      emit(entry.type !== 0 ? entry : { ...entry, type: typeOfMode(this.fs.inode(entry.ino).mode) }),
    );
  }

  override get empty(): boolean {
    return this.directory.empty;
  }

  override create(name: ByteString, attributes: NewInode): Ext4Inode {
    return this.change(() => {
      if (this.nlink === 0) throw new Errno(E.NOENT);
      const inode = this.fs.newInode(this.ino, attributes);
      inode.fill(attributes, this.ino);
      this.directory.add(name, inode.ino, typeOfMode(inode.mode));
      if (inode.isDirectory) this.countDirectory(1);
      this.touch();
      return inode;
    });
  }

  override createUnnamed(attributes: NewInode): Ext4Inode {
    return this.change(() => {
      const inode = this.fs.newInode(this.ino, attributes);
      inode.fill(attributes, this.ino);
      inode.raw.links = 0;
      this.fs.addOrphan(inode);
      return inode;
    });
  }

  /** A new inode's first content. */
  fill(attributes: NewInode, parent: number): void {
    const { raw } = this;
    raw.links = this.isDirectory ? 2 : 1;
    const target = attributes.target ?? "";
    const isPlain = [S_IFREG, S_IFDIR].includes(this.mode & S_IFMT) || target.length >= FAST_LINK;
    if (isPlain && this.fs.usesExtents) raw.flags |= FLAG_EXTENTS;
    if (isPlain) this.blocks.begin();
    if (this.isDirectory) this.directory.begin(parent);
    if (attributes.rdev !== undefined) raw.rdev = attributes.rdev;
    if ((this.mode & S_IFMT) === S_IFLNK) this.setTarget(target);
  }

  private setTarget(target: ByteString): void {
    const bytes = Uint8Array.from(target, (c) => c.charCodeAt(0));
    this.raw.size = bytes.length;
    if (bytes.length < FAST_LINK) {
      new Uint8Array(this.raw.root.buffer, this.raw.root.byteOffset, FAST_LINK).set(bytes);
      return;
    }
    const { blockSize } = this.fs.geometry;
    const count = Math.ceil(bytes.length / blockSize);
    this.blocks.ensure(0, count);
    for (let i = 0; i < count; i += 1) {
      const part = bytes.subarray(i * blockSize, (i + 1) * blockSize);
      this.fs.geometry.fresh(this.blocks.physical(i)).set(part);
    }
  }

  override readlink(): ByteString {
    if (!this.isSymlink) throw new Errno(E.INVAL);
    const { raw, fs } = this;
    const attributes = raw.attributeBlock === 0 ? 0 : fs.geometry.blockSize / 512;
    if (raw.sectors - attributes <= 0 && (raw.flags & FLAG_EXTENTS) === 0) {
      const bytes = new Uint8Array(raw.root.buffer, raw.root.byteOffset, FAST_LINK);
      return String.fromCharCode(...bytes.subarray(0, raw.size));
    }
    let text = "";
    for (let i = 0; text.length < raw.size; i += 1) {
      const physical = this.blocks.physical(i);
      if (physical === 0) throw new Errno(E.IO);
      text += String.fromCharCode(...fs.geometry.block(physical));
    }
    return text.slice(0, raw.size);
  }

  /** Links of a directory: as many as it has directories in it, unless there are too many to count. */
  private countDirectory(by: number): void {
    const { raw } = this;
    if (raw.links === 1) return;
    raw.links = raw.links + by > MOST_LINKS ? 1 : raw.links + by;
  }

  override link(name: ByteString, inode: Ext4Inode): void {
    if (inode.nlink >= MOST_LINKS) throw new Errno(E.MLINK);
    this.change(() => {
      if (this.nlink === 0) throw new Errno(E.NOENT);
      this.directory.add(name, inode.ino, typeOfMode(inode.mode));
      this.touch();
      inode.change(() => {
        if (inode.raw.links === 0) this.fs.removeOrphan(inode);
        inode.raw.links += 1;
        inode.raw.ctime = this.fs.now();
      });
    });
  }

  /** One name less. */
  private unlinked(inode: Ext4Inode): void {
    inode.change(() => {
      inode.raw.links = inode.isDirectory ? 0 : inode.raw.links - 1;
      inode.raw.ctime = this.fs.now();
      if (inode.raw.links > 0) return;
      if (inode.isHeld) this.fs.addOrphan(inode);
      else inode.release();
    });
  }

  /** Its blocks and its number are free again. In a transaction. */
  release(): void {
    this.change(() => {
      const { fs, raw } = this;
      const hasBlocks = this.isRegular || this.isDirectory || (this.isSymlink && raw.sectors > 0);
      const isFast = this.isSymlink && (raw.flags & FLAG_EXTENTS) === 0 && raw.size < FAST_LINK;
      if (hasBlocks && !isFast) this.blocks.remove(0, 2 ** 40);
      releaseAttributeBlock(fs.geometry, raw, this.blocks);
      raw.size = 0;
      raw.deletion = fs.now().seconds >>> 0;
      fs.allocation.freeInode(this.ino, this.isDirectory);
    });
    this.gone = true;
    this.fs.store.undo(() => (this.gone = false));
    this.fs.released(this);
    this.fs.store.committed(() => this.content.dropAll());
  }

  override forget(): void {
    if (!this.gone) this.fs.releaseLater(this);
  }

  override unlink(name: ByteString, inode: Ext4Inode): void {
    this.change(() => {
      this.directory.remove(name);
      this.touch();
      this.unlinked(inode);
    });
  }

  override rmdir(name: ByteString, inode: Ext4Inode): void {
    this.change(() => {
      if (!inode.directory.empty) throw new Errno(E.NOTEMPTY);
      this.directory.remove(name);
      this.countDirectory(-1);
      this.touch();
      this.unlinked(inode);
    });
  }

  override rename(
    name: ByteString,
    inode: Ext4Inode,
    to: Ext4Inode,
    newName: ByteString,
    target: Ext4Inode | undefined,
    exchange: boolean,
  ): void {
    this.change(() =>
      to.change(() => {
        if (to.nlink === 0) throw new Errno(E.NOENT);
        if (exchange && target !== undefined) this.exchange(name, inode, to, newName, target);
        else this.move(name, inode, to, newName, target);
        this.touch();
        to.touch();
      }),
    );
  }

  private move(
    name: ByteString,
    inode: Ext4Inode,
    to: Ext4Inode,
    newName: ByteString,
    target?: Ext4Inode,
  ): void {
    if (target?.isDirectory === true) to.rmdir(newName, target);
    else if (target !== undefined) to.unlink(newName, target);
    to.directory.add(newName, inode.ino, typeOfMode(inode.mode));
    this.directory.remove(name);
    inode.moved(this, to);
  }

  private exchange(
    name: ByteString,
    inode: Ext4Inode,
    to: Ext4Inode,
    newName: ByteString,
    target: Ext4Inode,
  ): void {
    this.directory.replace(name, target.ino, typeOfMode(target.mode));
    to.directory.replace(newName, inode.ino, typeOfMode(inode.mode));
    inode.moved(this, to);
    target.moved(to, this);
  }

  private moved(from: Ext4Inode, to: Ext4Inode): void {
    this.change(() => {
      this.raw.ctime = this.fs.now();
      if (!this.isDirectory || from === to) return;
      this.directory.replace("..", to.ino, typeOfMode(S_IFDIR));
      from.countDirectory(-1);
      to.countDirectory(1);
    });
  }

  override read(position: number, into: Uint8Array): number {
    return this.content.read(position, into);
  }

  override write(position: number, from: Uint8Array): number {
    if (position + from.length > MOST_SIZE) throw new Errno(E.FBIG);
    return this.content.write(position, from);
  }

  override truncate(size: number): void {
    this.content.truncate(size);
  }

  override fallocate(mode: number, offset: number, length: number): void {
    if (offset + length > MOST_SIZE) throw new Errno(E.FBIG);
    this.content.fallocate(mode, offset, length);
  }

  override seek(offset: number, hole: boolean): number | undefined {
    return this.content.seek(offset, hole);
  }

  override page(index: number): Uint8Array {
    return this.content.page(index);
  }

  override pageDirtied(index: number): void {
    this.content.pageDirtied(index);
  }

  override sync(): void {
    this.content.sync();
  }

  override accessed(): void {
    if (this.fs.readOnly || this.gone) return;
    try {
      this.change(() => (this.raw.atime = this.fs.now()));
    } catch (problem) {
      // A time is not worth waiting for.
      if (!(problem instanceof Block)) throw problem;
    }
  }

  override setattr(values: NewValues): void {
    this.change(() => {
      const { raw } = this;
      if (values.mode !== undefined) raw.mode = (raw.mode & S_IFMT) | (values.mode & 0o7777);
      raw.uid = values.uid ?? raw.uid;
      raw.gid = values.gid ?? raw.gid;
      if (values.atime !== undefined) raw.atime = values.atime;
      if (values.mtime !== undefined) raw.mtime = values.mtime;
      raw.ctime = this.fs.now();
    });
  }

  override getxattr(name: ByteString): Uint8Array | undefined {
    return readAttributes(this.fs.geometry, this.raw).get(name);
  }

  override setxattr(name: ByteString, value: Uint8Array | undefined): void {
    if (!mayBeNamed(name)) throw new Errno(E.OPNOTSUPP);
    this.change(() => {
      const attributes = readAttributes(this.fs.geometry, this.raw);
      if (value !== undefined) attributes.set(name, value);
      else if (!attributes.delete(name)) throw new Errno(E.NODATA);
      writeAttributes(this.fs.geometry, this.raw, this.blocks, attributes);
      this.raw.ctime = this.fs.now();
    });
  }

  override listxattr(): ByteString[] {
    return [...readAttributes(this.fs.geometry, this.raw).keys()];
  }
}
