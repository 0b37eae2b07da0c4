/** Guest memory as system calls read and write it: checked, and filled where it has to be. */

import { GUEST_BASE, GUEST_END, PAGE_READ, PAGE_SIZE, PAGE_WRITABLE } from "../abi.ts";
import { E, Errno } from "../errno.ts";
import type { ByteString, UserMemory } from "../types.ts";
import { FAULT_OK, type Maps } from "./maps.ts";

const NOTHING = new Uint8Array(0);

export class MappedMemory implements UserMemory {
  readonly maps: Maps;

  constructor(maps: Maps) {
    this.maps = maps;
  }

  private check(address: number, length: number, access: number): void {
    if (!(address >= PAGE_SIZE && address + length <= GUEST_END)) throw new Errno(E.FAULT);
    const last = Math.floor((address + length - 1) / PAGE_SIZE);
    for (let page = Math.floor(address / PAGE_SIZE); page <= last; page += 1) {
      if ((this.maps.space.pages[page]! & access) !== 0) continue;
      if (this.maps.fault(page * PAGE_SIZE, access) !== FAULT_OK) throw new Errno(E.FAULT);
    }
  }

  readable(address: number, length: number): Uint8Array {
    if (length <= 0) return NOTHING;
    this.check(address, length, PAGE_READ);
    return this.maps.space.raw(address, length);
  }

  writable(address: number, length: number): Uint8Array {
    if (length <= 0) return NOTHING;
    this.check(address, length, PAGE_WRITABLE);
    this.maps.space.core.wrote(address, length);
    return this.maps.space.raw(address, length);
  }

  getU8(address: number): number {
    this.check(address, 1, PAGE_READ);
    return this.maps.space.view.getUint8(GUEST_BASE + address);
  }

  getU16(address: number): number {
    this.check(address, 2, PAGE_READ);
    return this.maps.space.view.getUint16(GUEST_BASE + address, true);
  }

  getU32(address: number): number {
    this.check(address, 4, PAGE_READ);
    return this.maps.space.view.getUint32(GUEST_BASE + address, true);
  }

  getI32(address: number): number {
    this.check(address, 4, PAGE_READ);
    return this.maps.space.view.getInt32(GUEST_BASE + address, true);
  }

  getI64(address: number): number {
    this.check(address, 8, PAGE_READ);
    const { view } = this.maps.space;
    const at = GUEST_BASE + address;
    return view.getInt32(at + 4, true) * 4294967296 + view.getUint32(at, true);
  }

  getBig(address: number): bigint {
    this.check(address, 8, PAGE_READ);
    return this.maps.space.view.getBigUint64(GUEST_BASE + address, true);
  }

  setU8(address: number, value: number): void {
    this.writable(address, 1);
    this.maps.space.view.setUint8(GUEST_BASE + address, value);
  }

  setU16(address: number, value: number): void {
    this.writable(address, 2);
    this.maps.space.view.setUint16(GUEST_BASE + address, value, true);
  }

  setU32(address: number, value: number): void {
    this.writable(address, 4);
    this.maps.space.view.setUint32(GUEST_BASE + address, value, true);
  }

  setI64(address: number, value: number): void {
    this.writable(address, 8);
    const { view } = this.maps.space;
    const at = GUEST_BASE + address;
    view.setUint32(at, value >>> 0, true);
    view.setInt32(at + 4, Math.floor(value / 4294967296), true);
  }

  setBig(address: number, value: bigint): void {
    this.writable(address, 8);
    this.maps.space.view.setBigUint64(GUEST_BASE + address, value, true);
  }

  string(address: number, most = 4096): ByteString {
    let text = "";
    let at = address;
    while (text.length < most) {
      const here = Math.min(PAGE_SIZE - (at % PAGE_SIZE), most - text.length);
      const bytes = this.readable(at, here);
      const end = bytes.indexOf(0);
      const part = end < 0 ? bytes : bytes.subarray(0, end);
      for (let from = 0; from < part.length; from += 4096) {
        text += String.fromCharCode(...part.subarray(from, from + 4096));
      }
      if (end >= 0) return text;
      at += here;
    }
    throw new Errno(E.NAMETOOLONG);
  }
}
