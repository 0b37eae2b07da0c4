/** Resource limits (RLIMIT_* of include/uapi/asm-generic/resource.h). */

export const RLIMIT_CPU = 0;
export const RLIMIT_FSIZE = 1;
export const RLIMIT_DATA = 2;
export const RLIMIT_STACK = 3;
export const RLIMIT_CORE = 4;
export const RLIMIT_RSS = 5;
export const RLIMIT_NPROC = 6;
export const RLIMIT_NOFILE = 7;
export const RLIMIT_MEMLOCK = 8;
export const RLIMIT_AS = 9;
export const RLIMIT_LOCKS = 10;
export const RLIMIT_SIGPENDING = 11;
export const RLIMIT_MSGQUEUE = 12;
export const RLIMIT_NICE = 13;
export const RLIMIT_RTPRIO = 14;
export const RLIMIT_RTTIME = 15;

export interface Limit {
  soft: number;
  hard: number;
}

/** As Debian's first process has them. */
export function defaultLimits(): Limit[] {
  const none = (): Limit => ({ soft: Infinity, hard: Infinity });
  const limits = Array.from({ length: 16 }, none);
  limits[RLIMIT_STACK] = { soft: 8 * 1024 * 1024, hard: Infinity };
  limits[RLIMIT_CORE] = { soft: 0, hard: Infinity };
  limits[RLIMIT_NOFILE] = { soft: 1024, hard: 1048576 };
  limits[RLIMIT_NPROC] = { soft: 4096, hard: 4096 };
  limits[RLIMIT_MEMLOCK] = { soft: 8 * 1024 * 1024, hard: 8 * 1024 * 1024 };
  limits[RLIMIT_SIGPENDING] = { soft: 4096, hard: 4096 };
  limits[RLIMIT_MSGQUEUE] = { soft: 819200, hard: 819200 };
  limits[RLIMIT_NICE] = { soft: 0, hard: 0 };
  limits[RLIMIT_RTPRIO] = { soft: 0, hard: 0 };
  return limits;
}
