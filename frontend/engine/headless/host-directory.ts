/** A directory of the host as the lower tree of a file system in memory. Nothing is ever written to it. */

import {
  closeSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  type BigIntStats,
} from "node:fs";
import { E, Errno } from "../linux/errno.ts";
import type { ByteString, Stat, Time } from "../linux/types.ts";
import type { Lower } from "../linux/vfs/lower.ts";

/** The host's error as the guest's. */
function asErrno(problem: unknown): unknown {
  const { code } = problem as { code?: string };
  if (typeof code !== "string") return problem;
  const name = code.slice(1) as keyof typeof E;
  return new Errno(E[name] ?? E.IO);
}

function attempt<T>(action: () => T): T {
  try {
    return action();
  } catch (problem) {
    throw asErrno(problem);
  }
}

function bytes(path: ByteString): Buffer {
  return Buffer.from(path, "latin1");
}

function time(nanoseconds: bigint): Time {
  const seconds = nanoseconds / 1_000_000_000n;
  return { seconds: Number(seconds), nanoseconds: Number(nanoseconds - seconds * 1_000_000_000n) };
}

function convert(stat: BigIntStats): Stat {
  return {
    dev: Number(stat.dev),
    ino: Number(stat.ino),
    mode: Number(stat.mode),
    nlink: Number(stat.nlink),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    rdev: Number(stat.rdev),
    size: Number(stat.size),
    blksize: Number(stat.blksize),
    blocks: Number(stat.blocks),
    atime: time(stat.atimeNs),
    mtime: time(stat.mtimeNs),
    ctime: time(stat.ctimeNs),
  };
}

function statOf(path: ByteString): Stat | undefined {
  try {
    const stat = lstatSync(bytes(path), { bigint: true, throwIfNoEntry: false });
    return stat === undefined ? undefined : convert(stat);
  } catch (problem) {
    const errno = asErrno(problem);
    // What the host hides from us is not there for the guest.
    if (errno instanceof Errno && errno.code !== E.IO) return undefined;
    throw errno;
  }
}

export class HostNode implements Lower {
  readonly stat: Stat;
  private readonly path: ByteString;

  constructor(path: ByteString, stat: Stat) {
    this.path = path;
    this.stat = stat;
  }

  private child(name: ByteString): ByteString {
    return this.path.endsWith("/") ? this.path + name : `${this.path}/${name}`;
  }

  lookup(name: ByteString): Lower | undefined {
    const path = this.child(name);
    const stat = statOf(path);
    return stat === undefined ? undefined : new HostNode(path, stat);
  }

  list(): ByteString[] {
    return attempt(() => readdirSync(bytes(this.path), { encoding: "latin1" }));
  }

  readlink(): ByteString {
    return attempt(() => readlinkSync(bytes(this.path), { encoding: "latin1" }));
  }

  read(position: number, into: Uint8Array): number {
    return attempt(() => {
      const fd = openFiles.get(this.path);
      let done = 0;
      while (done < into.length) {
        const count = readSync(fd, into, done, into.length - done, position + done);
        if (count === 0) break;
        done += count;
      }
      return done;
    });
  }
}

/** The host's files that were read last, open. */
class OpenFiles {
  readonly #files = new Map<ByteString, number>();
  readonly #most = 64;

  get(path: ByteString): number {
    let fd = this.#files.get(path);
    if (fd !== undefined) this.#files.delete(path);
    else fd = openSync(bytes(path), "r");
    this.#files.set(path, fd);
    if (this.#files.size > this.#most) this.#closeOldest();
    return fd;
  }

  #closeOldest(): void {
    for (const [path, fd] of this.#files) {
      this.#files.delete(path);
      closeSync(fd);
      return;
    }
  }
}

const openFiles = new OpenFiles();

/** `directory` as a path of the host in its own encoding. Throws `Errno` when there is none. */
export function hostDirectory(directory: string): Lower {
  const path = Buffer.from(directory, "utf8").toString("latin1");
  const stat = statOf(path);
  if (stat === undefined) throw new Errno(E.NOENT);
  if ((stat.mode & 0o170000) !== 0o040000) throw new Errno(E.NOTDIR);
  return new HostNode(path, stat);
}
