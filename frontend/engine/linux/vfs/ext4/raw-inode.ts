/** The bytes of an inode on the disk, and what they say. */

import type { Stat, Time } from "../../types.ts";
import { majorOf, makeDevice, minorOf, S_IFBLK, S_IFCHR, S_IFMT } from "../constants.ts";
import { crc32c, crc32cWord } from "./checksums.ts";
import { type Geometry, RO_HUGE_FILE } from "./geometry.ts";

export const FLAG_INDEX = 0x1000;
export const FLAG_HUGE = 0x40000;
export const FLAG_EXTENTS = 0x80000;
const ROOT = 0x28;
const ROOT_SIZE = 60;

export class RawInode {
  private readonly g: Geometry;
  readonly ino: number;
  bytes: Uint8Array;
  private view: DataView;

  constructor(g: Geometry, ino: number, bytes: Uint8Array) {
    this.g = g;
    this.ino = ino;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Goes back to other bytes. */
  replace(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** i_block. */
  get root(): DataView {
    return new DataView(this.bytes.buffer, this.bytes.byteOffset + ROOT, ROOT_SIZE);
  }

  get seed(): number {
    return crc32cWord(crc32cWord(this.g.seed, this.ino), this.view.getUint32(0x64, true));
  }

  private get extra(): number {
    return this.bytes.length > 128 ? this.view.getUint16(0x80, true) : 0;
  }

  /** Where extended attributes may begin. */
  get attributesAt(): number {
    return 128 + this.extra;
  }

  private has(at: number, size: number): boolean {
    return 128 + this.extra >= at + size;
  }

  seal(): void {
    if (!this.g.hasChecksums) return;
    const wide = this.has(0x82, 2);
    this.view.setUint16(0x7c, 0, true);
    if (wide) this.view.setUint16(0x82, 0, true);
    const crc = crc32c(this.seed, this.bytes);
    this.view.setUint16(0x7c, crc & 0xffff, true);
    if (wide) this.view.setUint16(0x82, crc >>> 16, true);
  }

  get mode(): number {
    return this.view.getUint16(0, true);
  }

  set mode(value: number) {
    this.view.setUint16(0, value, true);
  }

  get uid(): number {
    return this.view.getUint16(2, true) + this.view.getUint16(0x78, true) * 65536;
  }

  set uid(value: number) {
    this.view.setUint16(2, value & 0xffff, true);
    this.view.setUint16(0x78, value >>> 16, true);
  }

  get gid(): number {
    return this.view.getUint16(0x18, true) + this.view.getUint16(0x7a, true) * 65536;
  }

  set gid(value: number) {
    this.view.setUint16(0x18, value & 0xffff, true);
    this.view.setUint16(0x7a, value >>> 16, true);
  }

  get size(): number {
    return this.view.getUint32(4, true) + this.view.getUint32(0x6c, true) * 2 ** 32;
  }

  set size(value: number) {
    this.view.setUint32(4, value % 2 ** 32, true);
    this.view.setUint32(0x6c, Math.floor(value / 2 ** 32), true);
  }

  get links(): number {
    return this.view.getUint16(0x1a, true);
  }

  set links(value: number) {
    this.view.setUint16(0x1a, value, true);
  }

  get flags(): number {
    return this.view.getUint32(0x20, true);
  }

  set flags(value: number) {
    this.view.setUint32(0x20, value, true);
  }

  get generation(): number {
    return this.view.getUint32(0x64, true);
  }

  set generation(value: number) {
    this.view.setUint32(0x64, value, true);
  }

  /** Time of deletion, or the next orphan. */
  get deletion(): number {
    return this.view.getUint32(0x14, true);
  }

  set deletion(value: number) {
    this.view.setUint32(0x14, value, true);
  }

  /** Of 512 bytes. */
  get sectors(): number {
    const count = this.view.getUint32(0x1c, true) + this.view.getUint16(0x74, true) * 2 ** 32;
    return (this.flags & FLAG_HUGE) !== 0 ? count * (this.g.blockSize / 512) : count;
  }

  set sectors(value: number) {
    const perBlock = this.g.blockSize / 512;
    const isHuge = value >= 2 ** 48 && (this.g.roCompat & RO_HUGE_FILE) !== 0;
    this.flags = isHuge ? this.flags | FLAG_HUGE : this.flags & ~FLAG_HUGE;
    const count = isHuge ? value / perBlock : value;
    this.view.setUint32(0x1c, count % 2 ** 32, true);
    this.view.setUint16(0x74, Math.floor(count / 2 ** 32), true);
  }

  get attributeBlock(): number {
    return this.view.getUint32(0x68, true) + this.view.getUint16(0x76, true) * 2 ** 32;
  }

  set attributeBlock(value: number) {
    this.view.setUint32(0x68, value % 2 ** 32, true);
    this.view.setUint16(0x76, Math.floor(value / 2 ** 32), true);
  }

  private time(at: number, extraAt: number): Time {
    const seconds = this.view.getInt32(at, true);
    if (!this.has(extraAt, 4)) return { seconds, nanoseconds: 0 };
    const extra = this.view.getUint32(extraAt, true);
    return { seconds: seconds + (extra & 3) * 2 ** 32, nanoseconds: extra >>> 2 };
  }

  private setTime(at: number, extraAt: number, time: Time): void {
    this.view.setInt32(at, time.seconds | 0, true);
    if (!this.has(extraAt, 4)) return;
    const epoch = Math.floor((time.seconds - (time.seconds | 0)) / 2 ** 32) & 3;
    this.view.setUint32(extraAt, ((time.nanoseconds << 2) | epoch) >>> 0, true);
  }

  get atime(): Time {
    return this.time(8, 0x8c);
  }

  set atime(time: Time) {
    this.setTime(8, 0x8c, time);
  }

  get ctime(): Time {
    return this.time(0xc, 0x84);
  }

  set ctime(time: Time) {
    this.setTime(0xc, 0x84, time);
  }

  get mtime(): Time {
    return this.time(0x10, 0x88);
  }

  set mtime(time: Time) {
    this.setTime(0x10, 0x88, time);
  }

  /** Begins afresh. */
  initialise(mode: number, uid: number, gid: number, now: Time, generation: number): void {
    this.bytes.fill(0);
    if (this.bytes.length > 128) this.view.setUint16(0x80, this.g.wantExtra, true);
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.generation = generation;
    this.atime = this.mtime = this.ctime = now;
    if (this.has(0x90, 8)) this.setTime(0x90, 0x94, now);
  }

  get rdev(): number {
    const type = this.mode & S_IFMT;
    if (type !== S_IFCHR && type !== S_IFBLK) return 0;
    const old = this.root.getUint32(0, true);
    return old !== 0 ? makeDevice((old >>> 8) & 0xff, old & 0xff) : this.root.getUint32(4, true);
  }

  set rdev(device: number) {
    const major = majorOf(device);
    const minor = minorOf(device);
    if (major < 256 && minor < 256) this.root.setUint32(0, (major << 8) | minor, true);
    else this.root.setUint32(4, device, true);
  }

  stat(dev: number): Stat {
    return {
      dev,
      ino: this.ino,
      mode: this.mode,
      nlink: this.links,
      uid: this.uid,
      gid: this.gid,
      rdev: this.rdev,
      size: this.size,
      blksize: this.g.blockSize,
      blocks: this.sectors,
      atime: this.atime,
      mtime: this.mtime,
      ctime: this.ctime,
    };
  }
}
