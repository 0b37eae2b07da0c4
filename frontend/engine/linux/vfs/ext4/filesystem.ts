/** An ext2, ext3 or ext4 file system on a block device. Crash safety is the device's: there is no journal. */

import type { Time } from "../../types.ts";
import { Errno } from "../../errno.ts";
import { Block, type Waiter } from "../../wait.ts";
import { S_IFDIR, S_IFMT } from "../constants.ts";
import type { FileSystem, NewInode, StatFs } from "../inode.ts";
import { Remembered } from "../remembered.ts";
import { Allocation } from "./allocation.ts";
import { DiskFormatError, Geometry, INCOMPAT_EXTENTS } from "./geometry.ts";
import { Ext4Inode } from "./inode.ts";
import { PageCache } from "./page-cache.ts";
import { RawInode } from "./raw-inode.ts";
import { type Device, DEVICE_BLOCK, Store } from "./store.ts";

const EXT4_MAGIC = 0xef53;
const ROOT_INODE = 2;

export class Ext4FileSystem implements FileSystem {
  readonly type = "ext4";
  readonly dev: number;
  readonly volatile = false;
  readonly root: Ext4Inode;
  readonly store: Store;
  readonly geometry: Geometry;
  readonly allocation: Allocation;
  readonly pages = new PageCache();
  readonly now: () => Time;
  private readonly inodes = new Remembered<number, Ext4Inode>();
  /** Of the transaction that is under way. */
  private readonly touched = new Set<Ext4Inode>();
  /** Nobody has them any more, and what frees them was not here yet. */
  private readonly unused = new Set<Ext4Inode>();
  private generation: number;

  /** Throws `Block` while blocks are on their way, `DiskFormatError`. `seed`: any number, for generations of inodes. */
  constructor(store: Store, dev: number, now: () => Time, seed = 0) {
    this.store = store;
    this.dev = dev;
    this.now = now;
    this.generation = seed >>> 0;
    this.geometry = new Geometry(store);
    this.allocation = new Allocation(this.geometry);
    this.root = this.inode(ROOT_INODE);
    if (!this.root.isDirectory) throw new DiskFormatError("The file system's root is not a directory.");
  }

  get readOnly(): boolean {
    return this.geometry.readOnly;
  }

  get usesExtents(): boolean {
    return (this.geometry.incompat & INCOMPAT_EXTENTS) !== 0;
  }

  inode(ino: number): Ext4Inode {
    const known = this.inodes.get(ino);
    if (known !== undefined) return known;
    const { geometry, store } = this;
    if (ino < 1 || ino > geometry.inodes) throw new Errno(5);
    const at = geometry.inodeOffset(ino);
    const start = at % DEVICE_BLOCK;
    const bytes = store.block(Math.floor(at / DEVICE_BLOCK)).slice(start, start + geometry.inodeSize);
    const inode = new Ext4Inode(this, new RawInode(geometry, ino, bytes));
    this.inodes.set(ino, inode);
    return inode;
  }

  /** A number and fresh bytes for it. In a transaction. */
  newInode(parent: number, attributes: NewInode): Ext4Inode {
    const { geometry } = this;
    const isDirectory = (attributes.mode & S_IFMT) === S_IFDIR;
    const ino = this.allocation.allocateInode(parent, isDirectory);
    const raw = new RawInode(geometry, ino, new Uint8Array(geometry.inodeSize));
    this.generation = (Math.imul(this.generation, 1664525) + 1013904223) >>> 0;
    raw.initialise(attributes.mode, attributes.uid, attributes.gid, this.now(), this.generation);
    const inode = new Ext4Inode(this, raw);
    this.inodes.set(ino, inode);
    this.store.undo(() => this.inodes.delete(ino));
    this.touchInode(inode);
    return inode;
  }

  /** All or nothing; inodes that were touched are written at its end. */
  transaction<T>(action: () => T): T {
    if (this.store.inTransaction) return action();
    try {
      return this.store.transaction(() => {
        const result = action();
        for (const inode of this.touched) this.write(inode);
        return result;
      });
    } finally {
      this.touched.clear();
    }
  }

  touchInode(inode: Ext4Inode): void {
    if (this.touched.has(inode)) return;
    this.touched.add(inode);
    this.store.undo(inode.save());
  }

  private write(inode: Ext4Inode): void {
    inode.raw.seal();
    const at = this.geometry.inodeOffset(inode.ino);
    this.store.edit(Math.floor(at / DEVICE_BLOCK)).set(inode.raw.bytes, at % DEVICE_BLOCK);
  }

  // Files without a name that somebody still has: a list on the disk, each names the next one in its time of deletion.

  addOrphan(inode: Ext4Inode): void {
    inode.change(() => {
      inode.raw.deletion = this.geometry.firstOrphan;
      this.geometry.firstOrphan = inode.ino;
    });
  }

  removeOrphan(inode: Ext4Inode): void {
    this.transaction(() => {
      let before: Ext4Inode | undefined;
      for (let ino = this.geometry.firstOrphan; ino !== 0 && ino !== inode.ino; ino = before.raw.deletion) {
        before = this.inode(ino);
      }
      const next = inode.raw.deletion;
      if (before === undefined) this.geometry.firstOrphan = next;
      else {
        const last = before;
        last.change(() => (last.raw.deletion = next));
      }
      inode.change(() => (inode.raw.deletion = 0));
    });
  }

  releaseLater(inode: Ext4Inode): void {
    this.unused.add(inode);
    try {
      this.releaseUnused();
    } catch (problem) {
      if (!(problem instanceof Block)) throw problem;
    }
  }

  private releaseUnused(): void {
    for (const inode of [...this.unused]) {
      if (!inode.isHeld && inode.nlink === 0) {
        this.transaction(() => {
          this.removeOrphan(inode);
          inode.release();
        });
      }
      this.unused.delete(inode);
    }
  }

  /** Files that an end without warning left without a name are freed. Throws `Block`: call again. */
  releaseOrphans(): void {
    for (let ino = this.geometry.firstOrphan; ino !== 0; ino = this.geometry.firstOrphan) {
      const inode = this.inode(ino);
      this.transaction(() => {
        this.removeOrphan(inode);
        if (inode.nlink === 0) inode.release();
      });
    }
  }

  /** The number may be given anew. */
  released(inode: Ext4Inode): void {
    this.inodes.delete(inode.ino);
    if (this.store.inTransaction) this.store.undo(() => this.inodes.set(inode.ino, inode));
  }

  statfs(): StatFs {
    const { geometry } = this;
    const free = geometry.freeBlocks;
    let overhead = geometry.firstBlock;
    for (let group = 0; group < geometry.groups; group += 1) {
      overhead += geometry.overhead(group) + 2 + geometry.tableBlocks;
    }
    return {
      type: EXT4_MAGIC,
      blockSize: geometry.blockSize,
      blocks: geometry.blocks - overhead,
      free,
      available: Math.max(0, free - geometry.reservedBlocks),
      files: geometry.inodes,
      freeFiles: geometry.freeInodes,
      nameLength: 255,
    };
  }

  sync(): void {
    this.releaseUnused();
    this.pages.writeAll();
  }
}

/** Waits for the disk where an action throws `Block`, and tries again. */
export async function settle<T>(action: () => T): Promise<T> {
  for (;;) {
    try {
      return action();
    } catch (problem) {
      if (!(problem instanceof Block)) throw problem;
      await new Promise<void>((resolve) => {
        const waiter: Waiter = { woken: () => resolve() };
        for (const queue of problem.queues) queue.add(waiter);
      });
    }
  }
}

/** Rejects with `DiskFormatError` for what cannot be used. Orphans are freed unless a saved machine still has them open. */
export async function openExt4(
  device: Device,
  dev: number,
  now: () => Time,
  options: { keepOrphans?: boolean; seed?: number; mostKept?: number } = {},
): Promise<Ext4FileSystem> {
  const store = new Store(device, options.mostKept);
  const fs = await settle(() => new Ext4FileSystem(store, dev, now, options.seed ?? 0));
  if (options.keepOrphans !== true && !fs.readOnly) await settle(() => fs.releaseOrphans());
  return fs;
}
