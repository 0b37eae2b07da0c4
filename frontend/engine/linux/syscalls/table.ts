/** All system calls by number. */

import type { SystemCall, SystemCalls } from "../types.ts";
import { callNumber } from "./numbers.ts";

export interface CallTable {
  find(number: number): SystemCall | undefined;
}

/** Composes everybody's calls. An unknown name, or one given twice, is an error of the engine. */
export function composeCalls(...parts: readonly SystemCalls[]): CallTable {
  const calls: (SystemCall | undefined)[] = [];
  for (const part of parts) {
    for (const [name, call] of Object.entries(part)) {
      const number = callNumber(name);
      if (number === undefined) throw new Error(`there is no system call ${name}`);
      if (calls[number] !== undefined) throw new Error(`system call ${name} is given twice`);
      calls[number] = call;
    }
  }
  return { find: (number) => calls[number] };
}
