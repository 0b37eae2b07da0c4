/** read, write and their relatives; lseek. */

import { E, Errno } from "../errno.ts";
import type { Arguments, OpenFile, SystemCalls, Task } from "../types.ts";
import { FsInode } from "../vfs/inode.ts";
import { DirectoryFile, PathFile, RegularFile } from "../vfs/open-files.ts";
import { fileOf } from "./file-arguments.ts";
import { onePiece, type Piece, piecesAt, readPieces, writePieces } from "./moving.ts";

const SEEK_SET = 0;
const SEEK_CUR = 1;
const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** RWF_*: hints are taken as said; RWF_APPEND is not there. */
const RWF_KNOWN = 0x1 | 0x2 | 0x4 | 0x8;

function seek(file: OpenFile, offset: number, whence: number): number {
  if (file instanceof PathFile) throw new Errno(E.BADF);
  const { inode } = file;
  if (!(inode instanceof FsInode) || !(inode.isRegular || inode.isDirectory))
    return seekOther(file, offset, whence);
  let to: number;
  switch (whence) {
    case SEEK_SET:
      to = offset;
      break;
    case SEEK_CUR:
      to = file.offset + offset;
      break;
    case SEEK_END:
      // The end of a directory is behind every cookie.
      to = (file instanceof DirectoryFile ? 2 ** 52 : inode.size) + offset;
      break;
    case SEEK_DATA:
    case SEEK_HOLE: {
      if (!(file instanceof RegularFile)) throw new Errno(E.INVAL);
      if (offset < 0 || offset >= inode.size) throw new Errno(E.NXIO);
      const found = inode.seek(offset, whence === SEEK_HOLE);
      if (found === undefined) throw new Errno(E.NXIO);
      to = found;
      break;
    }
    default:
      throw new Errno(E.INVAL);
  }
  if (to < 0) throw new Errno(E.INVAL);
  file.offset = to;
  return to;
}

/** Memory devices answer with 0, streams with ESPIPE. */
function seekOther(file: OpenFile, offset: number, whence: number): number {
  if (whence < 0 || whence > SEEK_HOLE) throw new Errno(E.INVAL);
  const mode = file.inode.stat().mode & 0o170000;
  if (mode !== 0o020000 || file.seekable !== true) throw new Errno(E.SPIPE);
  file.offset = whence === SEEK_SET ? offset : 0;
  return 0;
}

function vectored(
  write: boolean,
  positioned: boolean,
  flagged: boolean,
): (task: Task, a: Arguments) => number {
  return (task, a) => {
    const file = fileOf(task, a[0]);
    if (flagged && (a[5] & ~RWF_KNOWN) !== 0) throw new Errno(E.OPNOTSUPP);
    const pieces = piecesAt(task, a[1], a[2] | 0);
    let position: number | null = null;
    if (positioned && !(flagged && a[3] === -1)) {
      position = a[3];
      if (position < 0) throw new Errno(E.INVAL);
    }
    return move(task, file, pieces, position, write);
  };
}

function move(task: Task, file: OpenFile, pieces: Piece[], position: number | null, write: boolean): number {
  return write ? writePieces(task, file, pieces, position) : readPieces(task, file, pieces, position);
}

function at(position: number): number {
  if (position < 0) throw new Errno(E.INVAL);
  return position;
}

export const readingCalls: SystemCalls = {
  read: (task, a) => readPieces(task, fileOf(task, a[0]), onePiece(a[1], a[2]), null),
  write: (task, a) => writePieces(task, fileOf(task, a[0]), onePiece(a[1], a[2]), null),
  pread64: (task, a) => readPieces(task, fileOf(task, a[0]), onePiece(a[1], a[2]), at(a[3])),
  pwrite64: (task, a) => writePieces(task, fileOf(task, a[0]), onePiece(a[1], a[2]), at(a[3])),
  readv: vectored(false, false, false),
  writev: vectored(true, false, false),
  preadv: vectored(false, true, false),
  pwritev: vectored(true, true, false),
  preadv2: vectored(false, true, true),
  pwritev2: vectored(true, true, true),
  lseek: (task, a) => seek(fileOf(task, a[0]), a[1], a[2] | 0),
};
