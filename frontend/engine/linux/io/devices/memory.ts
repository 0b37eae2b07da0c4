/** null, zero, full, random and urandom. */

import { E, Errno } from "../../errno.ts";
import type { Inode, Kernel, Task } from "../../types.ts";
import { READABLE, WRITABLE } from "../constants.ts";
import { PseudoFile } from "../pseudo.ts";

export type MemoryDevice = "null" | "zero" | "full" | "random";

/** Minor numbers of major 1. */
export const MEMORY_DEVICES: readonly (readonly [number, MemoryDevice])[] = [
  [3, "null"],
  [5, "zero"],
  [7, "full"],
  [8, "random"],
  [9, "random"],
];

const RNDGETENTCNT = 0x80045200;
const RNDADDTOENTCNT = 0x40045201;
const RNDADDENTROPY = 0x40085203;
/** Bits that the random pool claims to have. */
const ENTROPY = 256;

export class MemoryDeviceFile extends PseudoFile {
  readonly name: string;
  readonly seekable = true;
  private readonly kind: MemoryDevice;
  private readonly kernel: Kernel;

  constructor(kind: MemoryDevice, kernel: Kernel, inode: Inode, flags: number, name: string) {
    super(inode, flags);
    this.kind = kind;
    this.kernel = kernel;
    this.name = name;
    inode.hold();
  }

  override read(_task: Task, into: Uint8Array): number {
    this.mustRead();
    if (this.kind === "null") return 0;
    if (this.kind === "random") this.kernel.random(into);
    else into.fill(0);
    return into.length;
  }

  override write(_task: Task, from: Uint8Array): number {
    this.mustWrite();
    if (this.kind === "full" && from.length > 0) throw new Errno(E.NOSPC);
    return from.length;
  }

  override poll(): number {
    return READABLE | WRITABLE;
  }

  override ioctl(task: Task, request: number, argument: number): number {
    if (this.kind === "random") {
      switch (request >>> 0) {
        case RNDGETENTCNT:
          task.memory.setU32(argument, ENTROPY);
          return 0;
        case RNDADDTOENTCNT:
        case RNDADDENTROPY:
          if (task.process.credentials.euid !== 0) throw new Errno(E.PERM);
          return 0;
      }
    }
    return super.ioctl(task, request, argument);
  }

  override release(): void {
    this.inode.drop();
  }
}
