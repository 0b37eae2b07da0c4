/** pidfd: a process to wait for. */

import type { ThreadGroup } from "../../process.ts";
import type { Task } from "../../types.ts";
import { O_RDWR, READABLE } from "../constants.ts";
import { ANONYMOUS_DEVICE, PseudoFile, PseudoInode } from "../pseudo.ts";

export class ProcessFile extends PseudoFile {
  readonly name = "anon_inode:[pidfd]";
  readonly process: ThreadGroup;

  constructor(task: Task, process: ThreadGroup, flags: number) {
    super(new PseudoInode(task, ANONYMOUS_DEVICE, 0o600), O_RDWR | flags, process.endQueue);
    this.process = process;
  }

  /** Readable once the process has ended. */
  override poll(): number {
    return this.process.zombie || this.process.threads.length === 0 ? READABLE : 0;
  }
}
