/** Making a system call: dispatch, its result, parking and being made again. */

import { E, Errno } from "./errno.ts";
import { R10, R8, R9, RAX, RDI, RDX, RSI } from "./registers.ts";
import { attend } from "./signals/deliver.ts";
import { mustDie } from "./signals/send.ts";
import { NO_RESULT, type Thread } from "./task.ts";
import type { Arguments } from "./types.ts";
import { Block } from "./wait.ts";

/** SYSCALL's length. */
export const SYSCALL_LENGTH = 2;

/** Ends the call that the thread is in. */
export function finishCall(thread: Thread, result: number): void {
  const { registers } = thread;
  if (thread.call >= 0) {
    thread.call = -1;
    if (result !== NO_RESULT) registers.rip += SYSCALL_LENGTH;
  }
  if (result !== NO_RESULT) registers.set(RAX, result);
  thread.restart = undefined;
  thread.futex = undefined;
  if (thread.savedMask !== undefined && result !== -E.INTR) {
    thread.mask = thread.savedMask;
    thread.savedMask = undefined;
  }
}

/** Makes the system call in the registers, for the first time or again. False: the thread can't go on now. */
export function attemptCall(thread: Thread): boolean {
  const { kernel } = thread.process;
  const { registers } = thread;
  const number = registers.get(RAX);
  const a: Arguments = [
    registers.get(RDI),
    registers.get(RSI),
    registers.get(RDX),
    registers.get(R10),
    registers.get(R8),
    registers.get(R9),
  ];
  const { paging } = thread.maps;
  // Files that are mapped shared must show read and write what was stored, and the other way round.
  const shares = paging.sharesPages;
  if (shares) paging.writeBack();
  const first = thread.call < 0;
  const tracer = kernel.tracer;
  if (first) tracer?.enter(thread, number, a);
  let result: number;
  try {
    result = kernel.dispatch(thread, number, a);
  } catch (error) {
    if (error instanceof Block) {
      if (first) {
        thread.call = number;
        // Memory may have grown: what `registers` was is gone.
        thread.registers.rip -= SYSCALL_LENGTH;
      }
      thread.restart ??= {};
      const interrupted = error.interruptible ? thread.signalPending : mustDie(thread);
      if (interrupted && !attend(thread)) return false;
      if (thread.call < 0) return true;
      kernel.scheduler.park(thread, error);
      return false;
    }
    if (!(error instanceof Errno)) throw error;
    result = -error.code;
  }
  if ((thread.state as string) === "dead") {
    tracer?.leave(thread, number, a, NO_RESULT);
    return false;
  }
  finishCall(thread, result);
  tracer?.leave(thread, number, a, result);
  if (shares && thread.maps.paging === paging) paging.refresh();
  return true;
}
