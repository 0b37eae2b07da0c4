/** pipe and pipe2. (F_SETPIPE_SZ and F_GETPIPE_SZ are fcntl's: `pipeControl`.) */

import { E, Errno } from "../errno.ts";
import { O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, S_IFIFO } from "../io/constants.ts";
import { Pipe, PipeFile } from "../io/pipe.ts";
import { PIPE_DEVICE, PseudoInode } from "../io/pseudo.ts";
import { dropFile } from "../references.ts";
import type { OpenFile, SystemCalls, Task } from "../types.ts";

export const F_SETPIPE_SZ = 1031;
export const F_GETPIPE_SZ = 1032;

/** fcntl's commands for pipes; undefined: it is another command. */
export function pipeControl(task: Task, file: OpenFile, command: number, value: number): number | undefined {
  if (command !== F_SETPIPE_SZ && command !== F_GETPIPE_SZ) return undefined;
  if (!(file instanceof PipeFile)) throw new Errno(E.BADF);
  return command === F_SETPIPE_SZ ? file.pipe.resize(task, value) : file.pipe.capacity;
}

/** Two open files: the end to read from, the end to write to. */
export function makePipe(task: Task, flags: number): [PipeFile, PipeFile] {
  const inode = new PseudoInode(task, PIPE_DEVICE, S_IFIFO | 0o600);
  const pipe = new Pipe();
  pipe.opened(O_RDWR);
  const name = `pipe:[${inode.ino}]`;
  return [
    new PipeFile(pipe, inode, O_RDONLY | flags, name),
    new PipeFile(pipe, inode, O_WRONLY | flags, name),
  ];
}

/** Puts two files into the caller's table and their numbers at `address`; neither stays if that fails. */
export function addPair(task: Task, files: readonly [OpenFile, OpenFile], cloexec: boolean, address: number) {
  const table = task.process.files;
  const numbers: number[] = [];
  try {
    for (const file of files) numbers.push(table.add(file, cloexec));
    numbers.forEach((number, i) => task.memory.setU32(address + 4 * i, number));
  } catch (problem) {
    for (const number of numbers) table.close(number);
    for (const file of files.slice(numbers.length)) dropFile(file);
    throw problem;
  }
}

function pipe2(task: Task, address: number, flags: number): number {
  // Packet mode (O_DIRECT) is not there; Linux before 3.4 answers the same.
  if ((flags & ~(O_CLOEXEC | O_NONBLOCK)) !== 0) throw new Errno(E.INVAL);
  task.memory.writable(address, 8);
  addPair(task, makePipe(task, flags & O_NONBLOCK), (flags & O_CLOEXEC) !== 0, address);
  return 0;
}

export const pipeCalls: SystemCalls = {
  pipe: (task, a) => pipe2(task, a[0], 0),
  pipe2: (task, a) => pipe2(task, a[0], a[1] | 0),
};
