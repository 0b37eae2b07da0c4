/** The super block and the group descriptors: where things are, and how many are free. */

import { crc16, crc32c, crc32cWord } from "./checksums.ts";
import { DEVICE_BLOCK, type Store } from "./store.ts";

/** An image that cannot be used; the message says why. */
export class DiskFormatError extends Error {
  override readonly name = "DiskFormatError";
}

const MAGIC = 0xef53;
const COMPAT_SPARSE_SUPER2 = 0x200;
const INCOMPAT_RECOVER = 0x4;
export const INCOMPAT_FILETYPE = 0x2;
export const INCOMPAT_EXTENTS = 0x40;
const INCOMPAT_64BIT = 0x80;
const INCOMPAT_CSUM_SEED = 0x2000;
const INCOMPAT_KNOWN =
  INCOMPAT_FILETYPE | INCOMPAT_RECOVER | INCOMPAT_EXTENTS | INCOMPAT_64BIT | 0x200 | INCOMPAT_CSUM_SEED;
const RO_SPARSE_SUPER = 0x1;
export const RO_HUGE_FILE = 0x8;
const RO_GDT_CSUM = 0x10;
const RO_METADATA_CSUM = 0x400;
const RO_KNOWN = RO_SPARSE_SUPER | 0x2 | RO_HUGE_FILE | RO_GDT_CSUM | 0x20 | 0x40 | RO_METADATA_CSUM;

const BG_INODE_UNINIT = 1;
const BG_BLOCK_UNINIT = 2;

const INCOMPAT_NAMES: Record<number, string> = {
  0x1: "compression",
  0x8: "journal_dev",
  0x10: "meta_bg",
  0x100: "mmp",
  0x400: "ea_inode",
  0x4000: "large_dir",
  0x8000: "inline_data",
  0x10000: "encrypt",
  0x20000: "casefold",
};

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export class Geometry {
  readonly store: Store;
  readonly blockSize: number;
  readonly blocks: number;
  readonly firstBlock: number;
  readonly blocksPerGroup: number;
  readonly inodesPerGroup: number;
  readonly inodes: number;
  readonly inodeSize: number;
  readonly firstInode: number;
  readonly groups: number;
  readonly incompat: number;
  readonly roCompat: number;
  readonly hasChecksums: boolean;
  /** Where checksums of this file system begin. */
  readonly seed: number;
  readonly readOnly: boolean;
  readonly wantExtra: number;
  readonly reservedBlocks: number;
  private readonly descriptorSize: number;
  private readonly compat: number;
  private readonly backups: [number, number];
  private readonly reservedDescriptors: number;
  private readonly uuid: Uint8Array;

  /** Throws `Block` while blocks are on their way, `DiskFormatError` for what it cannot use. */
  constructor(store: Store) {
    this.store = store;
    store.pin(0);
    const s = view(store.block(0).subarray(1024, 2048));
    const u32 = (at: number): number => s.getUint32(at, true);
    const u16 = (at: number): number => s.getUint16(at, true);
    if (u16(0x38) !== MAGIC) throw new DiskFormatError("The disk has no ext2, ext3 or ext4 file system.");
    this.compat = u32(0x5c);
    this.incompat = u32(0x60);
    this.roCompat = u32(0x64);
    if ((this.incompat & INCOMPAT_RECOVER) !== 0) {
      throw new DiskFormatError(
        "The file system's journal has to be replayed first: mount and unmount it under Linux, or run e2fsck.",
      );
    }
    const unknown = this.incompat & ~INCOMPAT_KNOWN;
    if (unknown !== 0) {
      const names = Object.entries(INCOMPAT_NAMES).filter(([bit]) => (unknown & Number(bit)) !== 0);
      const list = names.map(([, name]) => name).join(", ") || `0x${unknown.toString(16)}`;
      throw new DiskFormatError(`The file system uses features that are not supported: ${list}.`);
    }
    this.readOnly = (this.roCompat & ~RO_KNOWN) !== 0;
    this.blockSize = 1024 << u32(0x18);
    if (this.blockSize > DEVICE_BLOCK) {
      throw new DiskFormatError(`Blocks of ${this.blockSize} bytes are not supported; use up to 4096.`);
    }
    const is64 = (this.incompat & INCOMPAT_64BIT) !== 0;
    this.blocks = u32(0x4) + (is64 ? u32(0x150) * 2 ** 32 : 0);
    this.reservedBlocks = u32(0x8) + (is64 ? u32(0x154) * 2 ** 32 : 0);
    this.firstBlock = u32(0x14);
    this.blocksPerGroup = u32(0x20);
    this.inodesPerGroup = u32(0x28);
    this.inodes = u32(0);
    const dynamic = u32(0x4c) >= 1;
    this.inodeSize = dynamic ? u16(0x58) : 128;
    this.firstInode = dynamic ? u32(0x54) : 11;
    this.wantExtra = this.inodeSize > 128 ? Math.min(u16(0x15e) || 32, this.inodeSize - 128) : 0;
    this.descriptorSize = is64 ? u16(0xfe) : 32;
    this.reservedDescriptors = u16(0xce);
    this.backups = [u32(0x24c), u32(0x250)];
    this.uuid = store.block(0).slice(1024 + 0x68, 1024 + 0x78);
    this.hasChecksums = (this.roCompat & RO_METADATA_CSUM) !== 0;
    this.seed = (this.incompat & INCOMPAT_CSUM_SEED) !== 0 ? u32(0x270) : crc32c(0xffffffff, this.uuid);
    this.groups = Math.ceil((this.blocks - this.firstBlock) / this.blocksPerGroup);
    const size = this.blocks * this.blockSize;
    if (size > store.device.blocks * DEVICE_BLOCK) {
      throw new DiskFormatError("The file system is larger than its disk.");
    }
    const end = this.descriptorOffset(this.groups);
    for (let at = this.descriptorOffset(0); at < end; at += DEVICE_BLOCK)
      store.pin(Math.floor(at / DEVICE_BLOCK));
    store.pin(Math.floor((end - 1) / DEVICE_BLOCK));
  }

  // Blocks of the file system within those of the device.

  /** To be read only. */
  block(number: number): Uint8Array {
    const at = number * this.blockSize;
    const start = at % DEVICE_BLOCK;
    return this.store.block(Math.floor(at / DEVICE_BLOCK)).subarray(start, start + this.blockSize);
  }

  edit(number: number): Uint8Array {
    const at = number * this.blockSize;
    const start = at % DEVICE_BLOCK;
    return this.store.edit(Math.floor(at / DEVICE_BLOCK)).subarray(start, start + this.blockSize);
  }

  /** Zeros. */
  fresh(number: number): Uint8Array {
    if (this.blockSize === DEVICE_BLOCK) return this.store.fresh(number);
    return this.edit(number).fill(0);
  }

  // The super block.

  private superBlock(): DataView {
    return view(this.store.block(0).subarray(1024, 2048));
  }

  private editSuperBlock(change: (s: DataView) => void): void {
    const bytes = this.store.edit(0).subarray(1024, 2048);
    const s = view(bytes);
    change(s);
    if (this.hasChecksums) s.setUint32(0x3fc, crc32c(0xffffffff, bytes.subarray(0, 0x3fc)), true);
  }

  get freeBlocks(): number {
    const s = this.superBlock();
    return s.getUint32(0xc, true) + s.getUint32(0x158, true) * 2 ** 32;
  }

  get freeInodes(): number {
    return this.superBlock().getUint32(0x10, true);
  }

  countFree(blocks: number, inodes: number): void {
    const free = this.freeBlocks + blocks;
    this.editSuperBlock((s) => {
      s.setUint32(0xc, free % 2 ** 32, true);
      if ((this.incompat & INCOMPAT_64BIT) !== 0) s.setUint32(0x158, Math.floor(free / 2 ** 32), true);
      s.setUint32(0x10, s.getUint32(0x10, true) + inodes, true);
    });
  }

  get firstOrphan(): number {
    return this.superBlock().getUint32(0xe8, true);
  }

  set firstOrphan(ino: number) {
    this.editSuperBlock((s) => s.setUint32(0xe8, ino, true));
  }

  needLargeFiles(): void {
    if ((this.superBlock().getUint32(0x64, true) & 2) !== 0) return;
    this.editSuperBlock((s) => s.setUint32(0x64, s.getUint32(0x64, true) | 2, true));
  }

  needXattrs(): void {
    if ((this.superBlock().getUint32(0x5c, true) & 8) !== 0) return;
    this.editSuperBlock((s) => s.setUint32(0x5c, s.getUint32(0x5c, true) | 8, true));
  }

  // Group descriptors.

  private descriptorOffset(group: number): number {
    return (this.firstBlock + 1) * this.blockSize + group * this.descriptorSize;
  }

  private descriptor(group: number, edit: boolean): DataView {
    const at = this.descriptorOffset(group);
    const number = Math.floor(at / DEVICE_BLOCK);
    const bytes = edit ? this.store.edit(number) : this.store.block(number);
    return view(bytes.subarray(at % DEVICE_BLOCK, (at % DEVICE_BLOCK) + this.descriptorSize));
  }

  group(number: number): Group {
    return new Group(this.descriptor(number, false), this.descriptorSize >= 64);
  }

  editGroup(number: number, change: (group: Group) => void): void {
    const d = this.descriptor(number, true);
    change(new Group(d, this.descriptorSize >= 64));
    this.sealGroup(number, d);
  }

  private sealGroup(number: number, d: DataView): void {
    const bytes = new Uint8Array(d.buffer, d.byteOffset, this.descriptorSize);
    const usesCrc16 = !this.hasChecksums && (this.roCompat & RO_GDT_CSUM) !== 0;
    if (this.hasChecksums) {
      d.setUint16(0x1e, 0, true);
      d.setUint16(0x1e, crc32c(crc32cWord(this.seed, number), bytes) & 0xffff, true);
    } else if (usesCrc16) {
      const word = new Uint8Array(4);
      view(word).setUint32(0, number, true);
      let crc = crc16(crc16(crc16(0xffff, this.uuid), word), bytes.subarray(0, 0x1e));
      if (this.descriptorSize > 0x20) crc = crc16(crc, bytes.subarray(0x20));
      d.setUint16(0x1e, crc, true);
    }
  }

  get hasUninitialised(): boolean {
    return this.hasChecksums || (this.roCompat & RO_GDT_CSUM) !== 0;
  }

  groupStart(group: number): number {
    return this.firstBlock + group * this.blocksPerGroup;
  }

  blocksIn(group: number): number {
    return Math.min(this.blocksPerGroup, this.blocks - this.groupStart(group));
  }

  hasSuperBlock(group: number): boolean {
    if (group === 0) return true;
    if ((this.compat & COMPAT_SPARSE_SUPER2) !== 0) return this.backups.includes(group);
    if ((this.roCompat & RO_SPARSE_SUPER) === 0 || group === 1) return true;
    return [3, 5, 7].some((base) => {
      let power = base;
      while (power < group) power *= base;
      return power === group;
    });
  }

  /** Blocks of a group that its descriptors' and super block's copies take. */
  overhead(group: number): number {
    if (!this.hasSuperBlock(group)) return 0;
    const descriptors = Math.ceil((this.groups * this.descriptorSize) / this.blockSize);
    return 1 + descriptors + this.reservedDescriptors;
  }

  get tableBlocks(): number {
    return Math.ceil((this.inodesPerGroup * this.inodeSize) / this.blockSize);
  }

  /** Byte of the device at which an inode begins. */
  inodeOffset(ino: number): number {
    const group = Math.floor((ino - 1) / this.inodesPerGroup);
    const index = (ino - 1) % this.inodesPerGroup;
    return this.group(group).inodeTable * this.blockSize + index * this.inodeSize;
  }
}

/** One group's descriptor. */
export class Group {
  private readonly d: DataView;
  private readonly wide: boolean;

  constructor(d: DataView, wide: boolean) {
    this.d = d;
    this.wide = wide;
  }

  private wideNumber(low: number, high: number): number {
    return this.d.getUint32(low, true) + (this.wide ? this.d.getUint32(high, true) * 2 ** 32 : 0);
  }

  private get16(low: number, high: number): number {
    return this.d.getUint16(low, true) + (this.wide ? this.d.getUint16(high, true) * 65536 : 0);
  }

  private set16(low: number, high: number, value: number): void {
    this.d.setUint16(low, value & 0xffff, true);
    if (this.wide) this.d.setUint16(high, value >>> 16, true);
  }

  get blockBitmap(): number {
    return this.wideNumber(0, 0x20);
  }

  get inodeBitmap(): number {
    return this.wideNumber(4, 0x24);
  }

  get inodeTable(): number {
    return this.wideNumber(8, 0x28);
  }

  get freeBlocks(): number {
    return this.get16(0xc, 0x2c);
  }

  set freeBlocks(value: number) {
    this.set16(0xc, 0x2c, value);
  }

  get freeInodes(): number {
    return this.get16(0xe, 0x2e);
  }

  set freeInodes(value: number) {
    this.set16(0xe, 0x2e, value);
  }

  get usedDirectories(): number {
    return this.get16(0x10, 0x30);
  }

  set usedDirectories(value: number) {
    this.set16(0x10, 0x30, value);
  }

  get unusedInodes(): number {
    return this.get16(0x1c, 0x32);
  }

  set unusedInodes(value: number) {
    this.set16(0x1c, 0x32, value);
  }

  get blocksUninitialised(): boolean {
    return (this.d.getUint16(0x12, true) & BG_BLOCK_UNINIT) !== 0;
  }

  get inodesUninitialised(): boolean {
    return (this.d.getUint16(0x12, true) & BG_INODE_UNINIT) !== 0;
  }

  initialised(blocks: boolean): void {
    const flag = blocks ? BG_BLOCK_UNINIT : BG_INODE_UNINIT;
    this.d.setUint16(0x12, this.d.getUint16(0x12, true) & ~flag, true);
  }

  setChecksum(blocks: boolean, crc: number): void {
    this.d.setUint16(blocks ? 0x18 : 0x1a, crc & 0xffff, true);
    if (this.wide) this.d.setUint16(blocks ? 0x38 : 0x3a, crc >>> 16, true);
  }
}
