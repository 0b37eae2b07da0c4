/** A read-only tree under a file system in memory: a directory of the host (headless/host-directory.ts). */

import type { ByteString, Stat } from "../types.ts";

export interface Lower {
  /** As it was when it was looked up. `dev` and `ino` say which of them are one file. */
  readonly stat: Stat;
  /** undefined: there is no such name. */
  lookup(name: ByteString): Lower | undefined;
  /** Without `.` and `..`. */
  list(): ByteString[];
  readlink(): ByteString;
  /** Fewer bytes than asked for only at the end. */
  read(position: number, into: Uint8Array): number;
}

export function isLower(source: object): source is Lower {
  return "lookup" in source;
}
