/** From a path to a place (path_resolution(7)). */

import { E, Errno } from "../errno.ts";
import type { ByteString, Task } from "../types.ts";
import { MAY_EXEC, MOST_SYMLINKS, NAME_MAX, PATH_MAX, S_ISVTX } from "./constants.ts";
import { contextOf, type Walker } from "./context.ts";
import type { Dentry } from "./dentry.ts";
import { crossMounts, type Location, parentOf } from "./mounts.ts";
import { type Identity, identityOf, permits } from "./permissions.ts";

export interface WalkOptions {
  /** Whether a symbolic link at the end is followed; it is anyway when slashes come behind it. Default: yes. */
  follow?: boolean;
  /** Where a relative path begins; default: the working directory. */
  from?: Location;
  /** Whose permissions count; default: the process's file system ids. */
  identity?: Identity;
  /** For magic links that depend on who asks (/proc/self). */
  task?: Task;
}

/** The last name of a path, and the directory it is in. */
export interface Last {
  directory: Location;
  /** "" for the root, ".", or "..": nothing can be made there. */
  name: ByteString;
  /** Slashes came behind the name: it has to be a directory. */
  slashes: boolean;
  /** How many symbolic links were followed so far. */
  links: number;
}

/** The place that a path names; throws ENOENT when nothing is there. */
export function walk(walker: Walker, path: ByteString, options: WalkOptions = {}): Location {
  const last = walkToLast(walker, path, options);
  const place = finish(walker, last, options);
  if (place === undefined) throw new Errno(E.NOENT);
  return place;
}

/** Everything but the last name. */
export function walkToLast(walker: Walker, path: ByteString, options: WalkOptions = {}, links = 0): Last {
  if (path === "") throw new Errno(E.NOENT);
  if (path.length >= PATH_MAX) throw new Errno(E.NAMETOOLONG);
  const context = contextOf(walker);
  const who = options.identity ?? identityOf(walker.credentials);
  let at = path[0] === "/" ? context.root : (options.from ?? context.cwd);
  const names = path.split("/").filter((name) => name !== "");
  const name = names.pop() ?? "";
  for (const step of names) {
    const next = stepInto(walker, { directory: at, name: step, slashes: true, links }, options, who);
    if (next === undefined) throw new Errno(E.NOENT);
    at = next.place;
    links = next.links;
    if (!at.dentry.inode.isDirectory) throw new Errno(E.NOTDIR);
  }
  if (name.length > NAME_MAX) throw new Errno(E.NAMETOOLONG);
  if (!at.dentry.inode.isDirectory) throw new Errno(E.NOTDIR);
  // The last name is looked for in any case, so the directory has to allow that.
  if (name !== "" && !permits(who, at.dentry.inode, MAY_EXEC)) throw new Errno(E.ACCES);
  return { directory: at, name, slashes: path.endsWith("/"), links };
}

/** What the last name is, with links followed as the options say; undefined: nothing is there. */
export function finish(walker: Walker, last: Last, options: WalkOptions = {}): Location | undefined {
  const who = options.identity ?? identityOf(walker.credentials);
  const follow = (options.follow ?? true) || last.slashes;
  const found = follow ? stepInto(walker, last, options, who) : look(walker, last, who);
  const place = found === undefined ? undefined : "place" in found ? found.place : found;
  if (place !== undefined && last.slashes && !place.dentry.inode.isDirectory) throw new Errno(E.NOTDIR);
  return place;
}

/** A link's target is walked to its last name as well; what is to be made there is made behind the link. */
export function followLast(
  walker: Walker,
  last: Last,
  link: Location,
  options: WalkOptions,
): Last | Location {
  const links = last.links + 1;
  if (links > MOST_SYMLINKS) throw new Errno(E.LOOP);
  const magic = link.dentry.inode.follow(walker);
  if (magic !== undefined) return magic;
  mayFollow(walker, last.directory.dentry, link, options.identity ?? identityOf(walker.credentials));
  const target = link.dentry.inode.readlink(walker);
  const next = walkToLast(walker, target, { ...options, from: last.directory }, links);
  return last.slashes ? { ...next, slashes: true } : next;
}

/** One name, without following. */
function look(walker: Walker, last: Last, who: Identity): Location | undefined {
  const { directory, name } = last;
  if (name.length > NAME_MAX) throw new Errno(E.NAMETOOLONG);
  if (name === "") return directory;
  if (!permits(who, directory.dentry.inode, MAY_EXEC)) throw new Errno(E.ACCES);
  if (name === ".") return directory;
  if (name === "..") return parentOf(directory, contextOf(walker).root);
  const dentry = directory.dentry.child(name);
  return dentry === undefined ? undefined : crossMounts({ mount: directory.mount, dentry });
}

/** One name, links followed to their end. */
function stepInto(
  walker: Walker,
  last: Last,
  options: WalkOptions,
  who: Identity,
): { place: Location; links: number } | undefined {
  let at = last;
  for (;;) {
    const place = look(walker, at, who);
    if (place === undefined) return undefined;
    if (!place.dentry.inode.isSymlink) {
      if (at.slashes && !place.dentry.inode.isDirectory) throw new Errno(E.NOTDIR);
      return { place, links: at.links };
    }
    const next = followLast(walker, at, place, options);
    if ("mount" in next) return { place: next, links: at.links + 1 };
    at = next;
  }
}

/** Debian's fs.protected_symlinks: in a sticky directory that anybody writes, only one's own links and its owner's are followed. */
function mayFollow(walker: Walker, parent: Dentry, link: Location, who: Identity): void {
  const directory = parent.inode;
  if ((directory.mode & (S_ISVTX | 0o002)) !== (S_ISVTX | 0o002)) return;
  const owner = link.dentry.inode.uid;
  if (owner === who.uid || owner === directory.uid || walker.credentials.fsuid === owner) return;
  throw new Errno(E.ACCES);
}
