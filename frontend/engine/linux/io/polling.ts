/** What poll and select share: one look at many files, and waiting for any of them. */

import type { OpenFile, Task } from "../types.ts";
import { Block, WaitQueue } from "../wait.ts";

/** Nanoseconds from the caller's `struct timespec`; undefined for a null pointer: for ever. */
export function deadlineOf(task: Task, nanoseconds: number | undefined): number {
  if (nanoseconds === undefined) return Infinity;
  const { deadline } = task.restart ?? {};
  return deadline ?? task.process.kernel.monotonic() + nanoseconds;
}

/** Parks the caller until one of the files may have changed; keeps the deadline for the next attempt. */
export function waitForAny(task: Task, files: Iterable<OpenFile>, deadline: number): Block {
  const queues = new Set<WaitQueue>();
  for (const file of files) queues.add(file.pollQueue);
  // Infinity is no plain data.
  task.restart = deadline === Infinity ? { ...task.restart } : { ...task.restart, deadline };
  return new Block([...queues], deadline);
}
