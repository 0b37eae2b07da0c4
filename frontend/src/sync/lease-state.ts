/** How it stands with a VM's lease, and what to tell a person about it. */

import { Cancelled, Expected } from "./errors";
import type { Holder } from "./protocol";

export type LeaseState =
  /** No connection now; it is being tried again. `since`: ms since 1970 when it went away. */
  | { kind: "connecting"; attempt: number; since: number }
  /** The lease is ours. `head`: the VM's head at that moment. */
  | { kind: "online"; epoch: number; head: string | null }
  /** Somebody else has the lease and we never had it in this run. */
  | ({ kind: "held" } & Holder)
  /** We have asked whoever has it for the lease; `saving`: they are saving for us. */
  | { kind: "asking"; saving: boolean }
  /** As many of the tenant's machines run as may. It is asked for again and again. */
  | { kind: "full"; message: string; sessions: number; most: number }
  /** We had the lease and somebody took it, or we gave it to them. */
  | { kind: "lost"; message: string; by: Holder }
  /** It makes no sense to go on: signed out, no such VM, or closed by us. */
  | { kind: "ended"; code: "signed_out" | "not_found" | "closed"; message: string };

export const NO_ROOM = "session_quota_exceeded";

/** What a refusal for want of room says. */
export function tenantFull({ message, details }: Expected): LeaseState {
  const { sessions, max_sessions: most } = details;
  return { kind: "full", message, sessions: Number(sessions) || 0, most: Number(most) || 0 };
}

/** Why it makes no sense to wait for the lease; undefined: it does. */
export function blocked(state: LeaseState): Error | undefined {
  switch (state.kind) {
    case "held":
      return new Expected("lease_held", `${holderName(state)} has this machine open.`, { ...state });
    case "full":
      return new Expected(NO_ROOM, state.message);
    case "lost":
      return new Expected("lease_lost", state.message);
    case "ended":
      return state.code === "closed" ? new Cancelled() : new Expected(state.code, state.message);
    default:
      return undefined;
  }
}

export function isHeldBy(state: LeaseState, by: Holder): boolean {
  return state.kind === "held" && state.holder === by.holder && state.since === by.since;
}

function holderName({ holder, yours }: Holder): string {
  return yours ? `${holder} (you)` : holder;
}

/** "Taken over by … at …", as the person's clock shows it. */
export function takenOver(by: Holder): string {
  if (!by.since) return "This machine was opened somewhere else.";
  const who = by.yours ? "you, in another tab or on another device" : by.holder;
  const since = new Date(by.since);
  if (Number.isNaN(since.getTime())) return `Taken over by ${who}.`;
  return `Taken over by ${who} at ${since.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}.`;
}
