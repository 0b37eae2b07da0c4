/** Saving a machine and going on with its copy: what a save loses, a test then sees. */

import { PAGE_SIZE } from "../linux/abi.ts";
import type { Host } from "../linux/kernel.ts";
import type { Machine } from "../linux/machine.ts";
import { addClass } from "../linux/state/classes.ts";
import {
  captureMachine,
  type HostObjects,
  type MachineOptions,
  restoreMachine,
} from "../linux/state/state.ts";
import { Block } from "../linux/wait.ts";
import { HostNode } from "./host-directory.ts";

addClass("HostNode", HostNode);

export function machineOptions(
  host: Host,
  module: WebAssembly.Module,
  memoryMib: number,
  hostObjects: HostObjects,
): MachineOptions {
  return { host, module, memoryMib, hostObjects };
}

/** Its copy; undefined while something of the disk is not here. */
export function restoredCopy(machine: Machine, options: MachineOptions): Machine | undefined {
  try {
    const blocks = new Map<number, Uint8Array>();
    for (const { number, words, at } of captureMachine(machine)) {
      const bytes = new Uint8Array(words.buffer, words.byteOffset + at * 4, PAGE_SIZE);
      blocks.set(number, bytes.slice());
    }
    return restoreMachine(options, (number) => blocks.get(number));
  } catch (error) {
    if (error instanceof Block) return undefined;
    throw error;
  }
}
