/** The frame of a signal handler (struct rt_sigframe of x86-64), and coming back from it. */

import { GUEST_END } from "../abi.ts";
import { Errno } from "../errno.ts";
import { R10, R11, R8, R9, RAX, RBP, RBX, RCX, RDI, RDX, RIP, RSI, RSP } from "../registers.ts";
import type { Thread } from "../task.ts";
import { Block } from "../wait.ts";
import {
  SA_ONSTACK,
  SA_RESTORER,
  SI_KERNEL,
  SIG_DFL,
  SIGSEGV,
  SS_AUTODISARM,
  SS_DISABLE,
  SS_ONSTACK,
  UNBLOCKABLE,
} from "./numbers.ts";
import { type Action, encodeInfo, type SignalInfo, SIGINFO_SIZE } from "./pending.ts";
import { forceSignal } from "./send.ts";

/** Offsets in the frame: return address, ucontext (with the registers from CONTEXT on), siginfo. */
const UCONTEXT = 8;
const STACK = UCONTEXT + 16;
const CONTEXT = UCONTEXT + 40;
const REGISTERS = [R8, R9, R10, R11, 12, 13, 14, 15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP];
const RIP_AT = CONTEXT + 128;
const FLAGS_AT = CONTEXT + 136;
const SEGMENTS_AT = CONTEXT + 144;
const FPSTATE_AT = CONTEXT + 184;
const MASK_AT = UCONTEXT + 296;
const INFO_AT = UCONTEXT + 304;
const FRAME_SIZE = INFO_AT + SIGINFO_SIZE;
const FPU_SIZE = 512;
const RED_ZONE = 128;
/** UC_SIGCONTEXT_SS and UC_STRICT_RESTORE_SS. */
const UC_FLAGS = 6;
/** Carry to overflow, direction, trap, alignment, identification: what a handler may change in the flags. */
const USER_FLAGS = 0x250dd5;
const FLAG_D = 0x400;
const FLAG_T = 0x100;
const USER_CS = 0x33n;
const USER_SS = 0x2bn;

export function onAlternateStack(thread: Thread, sp: number): boolean {
  const { address, size, flags } = thread.alternateStack;
  if ((flags & SS_AUTODISARM) !== 0) return false;
  return sp > address && sp - address <= size;
}

/** Builds the frame and goes to the handler; false: there is no room for it, the thread gets SIGSEGV instead. */
export function pushFrame(thread: Thread, info: SignalInfo, action: Action, mask: bigint): boolean {
  const { alternateStack } = thread;
  let { registers } = thread;
  let sp = registers.get(RSP) - RED_ZONE;
  if (
    (action.flags & SA_ONSTACK) !== 0 &&
    (alternateStack.flags & SS_DISABLE) === 0 &&
    !onAlternateStack(thread, registers.get(RSP))
  ) {
    sp = alternateStack.address + alternateStack.size;
  }
  const fpu = Math.floor((sp - FPU_SIZE) / 64) * 64;
  const at = Math.floor((fpu - FRAME_SIZE) / 16) * 16 - 8;
  let frame: Uint8Array;
  try {
    if ((action.flags & SA_RESTORER) === 0) throw new Errno(0);
    // Stack pages have no disk behind them that could be slow; when they have, the thread waits for nothing.
    thread.memory.writable(at, fpu + FPU_SIZE - at);
    thread.memory.writable(fpu, FPU_SIZE).set(thread.maps.space.saveFpu());
    frame = thread.memory.writable(at, FRAME_SIZE);
    // Memory may have grown.
    registers = thread.registers;
  } catch (error) {
    if (!(error instanceof Errno) && !(error instanceof Block)) throw error;
    if (info.signal === SIGSEGV) thread.process.action(SIGSEGV).handler = SIG_DFL;
    forceSignal(thread, { signal: SIGSEGV, code: SI_KERNEL, address: 0n });
    return false;
  }
  frame.fill(0);
  const view = new DataView(frame.buffer, frame.byteOffset, FRAME_SIZE);
  const put = (offset: number, value: bigint): void => view.setBigUint64(offset, value, true);
  put(0, BigInt(action.restorer));
  put(UCONTEXT, BigInt(UC_FLAGS));
  put(STACK, BigInt(alternateStack.address));
  const onStack = onAlternateStack(thread, registers.get(RSP));
  view.setUint32(STACK + 8, (alternateStack.flags | (onStack ? SS_ONSTACK : 0)) >>> 0, true);
  put(STACK + 16, BigInt(alternateStack.size));
  REGISTERS.forEach((register, index) => put(CONTEXT + index * 8, registers.getBig(register)));
  put(RIP_AT, registers.getBig(RIP));
  put(FLAGS_AT, BigInt(registers.rflags));
  put(SEGMENTS_AT, USER_CS | (USER_SS << 48n));
  put(FPSTATE_AT, BigInt(fpu));
  put(MASK_AT, mask);
  put(CONTEXT + 152, BigInt(thread.fault.error));
  put(CONTEXT + 160, BigInt(thread.fault.trap));
  put(CONTEXT + 168, mask);
  put(CONTEXT + 176, thread.fault.address);
  frame.set(encodeInfo(info), INFO_AT);
  if ((alternateStack.flags & SS_AUTODISARM) !== 0) {
    thread.alternateStack = { address: 0, size: 0, flags: SS_DISABLE };
  }
  registers.set(RDI, info.signal);
  registers.set(RSI, at + INFO_AT);
  registers.set(RDX, at + UCONTEXT);
  registers.set(RAX, 0);
  registers.set(RSP, at);
  registers.rip = action.handler;
  registers.rflags &= ~(FLAG_D | FLAG_T);
  return true;
}

/** rt_sigreturn: registers, mask and alternate stack as the frame says. Errors: the thread gets SIGSEGV. */
export function popFrame(thread: Thread): void {
  const at = thread.registers.get(RSP) - 8;
  let frame: Uint8Array;
  let fpu: Uint8Array | undefined;
  try {
    frame = thread.memory.readable(at, FRAME_SIZE).slice();
    const state = Number(new DataView(frame.buffer).getBigUint64(FPSTATE_AT, true));
    if (state !== 0) fpu = thread.memory.readable(state, FPU_SIZE).slice();
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    forceSignal(thread, { signal: SIGSEGV, code: SI_KERNEL, address: 0n });
    return;
  }
  const { registers } = thread;
  const view = new DataView(frame.buffer);
  const get = (offset: number): bigint => view.getBigUint64(offset, true);
  REGISTERS.forEach((register, index) => registers.setBig(register, get(CONTEXT + index * 8)));
  const rip = get(RIP_AT);
  const flags = Number(get(FLAGS_AT) & 0xffffffffn);
  registers.rflags = (registers.rflags & ~USER_FLAGS) | (flags & USER_FLAGS);
  thread.mask = get(MASK_AT) & ~UNBLOCKABLE;
  thread.alternateStack = {
    address: Number(get(STACK)),
    size: Number(get(STACK + 16)),
    flags: (view.getUint32(STACK + 8, true) & ~SS_ONSTACK) >>> 0,
  };
  if (fpu !== undefined) thread.maps.space.loadFpu(fpu);
  if (rip >= BigInt(GUEST_END)) {
    registers.rip = 0;
    forceSignal(thread, { signal: SIGSEGV, code: SI_KERNEL, address: rip });
    return;
  }
  registers.rip = Number(rip);
}
