/** Bytes between a process's memory and files: whole for regular files, even when a piece of them is still on its way. */

import { E, Errno } from "../errno.ts";
import type { OpenFile, Task } from "../types.ts";
import { MOST_BYTES } from "../vfs/constants.ts";
import { RegularFile } from "../vfs/open-files.ts";
import { Block } from "../wait.ts";

/** A piece of a process's memory. */
export interface Piece {
  address: number;
  length: number;
}

const MOST_AT_ONCE = 1 << 20;
const MOST_PIECES = 1024;

/** readv's and writev's array. */
export function piecesAt(task: Task, address: number, count: number): Piece[] {
  if (count < 0 || count > MOST_PIECES) throw new Errno(E.INVAL);
  const pieces: Piece[] = [];
  let left = MOST_BYTES;
  for (let i = 0; i < count; i += 1) {
    const length = task.memory.getI64(address + 16 * i + 8);
    if (length < 0) throw new Errno(E.INVAL);
    const part = Math.min(length, left);
    left -= part;
    pieces.push({ address: task.memory.getI64(address + 16 * i), length: part });
  }
  return pieces;
}

export function onePiece(address: number, length: number): Piece[] {
  // A length beyond 2^63 is a negative number here.
  if (length < 0) throw new Errno(E.INVAL);
  return [{ address, length: Math.min(length, MOST_BYTES) }];
}

function total(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, piece) => sum + piece.length, 0);
}

/** `position` null: at the file's offset. */
export function readPieces(
  task: Task,
  file: OpenFile,
  pieces: readonly Piece[],
  position: number | null,
): number {
  if (position !== null && position < 0) throw new Errno(E.INVAL);
  if (file instanceof RegularFile) {
    if (!file.canRead) throw new Errno(E.BADF);
    return inTurns(task, pieces, (part, done) => {
      const at = position === null ? file.offset : position + done;
      const length = Math.min(part.length, Math.max(0, file.inode.size - at));
      if (length === 0) return 0;
      return file.read(
        task,
        task.memory.writable(part.address, length),
        position === null ? null : position + done,
      );
    });
  }
  const whole = pieces[0];
  if (pieces.length === 1 && whole !== undefined) {
    return file.read(task, task.memory.writable(whole.address, whole.length), position);
  }
  // A message or a terminal's line must not be cut where a piece ends: read at once, then handed out.
  for (const { address, length } of pieces) task.memory.writable(address, length);
  const bytes = new Uint8Array(total(pieces));
  const count = file.read(task, bytes, position);
  let done = 0;
  for (const { address, length } of pieces) {
    const part = bytes.subarray(done, Math.min(count, done + length));
    if (part.length > 0) task.memory.writable(address, part.length).set(part);
    done += part.length;
  }
  return count;
}

export function writePieces(
  task: Task,
  file: OpenFile,
  pieces: readonly Piece[],
  position: number | null,
): number {
  if (position !== null && position < 0) throw new Errno(E.INVAL);
  if (file instanceof RegularFile) {
    if (!file.canWrite) throw new Errno(E.BADF);
    return inTurns(task, pieces, (part, done) =>
      file.write(
        task,
        task.memory.readable(part.address, part.length),
        position === null ? null : position + done,
      ),
    );
  }
  const whole = pieces[0];
  if (pieces.length === 1 && whole !== undefined) {
    return file.write(task, task.memory.readable(whole.address, whole.length), position);
  }
  const bytes = new Uint8Array(total(pieces));
  let done = 0;
  for (const { address, length } of pieces) {
    bytes.set(task.memory.readable(address, length), done);
    done += length;
  }
  return file.write(task, bytes, position);
}

/** Piece after piece until one comes short; what is done is remembered when the call has to be made again. */
function inTurns(task: Task, pieces: readonly Piece[], move: (part: Piece, done: number) => number): number {
  let done = task.restart?.done ?? 0;
  let before = 0;
  try {
    for (const piece of pieces) {
      const end = before + piece.length;
      while (done < end) {
        const length = Math.min(MOST_AT_ONCE, end - done);
        const count = move({ address: piece.address + (done - before), length }, done);
        done += count;
        if (count < length) return done;
      }
      before = end;
    }
  } catch (problem) {
    if (done === 0) throw problem;
    if (problem instanceof Errno) return done;
    if (problem instanceof Block) task.restart = { ...task.restart, done };
    throw problem;
  }
  return done;
}
