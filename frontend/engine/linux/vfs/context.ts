/** Where a process's names begin. */

import type { FileSystemContext, Process } from "../types.ts";
import type { Location } from "./mounts.ts";
import type { Vfs } from "./vfs.ts";

export class Context implements FileSystemContext {
  cwd: Location;
  root: Location;
  umask: number;

  constructor(root: Location, cwd = root, umask = 0o022) {
    this.root = root;
    this.cwd = cwd;
    this.umask = umask;
  }

  copy(): Context {
    return new Context(this.root, this.cwd, this.umask);
  }
}

/** What walking needs of a process. */
export type Walker = Pick<Process, "credentials" | "fs">;

export function contextOf(walker: Pick<Process, "fs">): Context {
  return walker.fs as Context;
}

export function vfsOf(walker: Pick<Process, "fs">): Vfs {
  return contextOf(walker).root.mount.vfs;
}
