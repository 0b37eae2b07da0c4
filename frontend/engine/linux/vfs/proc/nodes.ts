/** What procfs is made of: directories, texts made when they are read, and links to places. */

import { E, Errno } from "../../errno.ts";
import { holdFile } from "../../references.ts";
import type { ByteString, OpenFile, Stat, Task, Time } from "../../types.ts";
import * as C from "../constants.ts";
import type { Walker } from "../context.ts";
import { Dentry } from "../dentry.ts";
import { type Entry, type FileSystem, FsInode } from "../inode.ts";
import type { Location } from "../mounts.ts";
import { PlacedFile } from "../open-files.ts";

export interface Owner {
  uid: number;
  gid: number;
}

export interface ProcSource extends FileSystem {
  /** The one number of that path. */
  number(path: ByteString): number;
  now(): Time;
}

const ROOT: Owner = { uid: 0, gid: 0 };

export abstract class ProcInode extends FsInode {
  readonly fs: ProcSource;
  readonly ino: number;
  readonly path: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number = 0;
  readonly rdev = 0;
  readonly nlink: number = 1;

  constructor(fs: ProcSource, path: ByteString, mode: number, owner: Owner = ROOT) {
    super();
    this.fs = fs;
    this.path = path;
    this.ino = fs.number(path);
    this.mode = mode;
    this.uid = owner.uid;
    this.gid = owner.gid;
  }

  stat(): Stat {
    const now = this.fs.now();
    return {
      dev: this.fs.dev,
      ino: this.ino,
      mode: this.mode,
      nlink: this.nlink,
      uid: this.uid,
      gid: this.gid,
      rdev: 0,
      size: this.size,
      blksize: 1024,
      blocks: 0,
      atime: now,
      mtime: now,
      ctime: now,
    };
  }
}

/** A directory: what is in it is asked anew each time. */
export interface Listing {
  names(): Iterable<ByteString>;
  find(name: ByteString): ProcInode | undefined;
}

export class ProcDirectory extends ProcInode {
  override readonly nlink: number = 2;
  private readonly listing: Listing;

  constructor(fs: ProcSource, path: ByteString, listing: Listing, owner?: Owner, mode = 0o555) {
    super(fs, path, C.S_IFDIR | mode, owner);
    this.listing = listing;
  }

  override lookup(name: ByteString): ProcInode | undefined {
    return this.listing.find(name);
  }

  /** Cookies are the names' places: numbers by their value, so that processes that end shift nothing. */
  override readdir(cookie: number, emit: (entry: Entry) => boolean): void {
    const names = [...this.listing.names()].map((name, i) => ({
      name,
      cookie: /^\d+$/.test(name) ? 1000 + Number(name) : 3 + i,
    }));
    names.sort((a, b) => a.cookie - b.cookie);
    for (const { name, cookie: next } of names) {
      if (next <= cookie) continue;
      const inode = this.listing.find(name);
      if (inode === undefined) continue;
      if (!emit({ name, ino: inode.ino, type: C.typeOfMode(inode.mode), next })) return;
    }
  }
}

/** Fixed entries, made when they are looked for. */
export function fixed(entries: Record<ByteString, () => ProcInode | undefined>): Listing {
  return {
    names: () => Object.keys(entries).filter((name) => entries[name]!() !== undefined),
    find: (name) => (Object.hasOwn(entries, name) ? entries[name]!() : undefined),
  };
}

export class ProcText extends ProcInode {
  readonly make: (task: Task) => ByteString;
  readonly take: ((task: Task, text: ByteString) => void) | undefined;
  /** What an open file stays bound to: when it is another one now, there is nothing to read. */
  readonly subject: (() => object | undefined) | undefined;

  constructor(
    fs: ProcSource,
    path: ByteString,
    make: (task: Task) => ByteString,
    owner?: Owner,
    mode = 0o444,
    take?: (task: Task, text: ByteString) => void,
    subject?: () => object | undefined,
  ) {
    super(fs, path, C.S_IFREG | mode, owner);
    this.make = make;
    this.take = take;
    this.subject = subject;
  }

  override open(_task: Task, flags: number, location: Location): OpenFile {
    return new TextFile(location, flags & (C.O_ACCMODE | C.O_NONBLOCK), this);
  }

  /** Opening for writing truncates; there is nothing to. */
  override truncate(): void {}
  override setattr(): void {}
}

/** The text as it was when reading began at 0. */
export class TextFile extends PlacedFile {
  private readonly node: ProcText;
  private readonly subject: object | undefined;
  private text: Uint8Array | undefined;

  constructor(location: Location, flags: number, node: ProcText) {
    super(location, flags);
    this.node = node;
    this.subject = node.subject?.();
  }

  read(task: Task, into: Uint8Array, position: number | null): number {
    if (!this.canRead) throw new Errno(E.BADF);
    const at = position ?? this.offset;
    if (this.text === undefined || at === 0) {
      const text = this.node.subject?.() === this.subject ? this.node.make(task) : "";
      this.text = Uint8Array.from(text, (c) => c.charCodeAt(0));
    }
    const part = this.text.subarray(at, at + into.length);
    into.set(part);
    if (position === null) this.offset = at + part.length;
    return part.length;
  }

  write(task: Task, from: Uint8Array): number {
    if (!this.canWrite) throw new Errno(E.BADF);
    if (this.node.take === undefined) throw new Errno(E.INVAL);
    this.node.take(task, String.fromCharCode(...from.subarray(0, 4096)));
    return from.length;
  }
}

export class ProcLink extends ProcInode {
  override readonly size: number;
  private readonly text: (walker: Walker | undefined) => ByteString;
  private readonly place: ((walker: Walker) => Location | undefined) | undefined;

  constructor(
    fs: ProcSource,
    path: ByteString,
    text: (walker: Walker | undefined) => ByteString,
    owner?: Owner,
    place?: (walker: Walker) => Location | undefined,
    mode = 0o777,
    size = 0,
  ) {
    super(fs, path, C.S_IFLNK | mode, owner);
    this.size = size;
    this.text = text;
    this.place = place;
  }

  override readlink(walker?: Walker): ByteString {
    return this.text(walker);
  }

  override follow(walker: Walker): Location | undefined {
    return this.place?.(walker);
  }
}

/** Stands for an open file that has no name (a pipe): opening it gives the file itself. */
export class FileStandIn extends ProcInode {
  private readonly file: OpenFile;

  constructor(fs: ProcSource, path: ByteString, file: OpenFile) {
    super(fs, path, file.inode.stat().mode, file.inode.stat());
    this.file = file;
  }

  override stat(): Stat {
    return this.file.inode.stat();
  }

  override open(): OpenFile {
    if ((this.mode & C.S_IFMT) === C.S_IFSOCK) throw new Errno(E.NXIO);
    return holdFile(this.file);
  }
}

/** Where a link to an open file leads. */
export function placeOfFile(fs: ProcSource, path: ByteString, file: OpenFile, around: Location): Location {
  if (file instanceof PlacedFile) return file.location;
  const dentry = new Dentry(new FileStandIn(fs, path, file), undefined, file.name);
  return { mount: around.mount, dentry };
}
