/** The registers of a processor (`Cpu` of core/abi.h), wherever it lies at the moment. */

import {
  CPU_FPU_CONTROL,
  CPU_FPU_STATUS,
  CPU_FS_BASE,
  CPU_GS_BASE,
  CPU_MXCSR,
  CPU_RFLAGS,
  CPU_RIP,
  CPU_SELECTORS,
} from "./abi.ts";

export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RBP = 5;
export const RSI = 6;
export const RDI = 7;
export const R8 = 8;
export const R9 = 9;
export const R10 = 10;
export const R11 = 11;
/** Behind the general registers in `Cpu`: all its bits, for `getBig`. */
export const RIP = 16;

/** Valid until the memory of the address space grows or another thread is loaded. */
export class Registers {
  readonly view: DataView;
  readonly base: number;

  constructor(view: DataView, base: number) {
    this.view = view;
    this.base = base;
  }

  /** Signed, exact up to 2^53. */
  get(register: number): number {
    const at = this.base + register * 8;
    return this.view.getInt32(at + 4, true) * 4294967296 + this.view.getUint32(at, true);
  }

  set(register: number, value: number): void {
    const at = this.base + register * 8;
    this.view.setUint32(at, value >>> 0, true);
    this.view.setInt32(at + 4, Math.floor(value / 4294967296), true);
  }

  getBig(register: number): bigint {
    return this.view.getBigUint64(this.base + register * 8, true);
  }

  setBig(register: number, value: bigint): void {
    this.view.setBigUint64(this.base + register * 8, value, true);
  }

  get rip(): number {
    return Number(this.view.getBigUint64(this.base + CPU_RIP, true));
  }

  set rip(value: number) {
    this.view.setBigUint64(this.base + CPU_RIP, BigInt(value), true);
  }

  get rflags(): number {
    return this.view.getUint32(this.base + CPU_RFLAGS, true);
  }

  set rflags(value: number) {
    this.view.setBigUint64(this.base + CPU_RFLAGS, BigInt(value >>> 0), true);
  }

  get mxcsr(): number {
    return this.view.getUint32(this.base + CPU_MXCSR, true);
  }

  get fpuControl(): number {
    return this.view.getUint16(this.base + CPU_FPU_CONTROL, true);
  }

  get fpuStatus(): number {
    return this.view.getUint16(this.base + CPU_FPU_STATUS, true);
  }

  get fsBase(): bigint {
    return this.view.getBigUint64(this.base + CPU_FS_BASE, true);
  }

  /** The selector becomes null, as by arch_prctl. */
  set fsBase(value: bigint) {
    this.view.setBigUint64(this.base + CPU_FS_BASE, value, true);
    this.view.setUint16(this.base + CPU_SELECTORS + 4, 0, true);
  }

  get gsBase(): bigint {
    return this.view.getBigUint64(this.base + CPU_GS_BASE, true);
  }

  set gsBase(value: bigint) {
    this.view.setBigUint64(this.base + CPU_GS_BASE, value, true);
    this.view.setUint16(this.base + CPU_SELECTORS + 6, 0, true);
  }
}
