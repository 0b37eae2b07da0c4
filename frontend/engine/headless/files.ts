/** The root file system that the command line asks for. */

import type { Host } from "../linux/kernel.ts";
import type { Time } from "../linux/types.ts";
import { Ext4FileSystem } from "../linux/vfs/ext4/filesystem.ts";
import { Store } from "../linux/vfs/ext4/store.ts";
import { MemoryFileSystem } from "../linux/vfs/memory-fs.ts";
import { makeRoot } from "../linux/vfs/root.ts";
import type { Vfs } from "../linux/vfs/vfs.ts";
import { hostDirectory } from "./host-directory.ts";
import { ImageDevice } from "./image-device.ts";
import type { Options } from "./options.ts";
import { UsageError } from "./options.ts";

/** As Linux numbers the first virtio disk. */
const DISK_DEVICE = 0xfe00;

export function fileSystem(options: Options, host: Host): { vfs: Vfs; device?: ImageDevice } {
  const { root, disk } = options;
  const now = (): Time => host.realtime();
  if (disk !== undefined) {
    const device = new ImageDevice(disk);
    const vfs = makeRoot({ now, root: () => mountImage(device, now, host), source: "/dev/vda" });
    return { vfs, device };
  }
  if (root === undefined) throw new UsageError("--disk or --root is needed");
  const lower = hostDirectory(root);
  return { vfs: makeRoot({ now, root: (vfs) => new MemoryFileSystem(vfs, { lower }), source: "host" }) };
}

/** A file of the host never keeps anybody waiting. */
function mountImage(device: ImageDevice, now: () => Time, host: Host): Ext4FileSystem {
  const seed = new Uint32Array(1);
  host.random(new Uint8Array(seed.buffer));
  const fs = new Ext4FileSystem(new Store(device), DISK_DEVICE, now, seed[0]!);
  fs.releaseOrphans();
  return fs;
}
