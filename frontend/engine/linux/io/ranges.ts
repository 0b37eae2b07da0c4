/** Locked ranges of a file: what is in the way of one, and what adding and removing makes of them. */

export interface RangeLock<Owner> {
  owner: Owner;
  /** As F_GETLK tells it; -1: an open file's. */
  pid: number;
  exclusive: boolean;
  /** First and last byte. */
  start: number;
  end: number;
}

export function conflicting<Owner>(
  locks: readonly RangeLock<Owner>[],
  wanted: RangeLock<Owner>,
): RangeLock<Owner> | undefined {
  return locks.find(
    (lock) =>
      lock.owner !== wanted.owner &&
      lock.start <= wanted.end &&
      wanted.start <= lock.end &&
      (lock.exclusive || wanted.exclusive),
  );
}

/** What is left of an owner's ranges without those bytes; a range may fall into two. */
export function removeRange<Owner>(
  locks: readonly RangeLock<Owner>[],
  owner: Owner,
  start: number,
  end: number,
): RangeLock<Owner>[] {
  return locks.flatMap((lock) => {
    if (lock.owner !== owner || lock.end < start || lock.start > end) return [lock];
    const rest: RangeLock<Owner>[] = [];
    if (lock.start < start) rest.push({ ...lock, end: start - 1 });
    if (lock.end > end) rest.push({ ...lock, start: end + 1 });
    return rest;
  });
}

/** The owner's range replaces what it had there and grows together with its neighbours of the same kind. */
export function addRange<Owner>(
  locks: readonly RangeLock<Owner>[],
  range: RangeLock<Owner>,
): RangeLock<Owner>[] {
  let { start, end } = range;
  const others = removeRange(locks, range.owner, start, end).filter((lock) => {
    const touches = lock.end + 1 >= start && lock.start <= end + 1;
    if (lock.owner !== range.owner || lock.exclusive !== range.exclusive || !touches) return true;
    start = Math.min(start, lock.start);
    end = Math.max(end, lock.end);
    return false;
  });
  const at = others.findIndex((lock) => lock.start > start);
  others.splice(at < 0 ? others.length : at, 0, { ...range, start, end });
  return others;
}
