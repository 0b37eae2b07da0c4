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
import { DevPts } from "./devpts.ts";
import { MEMORY_DEVICES, MemoryDeviceFile } from "./memory.ts";
import { PtyDevices, openTerminal } from "./terminals.ts";

export interface DeviceNode {
  name: string;
  mode: number;
  rdev: number;
}

const node = (name: string, permissions: number, major: number, minor: number): DeviceNode => ({
  name,
  mode: S_IFCHR | permissions,
  rdev: makeDevice(major, minor),
});

/** What /dev has besides pts (a devpts), shm (a tmpfs) and the links below. */
export const DEVICE_NODES: readonly DeviceNode[] = [
  node("null", 0o666, 1, 3),
  node("zero", 0o666, 1, 5),
  node("full", 0o666, 1, 7),
  node("random", 0o666, 1, 8),
  node("urandom", 0o666, 1, 9),
  node("tty", 0o666, 5, 0),
  node("console", 0o600, 5, 1),
  node("ptmx", 0o666, 5, 2),
  ...Array.from({ length: 8 }, (_, i) => node(`ttyS${i}`, 0o620, 4, 64 + i)),
];

export const DEVICE_LINKS: readonly (readonly [name: string, target: string])[] = [
  ["fd", "/proc/self/fd"],
  ["stdin", "/proc/self/fd/0"],
  ["stdout", "/proc/self/fd/1"],
  ["stderr", "/proc/self/fd/2"],
];

/** Registers everything that `open` can find; `pts` is to be mounted at /dev/pts. */
export function installDevices(kernel: Kernel, vfs: Vfs): { machine: IoMachine; pts: DevPts } {
  const machine = ioMachine(kernel);
  const pts = new DevPts(kernel, vfs.anonymousDevice());
  const ptys = new PtyDevices(machine, pts);
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
  return { machine, pts };
}
