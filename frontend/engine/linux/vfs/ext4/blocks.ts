/** The blocks of one inode: where they are, taking and giving back. */

import { E, Errno } from "../../errno.ts";
import type { Extent } from "./allocation.ts";
import type { Ext4FileSystem } from "./filesystem.ts";
import {
  loadExtents,
  loadIndirect,
  type Mapped,
  mostIndirect,
  storeExtents,
  storeIndirect,
  type TreeBlocks,
} from "./mapping.ts";
import { FLAG_EXTENTS, type RawInode } from "./raw-inode.ts";
import { runAt, runBefore, type Runs, withRun, without } from "./runs.ts";

export class InodeBlocks implements Mapped {
  private readonly fs: Ext4FileSystem;
  private readonly raw: RawInode;
  private loaded: Runs | undefined;
  private tree: TreeBlocks = [];

  constructor(fs: Ext4FileSystem, raw: RawInode) {
    this.fs = fs;
    this.raw = raw;
  }

  get root(): DataView {
    return this.raw.root;
  }

  get seed(): number {
    return this.raw.seed;
  }

  private get extents(): boolean {
    return (this.raw.flags & FLAG_EXTENTS) !== 0;
  }

  /** Throws `Block`. */
  get runs(): Runs {
    if (this.loaded === undefined) {
      const { geometry } = this.fs;
      if (this.extents) ({ runs: this.loaded, tree: this.tree } = loadExtents(geometry, this.root));
      else this.loaded = loadIndirect(geometry, this.root);
    }
    return this.loaded;
  }

  /** What a failed transaction goes back to. */
  save(): () => void {
    const runs = this.loaded;
    const tree = this.tree;
    return () => {
      this.loaded = runs;
      this.tree = tree;
    };
  }

  /** A fresh inode has no blocks. */
  begin(): void {
    this.loaded = [];
    this.tree = [];
    if (this.extents) this.store([], 0, 0);
  }

  /** The block of the file system that has that block of the file; 0: a hole, or allocated and never written. */
  physical(logical: number): number {
    const run = runAt(this.runs, logical);
    return run === undefined || run.unwritten ? 0 : run.physical + (logical - run.logical);
  }

  allocateBlock(): number {
    const last = this.loaded?.at(-1);
    return this.allocate(last === undefined ? this.goal : last.physical + last.length, 1).start;
  }

  freeBlock(block: number): void {
    this.free({ start: block, length: 1 });
  }

  private get goal(): number {
    const { geometry } = this.fs;
    return geometry.groupStart(Math.floor((this.raw.ino - 1) / geometry.inodesPerGroup));
  }

  private allocate(goal: number, most: number): Extent {
    const extent = this.fs.allocation.allocate(goal, most);
    this.raw.sectors += extent.length * (this.fs.geometry.blockSize / 512);
    return extent;
  }

  private free(extent: Extent): void {
    this.fs.allocation.free(extent);
    this.raw.sectors -= extent.length * (this.fs.geometry.blockSize / 512);
  }

  private store(runs: Runs, start: number, end: number): void {
    this.loaded = runs;
    const { geometry } = this.fs;
    if (this.extents) this.tree = storeExtents(geometry, this, runs, this.tree);
    else storeIndirect(geometry, this, runs, start, end);
  }

  /** Every block of [start, end) is there afterwards; `unwritten`: without content. In a transaction of its inode. */
  ensure(start: number, end: number, unwritten = false): void {
    const { geometry } = this.fs;
    const most = this.extents ? 2 ** 32 - 1 : mostIndirect(geometry);
    if (end > most) throw new Errno(E.FBIG);
    let { runs } = this;
    let changed = false;
    for (let at = start; at < end;) {
      const run = runAt(runs, at);
      if (run !== undefined) {
        const runEnd = Math.min(end, run.logical + run.length);
        if (run.unwritten && !unwritten) {
          const physical = run.physical + (at - run.logical);
          const left = without(runs, at, runEnd).runs;
          runs = withRun(left, { logical: at, physical, length: runEnd - at, unwritten: false });
          changed = true;
        }
        at = runEnd;
        continue;
      }
      const next = runs.find((each) => each.logical > at)?.logical ?? end;
      const before = runBefore(runs, at);
      const goal = before === undefined ? this.goal : before.physical + (at - before.logical);
      const extent = this.allocate(goal, Math.min(end, next) - at);
      const { start: physical, length } = extent;
      runs = withRun(runs, { logical: at, physical, length, unwritten: unwritten && this.extents });
      changed = true;
      at += length;
    }
    if (changed) this.store(runs, start, end);
  }

  /** Blocks of [start, end) are given back. In a transaction of its inode. */
  remove(start: number, end: number): void {
    const { runs, removed } = without(this.runs, start, end);
    if (removed.length === 0) return;
    for (const run of removed) this.free({ start: run.physical, length: run.length });
    const last = removed.at(-1)!;
    this.store(runs, removed[0]!.logical, last.logical + last.length);
  }
}
