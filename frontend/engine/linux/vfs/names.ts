/** Making, removing and renaming names: the checks in Linux's order, then the file system's operation, then who wants to know. */

import { E, Errno } from "../errno.ts";
import type { ByteString, Process } from "../types.ts";
import * as C from "./constants.ts";
import { contextOf, type Walker } from "./context.ts";
import * as N from "./hooks.ts";
import type { FsInode, NewInode } from "./inode.ts";
import type { Location } from "./mounts.ts";
import { moveCookie, notify, notifyEntry } from "./notify.ts";
import { identityOf, inGroup, mustBeWritable, mustOwnInSticky, mustPermit } from "./permissions.ts";
import { finish, type Last, type WalkOptions, walkToLast } from "./walk.ts";

/** Owner, group and mode of a file that a process makes in `directory`; the umask is applied. */
export function newAttributes(walker: Walker, directory: FsInode, mode: number): NewInode {
  const { credentials } = walker;
  const isDirectory = (mode & C.S_IFMT) === C.S_IFDIR;
  const isLink = (mode & C.S_IFMT) === C.S_IFLNK;
  let bits = isLink ? mode : mode & ~contextOf(walker).umask;
  let gid = credentials.fsgid;
  if ((directory.mode & C.S_ISGID) !== 0) {
    gid = directory.gid;
    if (isDirectory) bits |= C.S_ISGID;
    else if ((bits & (C.S_ISGID | 0o010)) === (C.S_ISGID | 0o010)) {
      if (credentials.fsuid !== 0 && !inGroup(identityOf(credentials), gid)) bits &= ~C.S_ISGID;
    }
  }
  return { mode: bits, uid: credentials.fsuid, gid };
}

function isSpecialName(name: ByteString): boolean {
  return name === "" || name === "." || name === "..";
}

/** A file of any type but regular ones by open. Returns where it is. */
export function makeName(
  walker: Walker,
  path: ByteString,
  mode: number,
  options: WalkOptions & { rdev?: number; target?: ByteString } = {},
): Location {
  const last = walkToLast(walker, path, options);
  return makeAt(walker, last, mode, options);
}

function makeAt(
  walker: Walker,
  last: Last,
  mode: number,
  extra: { rdev?: number; target?: ByteString },
): Location {
  const directory = placeFor(walker, last, (mode & C.S_IFMT) === C.S_IFDIR);
  const parent = directory.dentry.inode;
  const attributes = newAttributes(walker, parent, mode);
  if (extra.rdev !== undefined) attributes.rdev = extra.rdev;
  if (extra.target !== undefined) attributes.target = extra.target;
  const inode = parent.create(last.name, attributes);
  const dentry = directory.dentry.adopt(last.name, inode);
  notifyEntry(directory, N.IN_CREATE, inode, last.name);
  return { mount: directory.mount, dentry };
}

/** The directory in which a new name may be made now. */
function placeFor(walker: Walker, last: Last, isDirectory: boolean): Location {
  const { directory, name, slashes } = last;
  if (isSpecialName(name)) throw new Errno(E.EXIST);
  const there = finish(walker, { ...last, slashes: false }, { follow: false });
  if (there !== undefined) throw new Errno(E.EXIST);
  if (slashes && !isDirectory) throw new Errno(E.NOENT);
  mustBeWritable(directory.mount);
  mustPermit(identityOf(walker.credentials), directory, C.MAY_WRITE | C.MAY_EXEC);
  if (directory.dentry.deleted) throw new Errno(E.NOENT);
  return directory;
}

export function linkName(walker: Walker, from: Location, path: ByteString, options: WalkOptions = {}): void {
  const { inode } = from.dentry;
  const last = walkToLast(walker, path, options);
  const directory = placeFor(walker, last, false);
  if (directory.mount !== from.mount) throw new Errno(E.XDEV);
  if (inode.isDirectory) throw new Errno(E.PERM);
  const who = identityOf(walker.credentials);
  // Debian's fs.protected_hardlinks: only what one owns or could write anyway.
  if (who.uid !== 0 && who.uid !== inode.uid) {
    const odd = !inode.isRegular || (inode.mode & C.S_ISUID) !== 0 || (inode.mode & 0o2010) === 0o2010;
    if (odd) throw new Errno(E.PERM);
    try {
      mustPermit(who, from, C.MAY_READ | C.MAY_WRITE);
    } catch (problem) {
      throw problem instanceof Errno ? new Errno(E.PERM) : problem;
    }
  }
  directory.dentry.inode.link(last.name, inode);
  directory.dentry.adopt(last.name, inode);
  notify(from, N.IN_ATTRIB);
  notifyEntry(directory, N.IN_CREATE, inode, last.name);
}

/** What a last name is, when it may be removed from its directory. */
function removable(walker: Walker, last: Last): Location {
  const { directory } = last;
  const place = finish(walker, { ...last, slashes: false }, { follow: false });
  if (place === undefined) throw new Errno(E.NOENT);
  mustBeWritable(directory.mount);
  const who = identityOf(walker.credentials);
  mustPermit(who, directory, C.MAY_WRITE | C.MAY_EXEC);
  mustOwnInSticky(who, directory.dentry.inode, place.dentry.inode);
  return place;
}

export function removeFile(walker: Walker, path: ByteString, options: WalkOptions = {}): void {
  const last = walkToLast(walker, path, options);
  if (isSpecialName(last.name)) throw new Errno(E.ISDIR);
  const place = removable(walker, last);
  const { dentry } = place;
  const { inode } = dentry;
  if (inode.isDirectory) throw new Errno(E.ISDIR);
  if (last.slashes) throw new Errno(E.NOTDIR);
  if (place.mount !== last.directory.mount) throw new Errno(E.BUSY);
  last.directory.dentry.inode.unlink(last.name, inode);
  removed(last, place, inode);
}

export function removeDirectory(walker: Walker, path: ByteString, options: WalkOptions = {}): void {
  const last = walkToLast(walker, path, options);
  if (last.name === "") throw new Errno(E.BUSY);
  if (last.name === ".") throw new Errno(E.INVAL);
  if (last.name === "..") throw new Errno(E.NOTEMPTY);
  const place = removable(walker, last);
  const { dentry } = place;
  if (!dentry.inode.isDirectory) throw new Errno(E.NOTDIR);
  if (place.mount !== last.directory.mount) throw new Errno(E.BUSY);
  last.directory.dentry.inode.rmdir(last.name, dentry.inode);
  removed(last, place, dentry.inode);
}

function removed(last: Last, place: Location, inode: FsInode): void {
  place.dentry.remove();
  const { events } = place.mount.vfs.hooks;
  if (events?.active !== true) return;
  // The count of its links has changed, be it to none.
  events.happened(N.IN_ATTRIB, inode);
  notifyEntry(last.directory, N.IN_DELETE, inode, last.name);
  if (inode.nlink === 0) events.happened(N.IN_DELETE_SELF, inode);
}

/** `flags`: RENAME_*. */
export function renameName(
  walker: Walker,
  from: ByteString,
  to: ByteString,
  flags = 0,
  fromOptions: WalkOptions = {},
  toOptions: WalkOptions = {},
): void {
  const noReplace = (flags & C.RENAME_NOREPLACE) !== 0;
  const exchange = (flags & C.RENAME_EXCHANGE) !== 0;
  if ((flags & ~(C.RENAME_NOREPLACE | C.RENAME_EXCHANGE)) !== 0 || (noReplace && exchange)) {
    throw new Errno(E.INVAL);
  }
  const source = walkToLast(walker, from, fromOptions);
  const target = walkToLast(walker, to, toOptions);
  if (source.directory.mount !== target.directory.mount) throw new Errno(E.XDEV);
  if (isSpecialName(source.name)) throw new Errno(E.BUSY);
  if (isSpecialName(target.name)) throw new Errno(noReplace ? E.EXIST : E.BUSY);
  const old = finish(walker, { ...source, slashes: false }, { follow: false });
  if (old === undefined) throw new Errno(E.NOENT);
  const there = finish(walker, { ...target, slashes: false }, { follow: false });
  if (noReplace && there !== undefined) throw new Errno(E.EXIST);
  if (exchange && there === undefined) throw new Errno(E.NOENT);
  const { inode } = old.dentry;
  if (!inode.isDirectory) {
    if (source.slashes || (!exchange && target.slashes)) throw new Errno(E.NOTDIR);
  }
  // Nothing goes into itself, and nothing replaces what it lies in.
  if (target.directory.dentry.isUnder(old.dentry)) throw new Errno(E.INVAL);
  if (there !== undefined && source.directory.dentry.isUnder(there.dentry)) {
    throw new Errno(exchange ? E.INVAL : E.NOTEMPTY);
  }
  removable(walker, source);
  if (there !== undefined) removable(walker, target);
  else placeFor(walker, { ...target, slashes: false }, inode.isDirectory);
  if (inode === there?.dentry.inode) return;
  if (!exchange && there !== undefined) {
    if (inode.isDirectory && !there.dentry.inode.isDirectory) throw new Errno(E.NOTDIR);
    if (!inode.isDirectory && there.dentry.inode.isDirectory) throw new Errno(E.ISDIR);
  }
  if (old.mount !== source.directory.mount) throw new Errno(E.BUSY);
  if (there !== undefined && there.mount !== target.directory.mount) throw new Errno(E.BUSY);
  const who = identityOf(walker.credentials);
  // Its `..` changes.
  const moves = source.directory.dentry !== target.directory.dentry;
  if (moves && inode.isDirectory) mustPermit(who, old, C.MAY_WRITE);
  if (moves && exchange && there!.dentry.inode.isDirectory) mustPermit(who, there!, C.MAY_WRITE);
  source.directory.dentry.inode.rename(
    source.name,
    inode,
    target.directory.dentry.inode,
    target.name,
    there?.dentry.inode,
    exchange,
  );
  renamed(source, target, old, there, exchange);
}

function renamed(
  source: Last,
  target: Last,
  old: Location,
  there: Location | undefined,
  exchange: boolean,
): void {
  const { inode } = old.dentry;
  if (exchange) old.dentry.exchange(there!.dentry);
  else {
    there?.dentry.remove();
    old.dentry.moveTo(target.directory.dentry, target.name);
  }
  const { events } = old.mount.vfs.hooks;
  if (events?.active !== true) return;
  const cookie = moveCookie();
  notifyEntry(source.directory, N.IN_MOVED_FROM, inode, source.name, cookie);
  notifyEntry(target.directory, N.IN_MOVED_TO, inode, target.name, cookie);
  events.happened(N.IN_MOVE_SELF, inode);
  const gone = there?.dentry.inode;
  if (exchange || gone === undefined) return;
  events.happened(gone.nlink === 0 ? N.IN_DELETE_SELF : N.IN_ATTRIB, gone);
}

/** For parts that have a process at hand and make special files (UNIX sockets). */
export function makeNode(process: Process, path: ByteString, mode: number, rdev = 0): Location {
  return makeName(process, path, mode, { rdev });
}
