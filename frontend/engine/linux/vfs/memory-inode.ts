/** A file in memory, which may have begun as one of a read-only tree below. */

import { PAGE_SIZE } from "../abi.ts";
import { E, Errno } from "../errno.ts";
import type { ByteString, Stat, Time } from "../types.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE } from "./constants.ts";
import { S_IFLNK, S_IFMT } from "./constants.ts";
import { type Attributes, FsInode, type NewInode } from "./inode.ts";
import type { Lower } from "./lower.ts";
import type { MemoryFileSystem } from "./memory-fs.ts";
import { eachPage, Pages } from "./pages.ts";

const MOST_SIZE = 2 ** 43;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;
const F_SEAL_WRITE = 8;
const F_SEAL_FUTURE_WRITE = 16;

export class MemoryInode extends FsInode {
  static readonly transient = { handedOut: () => undefined };
  readonly fs: MemoryFileSystem;
  readonly ino: number;
  mode: number;
  uid: number;
  gid: number;
  readonly rdev: number;
  nlink: number;
  readonly atime: Time;
  mtime: Time;
  ctime: Time;
  private readonly dev: number;
  private accessTime: Time;
  private length: number;
  private target: ByteString;
  private readonly pages = new Pages();
  private forgotten = false;
  private xattrs: Map<ByteString, Uint8Array> | undefined;
  /** F_SEAL_* of a memfd; undefined: no memfd. */
  seals: number | undefined;
  readonly lower: Lower | undefined;
  /** Up to here a page that is not in memory is the lower file's. */
  private lowerSize = 0;
  /** Pages of the lower file that were handed out and not written: one object for each as long as anybody has it. */
  private handedOut: Map<number, WeakRef<Uint8Array>> | undefined;

  constructor(fs: MemoryFileSystem, source: NewInode | Lower) {
    super();
    this.fs = fs;
    if ("stat" in source) {
      const { stat } = source;
      this.lower = source;
      this.ino = stat.ino;
      this.dev = stat.dev;
      this.mode = stat.mode;
      this.uid = stat.uid;
      this.gid = stat.gid;
      this.rdev = stat.rdev;
      this.nlink = stat.nlink;
      this.length = stat.size;
      this.lowerSize = this.isRegular ? stat.size : 0;
      this.target = "";
      this.atime = this.accessTime = stat.atime;
      this.mtime = stat.mtime;
      this.ctime = stat.ctime;
    } else {
      this.ino = fs.newNumber();
      this.dev = fs.dev;
      this.mode = source.mode;
      this.uid = source.uid;
      this.gid = source.gid;
      this.rdev = source.rdev ?? 0;
      this.nlink = 1;
      this.target = source.target ?? "";
      this.length = this.target.length;
      this.atime = this.mtime = this.ctime = this.accessTime = fs.now();
    }
  }

  get size(): number {
    return this.length;
  }

  stat(): Stat {
    const pages = this.pages.map.size;
    const lowerBlocks = this.lower?.stat.blocks ?? 0;
    return {
      dev: this.dev,
      ino: this.ino,
      mode: this.mode,
      nlink: this.nlink,
      uid: this.uid,
      gid: this.gid,
      rdev: this.rdev,
      size: this.size,
      blksize: PAGE_SIZE,
      blocks: Math.max(pages * (PAGE_SIZE / 512), this.lowerSize > 0 || !this.isRegular ? lowerBlocks : 0),
      atime: this.accessTime,
      mtime: this.mtime,
      ctime: this.ctime,
    };
  }

  /** It is not as it is below any more: it must not be forgotten. */
  protected changed(): void {
    if (this.lower !== undefined) this.fs.keep(this);
  }

  /** Content or entries have changed. */
  protected touch(): void {
    this.mtime = this.ctime = this.fs.now();
    this.changed();
  }

  /** Links have changed. */
  relinked(by: number): void {
    this.nlink += by;
    this.ctime = this.fs.now();
    this.changed();
    if (this.nlink === 0 && !this.isHeld) this.forget();
  }

  override forget(): void {
    if (this.forgotten) return;
    this.forgotten = true;
    this.fs.drop(this);
    this.fs.release(this.pages.map.size);
    this.pages.map.clear();
    this.lowerSize = 0;
  }

  override readlink(): ByteString {
    if ((this.mode & S_IFMT) !== S_IFLNK) throw new Errno(E.INVAL);
    return this.lower === undefined ? this.target : this.lower.readlink();
  }

  override read(position: number, into: Uint8Array): number {
    const length = Math.min(into.length, Math.max(0, this.size - position));
    const whole = into.subarray(0, length);
    // What no page in memory hides is read in one go.
    if (this.pages.map.size === 0) {
      const count = position < this.lowerSize ? this.readLower(position, whole) : 0;
      whole.fill(0, count);
      return length;
    }
    eachPage(position, length, (index, at, done, count) => {
      const piece = whole.subarray(done, done + count);
      const page = this.pages.get(index);
      if (page !== undefined) piece.set(page.subarray(at, at + count));
      else piece.fill(0, this.readLower(position + done, piece));
    });
    return length;
  }

  private readLower(position: number, into: Uint8Array): number {
    const length = Math.min(into.length, this.lowerSize - position);
    return length <= 0 || this.lower === undefined ? 0 : this.lower.read(position, into.subarray(0, length));
  }

  override write(position: number, from: Uint8Array): number {
    if (position + from.length > MOST_SIZE) throw new Errno(E.FBIG);
    if (from.length === 0) return 0;
    this.mustBeUnsealed(F_SEAL_WRITE | F_SEAL_FUTURE_WRITE);
    if (position + from.length > this.size) this.mustBeUnsealed(F_SEAL_GROW);
    const first = Math.floor(position / PAGE_SIZE);
    const last = Math.floor((position + from.length - 1) / PAGE_SIZE);
    this.reserve(first, last);
    eachPage(position, from.length, (index, at, done, count) => {
      const page = count === PAGE_SIZE ? this.pages.ensure(index) : this.own(index);
      page.set(from.subarray(done, done + count), at);
    });
    this.length = Math.max(this.length, position + from.length);
    this.version += 1;
    this.touch();
    return from.length;
  }

  private mustBeUnsealed(seals: number): void {
    if (((this.seals ?? 0) & seals) !== 0) throw new Errno(E.PERM);
  }

  /** Room for those pages, or ENOSPC. */
  private reserve(first: number, last: number): void {
    let missing = 0;
    for (let index = first; index <= last; index += 1) if (this.pages.get(index) === undefined) missing += 1;
    this.fs.reserve(missing);
  }

  /** The page in memory, with what it was below. */
  private own(index: number): Uint8Array {
    const there = this.pages.get(index);
    if (there !== undefined) return there;
    const handed = this.handedOut?.get(index)?.deref();
    if (handed !== undefined) {
      this.pages.map.set(index, handed);
      return handed;
    }
    const page = this.pages.ensure(index);
    this.readLower(index * PAGE_SIZE, page);
    return page;
  }

  override truncate(size: number): void {
    if (size > MOST_SIZE) throw new Errno(E.FBIG);
    if (size > this.size) this.mustBeUnsealed(F_SEAL_GROW);
    if (size < this.size) {
      this.mustBeUnsealed(F_SEAL_SHRINK);
      const edge = size % PAGE_SIZE;
      if (edge !== 0 && size < this.lowerSize) {
        const index = Math.floor(size / PAGE_SIZE);
        this.reserve(index, index);
        this.own(index);
      }
      this.discard(size, this.size);
      this.lowerSize = Math.min(this.lowerSize, size);
      this.handedOut = undefined;
    }
    this.length = size;
    this.version += 1;
    this.touch();
  }

  /** Zeros in memory; what is below is not looked at. */
  private discard(start: number, end: number): void {
    const before = this.pages.map.size;
    this.pages.clear(start, end);
    this.fs.release(before - this.pages.map.size);
  }

  override fallocate(mode: number, offset: number, length: number): void {
    const end = offset + length;
    const keep = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
    const action = mode & ~FALLOC_FL_KEEP_SIZE;
    if (action !== 0 && action !== FALLOC_FL_ZERO_RANGE && action !== FALLOC_FL_PUNCH_HOLE) {
      throw new Errno(E.OPNOTSUPP);
    }
    if (end > MOST_SIZE) throw new Errno(E.FBIG);
    if (action !== 0) this.mustBeUnsealed(F_SEAL_WRITE | F_SEAL_FUTURE_WRITE);
    if (end > this.size && !keep) this.mustBeUnsealed(F_SEAL_GROW);
    if (action !== 0) this.zero(offset, Math.min(end, this.size));
    if (action !== FALLOC_FL_PUNCH_HOLE && !keep && end > this.size) this.length = end;
    this.version += 1;
    this.touch();
  }

  private zero(start: number, end: number): void {
    if (start >= end) return;
    if (start < this.lowerSize) {
      const first = Math.floor(start / PAGE_SIZE);
      const last = Math.floor((Math.min(end, this.lowerSize) - 1) / PAGE_SIZE);
      this.reserve(first, last);
      for (let index = first; index <= last; index += 1) {
        const page = this.own(index);
        page.fill(0, Math.max(0, start - index * PAGE_SIZE), Math.min(PAGE_SIZE, end - index * PAGE_SIZE));
      }
      start = Math.min(end, (last + 1) * PAGE_SIZE);
    }
    this.discard(start, end);
  }

  override seek(offset: number, hole: boolean): number | undefined {
    const last = Math.ceil(this.size / PAGE_SIZE);
    for (let index = Math.floor(offset / PAGE_SIZE); index < last; index += 1) {
      const data = this.pages.get(index) !== undefined || index * PAGE_SIZE < this.lowerSize;
      if (data !== hole) return Math.max(offset, index * PAGE_SIZE);
    }
    return hole ? this.size : undefined;
  }

  override page(index: number): Uint8Array {
    const there = this.pages.get(index);
    if (there !== undefined) return there;
    // A hole is filled: who maps it shared may write to it.
    if (index * PAGE_SIZE >= this.lowerSize) {
      if (index * PAGE_SIZE >= this.size) return new Uint8Array(PAGE_SIZE);
      this.fs.reserve(1);
      return this.pages.ensure(index);
    }
    const handed = this.handedOut?.get(index)?.deref();
    if (handed !== undefined) return handed;
    const page = new Uint8Array(PAGE_SIZE);
    this.readLower(index * PAGE_SIZE, page);
    this.handedOut ??= new Map();
    this.handedOut.set(index, new WeakRef(page));
    return page;
  }

  override pageDirtied(index: number): void {
    this.mtime = this.ctime = this.fs.now();
    if (index * PAGE_SIZE < this.size) {
      const page = this.own(index);
      if ((index + 1) * PAGE_SIZE > this.size) page.fill(0, this.size - index * PAGE_SIZE);
    }
    this.changed();
  }

  override accessed(): void {
    this.accessTime = this.fs.now();
  }

  override setattr(attributes: Attributes): void {
    if (attributes.mode !== undefined) this.mode = (this.mode & S_IFMT) | (attributes.mode & 0o7777);
    this.uid = attributes.uid ?? this.uid;
    this.gid = attributes.gid ?? this.gid;
    this.accessTime = attributes.atime ?? this.accessTime;
    this.mtime = attributes.mtime ?? this.mtime;
    this.ctime = this.fs.now();
    this.changed();
  }

  override getxattr(name: ByteString): Uint8Array | undefined {
    return this.xattrs?.get(name);
  }

  override setxattr(name: ByteString, value: Uint8Array | undefined): void {
    if (value !== undefined) (this.xattrs ??= new Map()).set(name, value.slice());
    else if (this.xattrs?.delete(name) !== true) throw new Errno(E.NODATA);
    this.ctime = this.fs.now();
    this.changed();
  }

  override listxattr(): ByteString[] {
    return [...(this.xattrs?.keys() ?? [])];
  }
}
