/** What io/ keeps for a machine as a whole. */

import type { Kernel } from "../types.ts";
import { Watches } from "./events/inotify.ts";
import { Locks } from "./locks.ts";
import { Ports } from "./sockets/ports.ts";
import type { UnixNames } from "./sockets/unix-names.ts";
import { Console } from "./tty/console.ts";
import { Pty } from "./tty/pty.ts";

/** Terminals of a machine of which nobody has said how many it has: ttyS0 to ttyS7. */
export const CONSOLES = 8;
/** As /proc/sys/kernel/pty/max. */
const MOST_PTYS = 4096;

export class IoMachine {
  readonly kernel: Kernel;
  readonly consoles: Console[];
  readonly ptys = new Map<number, Pty>();
  readonly unixNames: UnixNames = new Map();
  readonly locks = new Locks();
  readonly watches = new Watches();
  readonly tcp = new Ports();
  readonly udp = new Ports();

  constructor(kernel: Kernel, consoles = CONSOLES) {
    this.kernel = kernel;
    this.consoles = Array.from({ length: consoles }, (_, index) => new Console(kernel, index));
  }

  /** With the lowest free number; undefined: there are too many. */
  newPty(): Pty | undefined {
    let index = 0;
    while (this.ptys.has(index)) index += 1;
    if (index >= MOST_PTYS) return undefined;
    const pty = new Pty(this.kernel, index);
    this.ptys.set(index, pty);
    return pty;
  }
}

const machines = new WeakMap<Kernel, IoMachine>();

/** `consoles`: for the first call, which makes it. */
export function ioMachine(kernel: Kernel, consoles?: number): IoMachine {
  let machine = machines.get(kernel);
  if (machine === undefined) machines.set(kernel, (machine = new IoMachine(kernel, consoles)));
  return machine;
}
