/** All mounted file systems of a machine, and what belongs to files as a whole. */

import { E, Errno } from "../errno.ts";
import type { PageAccount } from "../memory/paging.ts";
import type { ByteString, Time } from "../types.ts";
import { Dentry } from "./dentry.ts";
import { DeviceRegistry } from "./devices.ts";
import { Hooks } from "./hooks.ts";
import type { FileSystem } from "./inode.ts";
import type { MemoryFileSystem } from "./memory-fs.ts";
import { crossMounts, type Location, Mount } from "./mounts.ts";

export class Vfs {
  readonly devices = new DeviceRegistry();
  readonly hooks = new Hooks();
  /** In the order of mounting. */
  readonly mounts: Mount[] = [];
  /** Terminals' names, which io/ makes and removes. */
  devpts: MemoryFileSystem | undefined;
  /** Where memfds are. */
  hidden: Mount | undefined;
  /** The machine's memory, which files in memory take from. */
  account: PageAccount | undefined;
  private nextMount = 20;
  /** Minor numbers of file systems without a device; below are the pseudo file systems' of io/. */
  private nextDevice = 0x20;
  private readonly clock: () => Time;

  constructor(now: () => Time) {
    this.clock = now;
  }

  /** Time of day, for files. */
  now = (): Time => this.clock();

  /** A device number for a file system without a device. */
  anonymousDevice(): number {
    return this.nextDevice++;
  }

  /** The root of the first file system with what is mounted over it. */
  get root(): Location {
    const mount = this.mounts[0];
    if (mount === undefined) throw new Error("no root file system is mounted");
    return crossMounts({ mount, dentry: mount.root });
  }

  /** `at` undefined: the root file system. A directory goes on a directory, a file on a file. */
  mount(fs: FileSystem, at: Location | undefined, source: ByteString, flags: number, root?: Dentry): Mount {
    const top = root ?? new Dentry(fs.root);
    if (at !== undefined && at.dentry.inode.isDirectory !== top.inode.isDirectory) {
      throw new Errno(E.NOTDIR);
    }
    const mount = new Mount(this, this.nextMount++, fs, top, at, source, flags);
    at?.mount.attach(mount);
    this.mounts.push(mount);
    return mount;
  }

  unmount(mount: Mount): void {
    if (mount.at === undefined || mount.busy) throw new Errno(E.BUSY);
    mount.at.mount.detach(mount);
    this.mounts.splice(this.mounts.indexOf(mount), 1);
  }

  sync(): void {
    for (const fs of new Set(this.mounts.map((mount) => mount.fs))) fs.sync();
  }
}
