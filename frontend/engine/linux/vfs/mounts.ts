/** Mounted file systems, and places in them. */

import type { ByteString } from "../types.ts";
import { Dentry } from "./dentry.ts";
import type { FileSystem, FsInode } from "./inode.ts";
import type { Vfs } from "./vfs.ts";

/** MS_* of mount(2). */
export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_NOEXEC = 8;
export const MS_NOATIME = 1024;
export const MS_RELATIME = 1 << 21;

export class Mount {
  readonly id: number;
  readonly vfs: Vfs;
  readonly fs: FileSystem;
  readonly root: Dentry;
  /** Where it is mounted; undefined for the first one. */
  readonly at: Location | undefined;
  readonly source: ByteString;
  flags: number;
  private readonly mounted = new Map<Dentry, Mount>();

  constructor(
    vfs: Vfs,
    id: number,
    fs: FileSystem,
    root: Dentry,
    at: Location | undefined,
    source: ByteString,
    flags: number,
  ) {
    this.vfs = vfs;
    this.id = id;
    this.fs = fs;
    this.root = root;
    this.at = at;
    this.source = source;
    this.flags = flags;
  }

  get readOnly(): boolean {
    return (this.flags & MS_RDONLY) !== 0 || this.fs.readOnly;
  }

  mountedAt(dentry: Dentry): Mount | undefined {
    return this.mounted.size === 0 ? undefined : this.mounted.get(dentry);
  }

  /** For vfs.ts. */
  attach(mount: Mount): void {
    this.mounted.set(mount.at!.dentry, mount);
  }

  detach(mount: Mount): void {
    this.mounted.delete(mount.at!.dentry);
  }

  get busy(): boolean {
    return this.mounted.size > 0;
  }
}

/** A place: a name in a mounted file system. */
export interface Location {
  readonly mount: Mount;
  readonly dentry: Dentry;
}

export function inodeAt(location: Location): FsInode {
  return location.dentry.inode;
}

/** The root of what is mounted there, if anything is. */
export function crossMounts(location: Location): Location {
  let { mount, dentry } = location;
  for (let over = mount.mountedAt(dentry); over !== undefined; over = mount.mountedAt(dentry)) {
    mount = over;
    dentry = over.root;
  }
  return mount === location.mount ? location : { mount, dentry };
}

export function sameLocation(a: Location, b: Location): boolean {
  return a.mount === b.mount && a.dentry === b.dentry;
}

/** The directory above; `root` has none above it. */
export function parentOf(location: Location, root: Location): Location {
  let { mount, dentry } = location;
  for (;;) {
    if (mount === root.mount && dentry === root.dentry) return { mount, dentry };
    if (dentry !== mount.root) break;
    if (mount.at === undefined) return { mount, dentry };
    ({ mount, dentry } = mount.at);
  }
  return crossMounts({ mount, dentry: dentry.parent });
}

/** From `root`; undefined when the place is not under it. */
export function pathOf(location: Location, root: Location): ByteString | undefined {
  const parts: ByteString[] = [];
  let { mount, dentry } = location;
  for (;;) {
    if (mount === root.mount && dentry === root.dentry) break;
    if (dentry === mount.root) {
      if (mount.at === undefined) return undefined;
      ({ mount, dentry } = mount.at);
      continue;
    }
    if (dentry.isRoot) return undefined;
    parts.push(dentry.name);
    dentry = dentry.parent;
  }
  return parts.length === 0 ? "/" : "/" + parts.reverse().join("/");
}

/** As /proc shows it: with what cannot be reached marked, and " (deleted)". */
export function describe(location: Location, root: Location): ByteString {
  const path = pathOf(location, root) ?? pathOf(location, location.mount.vfs.root) ?? location.dentry.name;
  return location.dentry.deleted ? `${path} (deleted)` : path;
}
