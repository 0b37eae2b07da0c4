/** What a Linux machine begins with: its disk as the root, and process 1. */

import { E, Errno } from "../../../engine/linux/errno.ts";
import type { Machine as Guest } from "../../../engine/linux/machine.ts";
import { holdFile } from "../../../engine/linux/references.ts";
import type { Task, Time } from "../../../engine/linux/types.ts";
import { type Ext4FileSystem, openExt4, settle } from "../../../engine/linux/vfs/ext4/filesystem.ts";
import { openPath } from "../../../engine/linux/vfs/open.ts";
import { MachineError, messageOf } from "../machine";
import type { LinuxDisk } from "./disk";

/** As Linux numbers the first virtio disk. */
const DISK_DEVICE = 0xfe00;
const INIT = "/sbin/init";
const O_RDWR = 2;
const ENVIRONMENT = [
  "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  "HOME=/",
  "TERM=linux",
];

/** Throws `MachineError` (`disk_error`) where it holds no file system that can be used. */
export async function openDisk(disk: LinuxDisk, now: () => Time, seed: number): Promise<Ext4FileSystem> {
  try {
    return await openExt4(disk, DISK_DEVICE, now, { seed });
  } catch (error) {
    throw new MachineError("disk_error", `The disk cannot be used: ${messageOf(error)}`, { cause: error });
  }
}

/** Process 1; throws `MachineError` (`disk_error`) where the disk has none that runs. */
export async function startInit(guest: Guest): Promise<void> {
  try {
    await settle(() =>
      guest.spawn({
        path: INIT,
        arguments: [INIT],
        environment: ENVIRONMENT,
        directory: "/",
        pid: 1,
        open: openConsole,
      }),
    );
  } catch (error) {
    const isMissing = error instanceof Errno && error.code === E.NOENT;
    throw new MachineError(
      "disk_error",
      `The machine cannot start: ${INIT} ${isMissing ? "is not on its disk" : "cannot be run"}.`,
      { cause: error },
    );
  }
}

function openConsole(task: Task): void {
  const { files } = task.process;
  const console = openPath(task, "/dev/console", O_RDWR);
  files.add(console, false);
  files.add(holdFile(console), false);
  files.add(holdFile(console), false);
}
