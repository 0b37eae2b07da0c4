/** devpts: a file for the terminal side of each pty, and a ptmx of its own. */

import type { ByteString, Kernel, Stat, Task, Time } from "../../types.ts";
import { type Attributes, type Entry, type FileSystem, FsInode, type StatFs } from "../../vfs/inode.ts";
import { DT_CHR, S_IFCHR, S_IFDIR, makeDevice } from "../../vfs/constants.ts";
import { type IoMachine, ioMachine } from "../machine.ts";
import { PTS_MAJOR, type Pty } from "../tty/pty.ts";

const DEVPTS_MAGIC = 0x1cd1;
/** Group tty: who may write to others' terminals. */
const TTY_GROUP = 5;
const ROOT = 1;
const PTMX = 2;
const FIRST = 3;

export class DevPts implements FileSystem {
  readonly type = "devpts";
  readonly dev: number;
  readonly readOnly = false;
  readonly volatile = true;
  readonly root: FsInode;
  readonly machine: IoMachine;
  readonly ptmx: FsInode;
  readonly #inodes = new Map<number, DevPtsInode>();

  constructor(kernel: Kernel, dev: number) {
    this.dev = dev;
    this.machine = ioMachine(kernel);
    const now = kernel.realtime();
    this.root = new DevPtsRoot(this, ROOT, S_IFDIR | 0o755, 0, now);
    this.ptmx = new DevPtsInode(this, PTMX, S_IFCHR | 0o666, makeDevice(5, 2), now);
  }

  /** A new pty belongs to who opened its master. */
  added(task: Task, pty: Pty): void {
    const { kernel, credentials } = task.process;
    const device = makeDevice(PTS_MAJOR, pty.index);
    const inode = new DevPtsInode(this, FIRST + pty.index, S_IFCHR | 0o620, device, kernel.realtime());
    inode.uid = credentials.fsuid;
    inode.gid = TTY_GROUP;
    this.#inodes.set(pty.index, inode);
  }

  removed(pty: Pty): void {
    this.#inodes.delete(pty.index);
  }

  inodeOf(index: number): FsInode | undefined {
    return this.#inodes.get(index);
  }

  indexes(): number[] {
    return [...this.#inodes.keys()].sort((a, b) => a - b);
  }

  statfs(): StatFs {
    return {
      type: DEVPTS_MAGIC,
      blockSize: 4096,
      blocks: 0,
      free: 0,
      available: 0,
      files: 0,
      freeFiles: 0,
      nameLength: 255,
    };
  }

  sync(): void {}
}

class DevPtsInode extends FsInode {
  readonly fs: DevPts;
  readonly ino: number;
  mode: number;
  uid = 0;
  gid = 0;
  readonly size = 0;
  readonly nlink: number = 1;
  override readonly rdev: number;
  #atime: Time;
  #mtime: Time;
  #ctime: Time;

  constructor(fs: DevPts, ino: number, mode: number, rdev: number, now: Time) {
    super();
    this.fs = fs;
    this.ino = ino;
    this.mode = mode;
    this.rdev = rdev;
    this.#atime = this.#mtime = this.#ctime = now;
  }

  stat(): Stat {
    return {
      dev: this.fs.dev,
      ino: this.ino,
      mode: this.mode,
      nlink: this.nlink,
      uid: this.uid,
      gid: this.gid,
      rdev: this.rdev,
      size: 0,
      blksize: 1024,
      blocks: 0,
      atime: this.#atime,
      mtime: this.#mtime,
      ctime: this.#ctime,
    };
  }

  override setattr(attributes: Attributes): void {
    this.mode = attributes.mode ?? this.mode;
    this.uid = attributes.uid ?? this.uid;
    this.gid = attributes.gid ?? this.gid;
    this.#atime = attributes.atime ?? this.#atime;
    this.#mtime = attributes.mtime ?? this.#mtime;
    this.#ctime = this.fs.machine.kernel.realtime();
  }
}

class DevPtsRoot extends DevPtsInode {
  override readonly nlink = 2;

  override lookup(name: ByteString): FsInode | undefined {
    if (name === "ptmx") return this.fs.ptmx;
    return /^(0|[1-9]\d*)$/.test(name) ? this.fs.inodeOf(Number(name)) : undefined;
  }

  override readdir(cookie: number, emit: (entry: Entry) => boolean): void {
    const entries = [
      { name: "ptmx", ino: PTMX, type: DT_CHR, next: 3 },
      ...this.fs.indexes().map((index) => ({
        name: String(index),
        ino: FIRST + index,
        type: DT_CHR,
        next: 4 + index,
      })),
    ];
    for (const entry of entries) if (entry.next > cookie && !emit(entry)) return;
  }
}
