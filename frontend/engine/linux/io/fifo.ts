/** FIFOs: the pipe behind an inode of a file system, for as long as somebody has it open. */

import type { Inode, OpenFile, Task } from "../types.ts";
import { O_ACCMODE, O_NONBLOCK, O_RDONLY } from "./constants.ts";
import { inodeKey } from "./keys.ts";
import { Pipe, PipeFile } from "./pipe.ts";

/** What `open` does where the path leads to a FIFO. Throws `Block` until the other side comes. */
export function openFifo(task: Task, inode: Inode, flags: number, name: string): OpenFile {
  const { kernel } = task.process;
  const pipes = kernel.fifos;
  const key = inodeKey(inode);
  let pipe = pipes.get(key);
  if (pipe === undefined) pipes.set(key, (pipe = new Pipe()));
  const mode = flags & O_ACCMODE;
  const withoutWriter = mode === O_RDONLY && !pipe.hasWriters && (flags & O_NONBLOCK) !== 0;
  const writersBefore = withoutWriter ? pipe.writerOpens : -1;
  pipe.open(task, mode, (flags & O_NONBLOCK) !== 0);
  return new FifoFile(pipes, pipe, inode, flags, name, writersBefore);
}

export class FifoFile extends PipeFile {
  private readonly pipes: Map<string, Pipe>;

  constructor(
    pipes: Map<string, Pipe>,
    pipe: Pipe,
    inode: Inode,
    flags: number,
    name: string,
    writersBefore: number,
  ) {
    super(pipe, inode, flags, name, writersBefore);
    this.pipes = pipes;
    inode.hold();
  }

  override release(): void {
    super.release();
    if (!this.pipe.inUse) this.pipes.delete(inodeKey(this.inode));
    this.inode.drop();
  }
}
