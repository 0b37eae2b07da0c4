/** What to do when the core leaves a program for another reason than a system call. */

import {
  EXIT_BREAKPOINT,
  EXIT_DIVIDE_ERROR,
  EXIT_FPU_ERROR,
  EXIT_GENERAL_PROTECTION,
  EXIT_INT80,
  EXIT_INVALID_OPCODE,
  EXIT_PAGE_FAULT,
  EXIT_SIMD_ERROR,
  EXIT_STACK_FAULT,
  EXIT_TRAP,
  EXIT_UNIMPLEMENTED,
  GUEST_END,
  PAGE_EXEC,
  PAGE_WRITABLE,
} from "./abi.ts";
import { E, Errno } from "./errno.ts";
import { EngineError } from "./kernel.ts";
import { FAULT_BUS, FAULT_OK, SEGV_MAPERR } from "./memory/maps.ts";
import { RIP, RSP } from "./registers.ts";
import {
  BUS_ADRERR,
  FPE_FLTDIV,
  FPE_FLTINV,
  FPE_FLTOVF,
  FPE_FLTRES,
  FPE_FLTUND,
  FPE_INTDIV,
  ILL_ILLOPN,
  SI_KERNEL,
  SIGBUS,
  SIGFPE,
  SIGILL,
  SIGKILL,
  SIGSEGV,
  SIGTRAP,
  TRAP_TRACE,
} from "./signals/numbers.ts";
import { forceSignal, sendToProcess } from "./signals/send.ts";
import type { Thread } from "./task.ts";
import { Block } from "./wait.ts";

function pageFault(thread: Thread): boolean {
  const { maps, process } = thread;
  const address = maps.space.exitAddress();
  const access = maps.space.exitAccess();
  if (address >= BigInt(GUEST_END)) {
    notePageFault(thread, address, access);
    forceSignal(thread, { signal: SIGSEGV, code: SEGV_MAPERR, address });
    return true;
  }
  let outcome: number;
  try {
    outcome = maps.fault(Number(address), access);
    maps.paging.accessed();
  } catch (error) {
    if (error instanceof Block) {
      process.kernel.scheduler.park(thread, new Block(error.queues, error.deadline, false));
      return false;
    }
    if (!(error instanceof Errno)) throw error;
    const why = error.code === E.NOMEM ? "out of memory" : `page not to be had (errno ${error.code})`;
    process.kernel.log(`${thread.name}[${process.pid}]: ${why} at ${address.toString(16)}, killed`);
    sendToProcess(process, { signal: SIGKILL, code: SI_KERNEL });
    return true;
  }
  process.kernel.faults += 1;
  if (outcome === FAULT_OK) {
    process.usage.minorFaults += 1;
    return true;
  }
  notePageFault(thread, address, access);
  if (outcome === FAULT_BUS) forceSignal(thread, { signal: SIGBUS, code: BUS_ADRERR, address });
  else forceSignal(thread, { signal: SIGSEGV, code: outcome, address });
  return true;
}

/** Intel's error code of a page fault: present, write, user, fetch. The kernel's half of the addresses counts as present. */
function notePageFault(thread: Thread, address: bigint, access: number): void {
  const { fault, maps } = thread;
  const page = Number(address >> 12n);
  const present = address >> 63n === 1n || (page < 1 << 20 && maps.space.pages[page] !== 0);
  fault.trap = VECTOR_PAGE_FAULT;
  fault.error = 4 | (present ? 1 : 0) | (access === PAGE_WRITABLE ? 2 : 0) | (access === PAGE_EXEC ? 16 : 0);
  fault.address = address;
}

/** Vectors. Only a general protection has an error code, the selector. */
const VECTORS = new Map([
  [EXIT_DIVIDE_ERROR, 0],
  [EXIT_TRAP, 1],
  [EXIT_BREAKPOINT, 3],
  [EXIT_INVALID_OPCODE, 6],
  [EXIT_STACK_FAULT, 12],
  [EXIT_GENERAL_PROTECTION, 13],
  [EXIT_FPU_ERROR, 16],
  [EXIT_SIMD_ERROR, 19],
]);
const VECTOR_PAGE_FAULT = 14;

/** FPE_* for the first of the exceptions that are not masked, as Linux orders them. */
function floatingCode(thread: Thread, reason: number): number {
  const { registers } = thread;
  const exceptions =
    reason === EXIT_SIMD_ERROR
      ? registers.mxcsr & ~(registers.mxcsr >>> 7)
      : registers.fpuStatus & ~registers.fpuControl;
  if ((exceptions & 1) !== 0) return FPE_FLTINV;
  if ((exceptions & 4) !== 0) return FPE_FLTDIV;
  if ((exceptions & 8) !== 0) return FPE_FLTOVF;
  if ((exceptions & 0x12) !== 0) return FPE_FLTUND;
  return FPE_FLTRES;
}

/** `reason` is an EXIT_*. False: the thread can't go on now. */
export function handleExit(thread: Thread, reason: number): boolean {
  const { registers } = thread;
  const address = registers.getBig(RIP);
  const vector = VECTORS.get(reason);
  if (vector !== undefined) {
    thread.fault.trap = vector;
    thread.fault.error = reason === EXIT_GENERAL_PROTECTION ? thread.maps.space.exitAccess() : 0;
  }
  switch (reason) {
    case EXIT_PAGE_FAULT:
      return pageFault(thread);
    case EXIT_INVALID_OPCODE:
      forceSignal(thread, { signal: SIGILL, code: ILL_ILLOPN, address });
      return true;
    case EXIT_DIVIDE_ERROR:
      forceSignal(thread, { signal: SIGFPE, code: FPE_INTDIV, address });
      return true;
    case EXIT_FPU_ERROR:
    case EXIT_SIMD_ERROR:
      forceSignal(thread, { signal: SIGFPE, code: floatingCode(thread, reason), address });
      return true;
    case EXIT_BREAKPOINT:
      forceSignal(thread, { signal: SIGTRAP, code: SI_KERNEL });
      return true;
    case EXIT_TRAP:
      forceSignal(thread, { signal: SIGTRAP, code: TRAP_TRACE, address });
      return true;
    case EXIT_STACK_FAULT:
      forceSignal(thread, { signal: SIGBUS, code: SI_KERNEL, address: 0n });
      return true;
    case EXIT_GENERAL_PROTECTION:
    case EXIT_INT80:
      // 32-bit system calls are not there: as on a kernel without IA32 emulation.
      forceSignal(thread, { signal: SIGSEGV, code: SI_KERNEL, address: 0n });
      return true;
    default:
      throw new EngineError(describe(thread, reason));
  }
}

function describe(thread: Thread, reason: number): string {
  const { registers, maps, process } = thread;
  const at = registers.rip;
  const area = maps.areas.find(at);
  const place =
    area === undefined ? "" : ` in ${area.name}+0x${(at - area.start + area.offset).toString(16)}`;
  const code = [...maps.space.raw(at, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  const what =
    reason === EXIT_UNIMPLEMENTED
      ? `instruction not implemented (mnemonic ${maps.space.exitAddress()})`
      : `the core left with reason ${reason}`;
  const stack = registers.get(RSP).toString(16);
  return `${thread.name}[${process.pid}]: ${what} at 0x${at.toString(16)}${place}, sp 0x${stack}: ${code}`;
}
