/** File systems in memory: tmpfs, devtmpfs, and a tree of the host with everything new in memory above it. */

import { PAGE_SIZE } from "../abi.ts";
import { E, Errno } from "../errno.ts";
import type { Time } from "../types.ts";
import { S_IFDIR } from "./constants.ts";
import type { FileSystem, NewInode, StatFs } from "./inode.ts";
import { isLower, type Lower } from "./lower.ts";
import { MemoryDirectory } from "./memory-directory.ts";
import { MemoryInode } from "./memory-inode.ts";
import { Remembered } from "./remembered.ts";
import type { Vfs } from "./vfs.ts";

const TMPFS_MAGIC = 0x01021994;
/** A guest must not fill the memory of its host. */
const DEFAULT_MOST = 2 * 2 ** 30;

export interface MemoryOptions {
  type?: string;
  /** Bytes of content; beyond them writes fail with ENOSPC. */
  most?: number;
  /** Of the root directory. */
  mode?: number;
  uid?: number;
  gid?: number;
  lower?: Lower;
  /** Names are made and removed by somebody else, too (devpts). */
  volatile?: boolean;
}

export class MemoryFileSystem implements FileSystem {
  readonly type: string;
  readonly dev: number;
  readonly root: MemoryDirectory;
  readonly readOnly = false;
  readonly volatile: boolean;
  readonly now: () => Time;
  /** Directories show a size like those of a disk, not one that counts entries. */
  readonly likeDisk: boolean;
  private readonly vfs: Vfs;
  private readonly mostPages: number;
  private pages = 0;
  private inodes = 0;
  private nextNumber = 1;
  /** Files of the tree below that somebody has, by device and number. */
  private readonly known = new Remembered<string, MemoryInode>();
  /** Those that are not as they are below any more. */
  private readonly kept = new Set<MemoryInode>();

  constructor(vfs: Vfs, options: MemoryOptions = {}) {
    this.type = options.type ?? "tmpfs";
    this.volatile = options.volatile ?? false;
    this.vfs = vfs;
    this.now = vfs.now;
    this.likeDisk = options.lower !== undefined;
    this.mostPages = Math.ceil((options.most ?? DEFAULT_MOST) / PAGE_SIZE);
    const { lower } = options;
    this.dev = lower?.stat.dev ?? vfs.anonymousDevice();
    // Numbers of new files must not meet those of the tree below.
    if (lower !== undefined) this.nextNumber = 2 ** 40;
    this.root =
      lower === undefined
        ? new MemoryDirectory(this, {
            mode: S_IFDIR | (options.mode ?? 0o755),
            uid: options.uid ?? 0,
            gid: options.gid ?? 0,
          })
        : (this.fromLower(lower) as MemoryDirectory);
  }

  newNumber(): number {
    this.inodes += 1;
    return this.nextNumber++;
  }

  make(source: NewInode | Lower): MemoryInode {
    const mode = isLower(source) ? source.stat.mode : source.mode;
    return (mode & 0o170000) === S_IFDIR ? new MemoryDirectory(this, source) : new MemoryInode(this, source);
  }

  fromLower(lower: Lower): MemoryInode {
    const key = `${lower.stat.dev}:${lower.stat.ino}`;
    const known = this.known.get(key);
    if (known !== undefined) return known;
    const inode = this.make(lower);
    this.known.set(key, inode);
    return inode;
  }

  keep(inode: MemoryInode): void {
    this.kept.add(inode);
  }

  drop(inode: MemoryInode): void {
    this.inodes -= 1;
    this.kept.delete(inode);
  }

  reserve(pages: number): void {
    if (this.pages + pages > this.mostPages || this.vfs.account?.has(pages) === false) {
      throw new Errno(E.NOSPC);
    }
    this.vfs.account?.take(pages);
    this.pages += pages;
  }

  release(pages: number): void {
    const given = Math.min(pages, this.pages);
    this.vfs.account?.give(given);
    this.pages -= given;
  }

  get pagesInUse(): number {
    return this.pages;
  }

  statfs(): StatFs {
    const free = Math.max(0, this.mostPages - this.pages);
    return {
      type: TMPFS_MAGIC,
      blockSize: PAGE_SIZE,
      blocks: this.mostPages,
      free,
      available: free,
      files: 2 ** 20 + this.inodes,
      freeFiles: 2 ** 20,
      nameLength: 255,
    };
  }

  sync(): void {}
}
