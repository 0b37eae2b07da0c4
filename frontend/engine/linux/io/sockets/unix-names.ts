/** Names of UNIX sockets: paths, which are inodes, and abstract ones. */

import { E, Errno } from "../../errno.ts";
import type { ByteString, Task } from "../../types.ts";
import { MAY_WRITE, S_IFMT, S_IFSOCK } from "../../vfs/constants.ts";
import { makeNode } from "../../vfs/names.ts";
import type { FsInode } from "../../vfs/inode.ts";
import { identityOf, mustPermit } from "../../vfs/permissions.ts";
import { walk } from "../../vfs/walk.ts";
import { inodeKey } from "../keys.ts";
import { ioMachine } from "../machine.ts";
import { AF_UNIX } from "./numbers.ts";
import type { Socket } from "./socket.ts";

/** Bytes of sun_path. */
const MOST_PATH = 108;

/** By "@name" or the inode's key. */
export type UnixNames = Map<string, Socket>;

/** What a socket is bound to. */
export class UnixName {
  /** As in sun_path: a path, or a NUL and the abstract name. */
  readonly path: ByteString;
  readonly key: string;
  private readonly inode: FsInode | undefined;

  constructor(path: ByteString, key: string, inode?: FsInode) {
    this.path = path;
    this.key = key;
    this.inode = inode;
    inode?.hold();
  }

  release(names: UnixNames, socket: Socket): void {
    if (names.get(this.key) === socket) names.delete(this.key);
    this.inode?.drop();
  }
}

export function unixNames(task: Task): UnixNames {
  return ioMachine(task.process.kernel).unixNames;
}

/** sun_path of a `struct sockaddr_un`; "" means: choose a name. */
function pathOf(address: Uint8Array): ByteString {
  if (address.length < 2 || address.length > MOST_PATH + 2) throw new Errno(E.INVAL);
  if (new DataView(address.buffer, address.byteOffset).getUint16(0, true) !== AF_UNIX) {
    throw new Errno(E.INVAL);
  }
  const text = String.fromCharCode(...address.subarray(2));
  if (text === "" || text[0] === "\0") return text;
  const end = text.indexOf("\0");
  return end < 0 ? text : text.slice(0, end);
}

export function unixAddress(path: ByteString | undefined): Uint8Array {
  const text = path ?? "";
  const ends = text !== "" && text[0] !== "\0" ? 1 : 0;
  const bytes = new Uint8Array(2 + text.length + ends);
  bytes[0] = AF_UNIX;
  for (let i = 0; i < text.length; i += 1) bytes[2 + i] = text.charCodeAt(i);
  return bytes;
}

export function bindUnix(task: Task, socket: Socket, address: Uint8Array): UnixName {
  const names = unixNames(task);
  let path = pathOf(address);
  if (path === "") {
    let number = 0;
    do path = `\0${(number++).toString(16).padStart(5, "0")}`;
    while (names.has(`@${path}`));
  }
  if (path[0] === "\0") {
    if (names.has(`@${path}`)) throw new Errno(E.ADDRINUSE);
    names.set(`@${path}`, socket);
    return new UnixName(path, `@${path}`);
  }
  try {
    const { inode } = makeNode(task.process, path, S_IFSOCK | 0o777).dentry;
    const key = inodeKey(inode);
    names.set(key, socket);
    return new UnixName(path, key, inode);
  } catch (problem) {
    if (problem instanceof Errno && problem.code === E.EXIST) throw new Errno(E.ADDRINUSE);
    throw problem;
  }
}

/** The socket with that name, which must be of type `type`; throws what connect and sendto answer. */
export function findUnix(task: Task, address: Uint8Array, type: number): Socket {
  const path = pathOf(address);
  if (path === "") throw new Errno(E.CONNREFUSED);
  let found: Socket | undefined;
  if (path[0] === "\0") {
    found = unixNames(task).get(`@${path}`);
  } else {
    const place = walk(task.process, path, { task });
    mustPermit(identityOf(task.process.credentials), place, MAY_WRITE);
    if ((place.dentry.inode.mode & S_IFMT) !== S_IFSOCK) throw new Errno(E.CONNREFUSED);
    found = unixNames(task).get(inodeKey(place.dentry.inode));
  }
  if (found === undefined) throw new Errno(E.CONNREFUSED);
  if (found.type !== type) throw new Errno(E.PROTOTYPE);
  return found;
}
