/** Which blocks of a file are where: runs sorted by their place in the file. They are replaced, never changed. */

export interface Run {
  readonly logical: number;
  readonly physical: number;
  readonly length: number;
  /** Allocated, but reads as zeros. */
  readonly unwritten: boolean;
}

export type Runs = readonly Run[];

/** Index of the first run that ends behind `logical`. */
function indexAt(runs: Runs, logical: number): number {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const run = runs[middle]!;
    if (run.logical + run.length <= logical) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The run that has that block. */
export function runAt(runs: Runs, logical: number): Run | undefined {
  const run = runs[indexAt(runs, logical)];
  return run !== undefined && run.logical <= logical ? run : undefined;
}

/** The first run that begins at or behind `logical`, or has it. */
export function runFrom(runs: Runs, logical: number): Run | undefined {
  return runs[indexAt(runs, logical)];
}

/** The last run before `logical`. */
export function runBefore(runs: Runs, logical: number): Run | undefined {
  return runs[indexAt(runs, logical) - 1];
}

function follows(a: Run, b: Run): boolean {
  return (
    a.logical + a.length === b.logical && a.physical + a.length === b.physical && a.unwritten === b.unwritten
  );
}

/** With what [start, end) had taken away; its parts in `removed`. */
export function without(runs: Runs, start: number, end: number): { runs: Run[]; removed: Run[] } {
  const left: Run[] = [];
  const removed: Run[] = [];
  const part = (run: Run, from: number, to: number): Run => ({
    logical: from,
    physical: run.physical + (from - run.logical),
    length: to - from,
    unwritten: run.unwritten,
  });
  for (const run of runs) {
    const runEnd = run.logical + run.length;
    if (runEnd <= start || run.logical >= end) {
      left.push(run);
      continue;
    }
    if (run.logical < start) left.push(part(run, run.logical, start));
    removed.push(part(run, Math.max(start, run.logical), Math.min(end, runEnd)));
    if (runEnd > end) left.push(part(run, end, runEnd));
  }
  return { runs: left, removed };
}

/** With one more, where nothing is; joined with its neighbours. */
export function withRun(runs: Runs, run: Run): Run[] {
  const at = indexAt(runs, run.logical);
  const next = [...runs];
  const before = next[at - 1];
  const behind = next[at];
  let joined = run;
  let from = at;
  let count = 0;
  if (before !== undefined && follows(before, joined)) {
    joined = { ...before, length: before.length + joined.length };
    from -= 1;
    count += 1;
  }
  if (behind !== undefined && follows(joined, behind)) {
    joined = { ...joined, length: joined.length + behind.length };
    count += 1;
  }
  next.splice(from, count, joined);
  return next;
}
