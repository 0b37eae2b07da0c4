/** How long things may take, and how often they are tried; all ms. */

export interface Timing {
  openMs: number;
  requestMs: number;
  commitMs: number;
  renewMs: number;
  /** Nothing stored for so long while chunks are under way: the connection is dead. */
  stallMs: number;
  backoffFirstMs: number;
  backoffMostMs: number;
  /** How often a lease that somebody else holds is asked for again: it may have run out, or been given back. */
  heldMs: number;
  /** How often one is asked for again that was refused since too many machines of the tenant run. */
  fullMs: number;
  /** How often a question for the lease is repeated. */
  askMs: number;
  /** How often a holder that was asked says that it is saving. */
  yieldMs: number;
}

/** Calls `tick` every `ms`; returns what ends that. */
export type Every = (tick: () => void, ms: number) => () => void;

export const byTimer: Every = (tick, ms) => {
  const timer = setInterval(tick, ms);
  return () => clearInterval(timer);
};

export const TIMING: Timing = {
  openMs: 10_000,
  requestMs: 15_000,
  commitMs: 60_000,
  renewMs: 10_000,
  stallMs: 30_000,
  backoffFirstMs: 250,
  backoffMostMs: 8_000,
  heldMs: 3_000,
  fullMs: 10_000,
  askMs: 500,
  yieldMs: 2_000,
};
