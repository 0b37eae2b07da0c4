/** Puts the devices and FIFOs into the file systems of a machine. */

import { E, Errno } from "../../errno.ts";
import type { Kernel } from "../../types.ts";
import { S_IFCHR, makeDevice, minorOf } from "../../vfs/constants.ts";
import type { Vfs } from "../../vfs/vfs.ts";
import { pipeControl } from "../../syscalls/pipes.ts";
import { openFifo } from "../fifo.ts";
import { type IoMachine, ioMachine } from "../machine.ts";
import { PTS_MAJOR } from "../tty/pty.ts";
import { Terminal } from "../tty/terminal.ts";
import { MEMORY_DEVICES, MemoryDeviceFile } from "./memory.ts";
import { PtyDevices, openTerminal } from "./terminals.ts";

/** Registers everything that `open` can find, and makes the nodes that a machine with terminals has. */
export function installDevices(kernel: Kernel, vfs: Vfs, consoles?: number): IoMachine {
  const machine = ioMachine(kernel, consoles);
  const pts = vfs.devpts!;
  pts.root.create("ptmx", { mode: S_IFCHR | 0o666, uid: 0, gid: 0, rdev: makeDevice(5, 2) });
  const ptys = new PtyDevices(machine, pts);
  makeNodes(vfs, machine);
  const { devices } = vfs;
  for (const [minor, kind] of MEMORY_DEVICES) {
    devices.registerCharacterDevice(
      1,
      minor,
      (_task, inode, flags, name) => new MemoryDeviceFile(kind, kernel, inode, flags, name),
    );
  }
  devices.registerCharacterDevice(5, 0, (task, inode, flags, name) => {
    const { terminal } = task.process.session;
    if (!(terminal instanceof Terminal)) throw new Errno(E.NXIO);
    return openTerminal(task, terminal, inode, flags, name, false);
  });
  devices.registerCharacterDevice(5, 1, (task, inode, flags, name) =>
    openTerminal(task, machine.consoles[0]!, inode, flags, name, false),
  );
  devices.registerCharacterDevice(5, 2, (task, inode, flags, name) =>
    ptys.openMaster(task, inode, flags, name),
  );
  for (const [index, console] of machine.consoles.entries()) {
    devices.registerCharacterDevice(4, 64 + index, (task, inode, flags, name) =>
      openTerminal(task, console, inode, flags, name),
    );
  }
  devices.registerCharacterMajor(PTS_MAJOR, (task, inode, flags, name) =>
    ptys.openSide(task, minorOf(inode.rdev), inode, flags, name),
  );
  devices.registerFifo(openFifo);
  vfs.hooks.controls.push(pipeControl);
  vfs.hooks.locks = machine.locks;
  vfs.hooks.events = machine.watches;
  return machine;
}

function makeNodes(vfs: Vfs, machine: IoMachine): void {
  const dev = vfs.mounts.find((mount) => mount.fs.type === "devtmpfs")?.root.inode;
  for (const { name, device } of machine.consoles) {
    dev?.create(name, { mode: S_IFCHR | 0o620, uid: 0, gid: 5, rdev: device });
  }
}
