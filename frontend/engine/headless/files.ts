/** The root file system that the command line asks for. */

import type { Host } from "../linux/kernel.ts";
import { MemoryFileSystem } from "../linux/vfs/memory-fs.ts";
import { makeRoot } from "../linux/vfs/root.ts";
import type { Vfs } from "../linux/vfs/vfs.ts";
import { hostDirectory } from "./host-directory.ts";
import type { Options } from "./options.ts";
import { UsageError } from "./options.ts";

export function fileSystem(options: Options, host: Host): Vfs {
  const { root } = options;
  if (root === undefined) throw new UsageError("--disk is not there yet");
  const lower = hostDirectory(root);
  return makeRoot({
    now: () => host.realtime(),
    root: (vfs) => new MemoryFileSystem(vfs, { lower }),
    source: "host",
  });
}
