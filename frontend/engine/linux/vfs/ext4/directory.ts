/** Entries of a directory. Lookups go through an index in memory; the hash tree of a large one is given up when it changes. */

import { E, Errno } from "../../errno.ts";
import type { ByteString } from "../../types.ts";
import type { Entry } from "../inode.ts";
import { crc32c } from "./checksums.ts";
import { INCOMPAT_FILETYPE } from "./geometry.ts";
import type { Ext4Inode } from "./inode.ts";
import { FLAG_INDEX } from "./raw-inode.ts";

interface Slot {
  ino: number;
  block: number;
  offset: number;
}

const HEAD = 8;
const TAIL = 12;
const TAIL_TYPE = 0xde;
/** DT_* by ext4's file type. */
const TYPES = [0, 8, 4, 2, 6, 1, 12, 10];

interface Record {
  offset: number;
  ino: number;
  length: number;
  nameLength: number;
  type: number;
}

function sizeFor(nameLength: number): number {
  return (HEAD + nameLength + 3) & ~3;
}

export class Directory {
  private readonly inode: Ext4Inode;
  private index: Map<ByteString, Slot> | undefined;
  /** The most that can be put into each block. */
  private room: number[] = [];

  constructor(inode: Ext4Inode) {
    this.inode = inode;
  }

  private get geometry() {
    return this.inode.fs.geometry;
  }

  private get hasTypes(): boolean {
    return (this.geometry.incompat & INCOMPAT_FILETYPE) !== 0;
  }

  /** Bytes of a block that records may use. */
  private get limit(): number {
    const { blockSize, hasChecksums } = this.geometry;
    return hasChecksums ? blockSize - TAIL : blockSize;
  }

  private get blocks(): number {
    return Math.floor(this.inode.size / this.geometry.blockSize);
  }

  private physical(block: number): number {
    const physical = this.inode.blocks.physical(block);
    if (physical === 0) throw new Errno(E.IO);
    return physical;
  }

  private *records(bytes: Uint8Array): Iterable<Record> {
    const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let offset = 0; offset + HEAD <= bytes.length;) {
      const length = data.getUint16(offset + 4, true);
      if (length < HEAD || (length & 3) !== 0 || offset + length > bytes.length) throw new Errno(E.IO);
      const type = this.hasTypes ? bytes[offset + 7]! : 0;
      const nameLength = bytes[offset + 6]!;
      yield { offset, ino: data.getUint32(offset, true), length, nameLength, type };
      offset += length;
    }
  }

  private name(bytes: Uint8Array, record: Record): ByteString {
    const start = record.offset + HEAD;
    return String.fromCharCode(...bytes.subarray(start, start + record.nameLength));
  }

  private roomIn(bytes: Uint8Array): number {
    let most = 0;
    for (const { offset, ino, length, nameLength } of this.records(bytes)) {
      if (offset >= this.limit) break;
      most = Math.max(most, length - (ino === 0 ? 0 : sizeFor(nameLength)));
    }
    return most;
  }

  private load(): Map<ByteString, Slot> {
    if (this.index !== undefined) return this.index;
    const index = new Map<ByteString, Slot>();
    const room: number[] = [];
    for (let block = 0; block < this.blocks; block += 1) {
      const bytes = this.geometry.block(this.physical(block));
      for (const record of this.records(bytes)) {
        const { ino, offset } = record;
        if (ino !== 0) index.set(this.name(bytes, record), { ino, block, offset });
      }
      room.push(this.roomIn(bytes));
    }
    this.room = room;
    return (this.index = index);
  }

  /** After a failed transaction. */
  forget(): void {
    this.index = undefined;
  }

  find(name: ByteString): number | undefined {
    return this.load().get(name)?.ino;
  }

  get empty(): boolean {
    return this.load().size <= 2;
  }

  /** Cookies are places in the directory, behind those of the two special entries. */
  list(cookie: number, emit: (entry: Entry) => boolean): void {
    const { blockSize } = this.geometry;
    const from = Math.max(0, cookie - 3);
    for (let block = Math.floor(from / blockSize); block < this.blocks; block += 1) {
      const bytes = this.geometry.block(this.physical(block));
      for (const record of this.records(bytes)) {
        const place = block * blockSize + record.offset;
        if (record.ino === 0 || place < from) continue;
        const name = this.name(bytes, record);
        if (name === "." || name === "..") continue;
        const type = TYPES[record.type] ?? 0;
        if (!emit({ name, ino: record.ino, type, next: place + 4 })) return;
      }
    }
  }

  // Changes: in a transaction of the inode.

  private edit(block: number, change: (bytes: Uint8Array, data: DataView) => void): void {
    const bytes = this.geometry.edit(this.physical(block));
    change(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    this.seal(bytes);
    this.room[block] = this.roomIn(bytes);
  }

  private seal(bytes: Uint8Array): void {
    if (!this.geometry.hasChecksums) return;
    const at = this.limit;
    const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    data.setUint32(at, 0, true);
    data.setUint32(at + 4, TAIL | (TAIL_TYPE << 24), true);
    data.setUint32(at + 8, crc32c(this.inode.raw.seed, bytes.subarray(0, at)), true);
  }

  /** Makes plain blocks of the hash tree's inner ones. */
  private unhash(): void {
    const { raw } = this.inode;
    if ((raw.flags & FLAG_INDEX) === 0) return;
    raw.flags &= ~FLAG_INDEX;
    const { blockSize } = this.geometry;
    const second = 12;
    this.edit(0, (bytes, data) => {
      data.setUint16(second + 4, this.limit - second, true);
      bytes.fill(0, second + 12);
    });
    for (let block = 1; block < this.blocks; block += 1) {
      const data = new DataView(this.geometry.block(this.physical(block)).slice().buffer);
      if (data.getUint32(0, true) !== 0 || data.getUint16(4, true) !== blockSize) continue;
      this.edit(block, (bytes, inner) => {
        bytes.fill(0);
        inner.setUint16(4, this.limit, true);
      });
    }
  }

  private put(
    data: DataView,
    bytes: Uint8Array,
    at: number,
    ino: number,
    type: number,
    name: ByteString,
  ): void {
    data.setUint32(at, ino, true);
    bytes[at + 6] = name.length;
    bytes[at + 7] = this.hasTypes ? TYPES.indexOf(type) : 0;
    for (let i = 0; i < name.length; i += 1) bytes[at + HEAD + i] = name.charCodeAt(i);
  }

  /** `type`: DT_*. */
  add(name: ByteString, ino: number, type: number): void {
    const index = this.load();
    this.unhash();
    const need = sizeFor(name.length);
    let block = this.room.findIndex((room) => room >= need);
    if (block < 0) block = this.grow();
    this.edit(block, (bytes, data) => {
      for (const record of this.records(bytes)) {
        const used = record.ino === 0 ? 0 : sizeFor(record.nameLength);
        if (record.length - used < need) continue;
        const at = record.offset + used;
        if (used > 0) data.setUint16(record.offset + 4, used, true);
        data.setUint16(at + 4, record.length - used, true);
        this.put(data, bytes, at, ino, type, name);
        index.set(name, { ino, block, offset: at });
        return;
      }
      throw new Errno(E.IO);
    });
  }

  private grow(): number {
    const { blockSize } = this.geometry;
    const block = this.blocks;
    this.inode.blocks.ensure(block, block + 1);
    this.inode.raw.size = (block + 1) * blockSize;
    this.clear(block, this.limit);
    return block;
  }

  /** One empty record. */
  private clear(block: number, length: number): void {
    const bytes = this.geometry.fresh(this.physical(block));
    new DataView(bytes.buffer, bytes.byteOffset).setUint16(4, length, true);
    this.seal(bytes);
    this.room[block] = length;
  }

  /** The first block of a new directory. */
  begin(parent: number): void {
    const block = this.grow();
    this.index = new Map();
    this.edit(block, (bytes, data) => {
      data.setUint16(4, 12, true);
      this.put(data, bytes, 0, this.inode.ino, 4, ".");
      data.setUint16(12 + 4, this.limit - 12, true);
      this.put(data, bytes, 12, parent, 4, "..");
    });
    this.index.set(".", { ino: this.inode.ino, block, offset: 0 });
    this.index.set("..", { ino: parent, block, offset: 12 });
  }

  remove(name: ByteString): void {
    const index = this.load();
    const slot = index.get(name);
    if (slot === undefined) throw new Errno(E.NOENT);
    this.unhash();
    this.edit(slot.block, (bytes, data) => {
      let before: Record | undefined;
      for (const record of this.records(bytes)) {
        if (record.offset === slot.offset) {
          if (before === undefined) data.setUint32(slot.offset, 0, true);
          else {
            data.setUint16(before.offset + 4, before.length + record.length, true);
            bytes.fill(0, record.offset, record.offset + HEAD + record.nameLength);
          }
          break;
        }
        before = record;
      }
    });
    index.delete(name);
  }

  /** The entry means another file from now on (`..` of a directory that moves, exchanged names). */
  replace(name: ByteString, ino: number, type: number): void {
    const slot = this.load().get(name);
    if (slot === undefined) throw new Errno(E.NOENT);
    this.unhash();
    this.edit(slot.block, (bytes, data) => {
      data.setUint32(slot.offset, ino, true);
      if (this.hasTypes) bytes[slot.offset + 7] = TYPES.indexOf(type);
    });
    slot.ino = ino;
  }
}
