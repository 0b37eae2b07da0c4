/** Who opens what is no regular file: devices by their number, FIFOs, and other things behind an inode. */

import { E, Errno } from "../errno.ts";
import type { ByteString, OpenFile, Task } from "../types.ts";
import { majorOf, minorOf } from "./constants.ts";
import type { FsInode } from "./inode.ts";

/** Makes an open file of an inode; may throw `Block` (a FIFO waits for its other side). The maker holds and drops `inode`. */
export type Opener = (task: Task, inode: FsInode, flags: number, name: ByteString) => OpenFile;

export class DeviceRegistry {
  private readonly characters = new Map<number, Opener>();
  private readonly majors = new Map<number, Opener>();
  /** FIFOs. */
  fifo: Opener | undefined;

  registerCharacterDevice(major: number, minor: number, open: Opener): void {
    this.characters.set(major * 2 ** 20 + minor, open);
  }

  /** Every minor number that has nothing of its own (pts). */
  registerCharacterMajor(major: number, open: Opener): void {
    this.majors.set(major, open);
  }

  registerFifo(open: Opener): void {
    this.fifo = open;
  }

  openCharacter(task: Task, inode: FsInode, flags: number, name: ByteString): OpenFile {
    const major = majorOf(inode.rdev);
    const open = this.characters.get(major * 2 ** 20 + minorOf(inode.rdev)) ?? this.majors.get(major);
    if (open === undefined) throw new Errno(E.NXIO);
    return open(task, inode, flags, name);
  }
}
