/**
 * Holds a VM's lease over a socket that may come and go: connects, reconnects with back-off and jitter, takes and renews
 * the lease, and says in one `state` what a person must know. No DOM.
 */

import { Connection, type ChunkOutcome, type OpenSocket } from "./connection";
import { DirectUploads, putWithFetch, type PutFrame } from "./direct";
import { Cancelled, Expected } from "./errors";
import { CLOSE, type LeaseAnswer } from "./protocol";

export type LeaseState =
  /** No connection now; it is being tried again. `since`: ms since 1970 when it went away. */
  | { kind: "connecting"; attempt: number; since: number }
  /** The lease is ours. `head`: the VM's head at that moment. */
  | { kind: "online"; epoch: number; head: string | null }
  /** Somebody else has the lease and we never had it in this run. */
  | { kind: "held"; holder: string; since: string }
  /** We had the lease and somebody took it. */
  | { kind: "lost"; message: string }
  /** It makes no sense to go on: signed out, no such VM, or closed by us. */
  | { kind: "ended"; code: "signed_out" | "not_found" | "closed"; message: string };

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
}

export const TIMING: Timing = {
  openMs: 10_000,
  requestMs: 15_000,
  commitMs: 60_000,
  renewMs: 10_000,
  stallMs: 30_000,
  backoffFirstMs: 250,
  backoffMostMs: 8_000,
  heldMs: 3_000,
};

export interface SyncOptions {
  url: string;
  /** Names this tab's run: the same one taking the lease again keeps its epoch. */
  session: string;
  openSocket: OpenSocket;
  timing?: Partial<Timing>;
  /** How frames get into an object store; by default a browser's fetch. */
  putFrame?: PutFrame;
  /** 0 ≤ random < 1, for the jitter. */
  random?: () => number;
}

/** A connection on which the lease is ours. */
export interface Online {
  connection: Connection;
  epoch: number;
}

interface Waiter {
  resolve(online: Online): void;
  reject(error: Error): void;
}

export class SyncClient {
  readonly timing: Timing;
  /** Uploads past the socket, where the service has an object store. */
  readonly direct: DirectUploads;
  /** Called for each outcome of a chunk, on whichever connection. The uploader of the moment sets it. */
  onChunk: (outcome: ChunkOutcome) => void = () => undefined;

  private readonly options: SyncOptions;
  private readonly listeners = new Set<(state: LeaseState) => void>();
  private readonly waiters = new Set<Waiter>();
  private current: LeaseState = { kind: "connecting", attempt: 0, since: Date.now() };
  private online: Online | undefined;
  private connection: Connection | undefined;
  private wake: (() => void) | undefined;
  private takeOverNext = false;
  private hadLease = false;
  private closing = false;
  private closedBytes = 0;

  constructor(options: SyncOptions) {
    this.options = options;
    this.timing = { ...TIMING, ...options.timing };
    this.direct = new DirectUploads(options.putFrame ?? putWithFetch, this.timing.backoffFirstMs);
    void this.live();
  }

  get state(): LeaseState {
    return this.current;
  }

  /** Bytes sent over all connections so far. */
  get sentBytes(): number {
    return this.closedBytes + (this.connection?.sentBytes ?? 0);
  }

  /** Calls `listener` with every state from now on; returns what ends that. */
  onState(listener: (state: LeaseState) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Resolves as soon as the lease is ours on a live connection; rejects when only the person can bring that about. */
  whenOnline(): Promise<Online> {
    if (this.online) return Promise.resolve(this.online);
    const error = blocked(this.current);
    if (error) return Promise.reject(error);
    return new Promise((resolve, reject) => this.waiters.add({ resolve, reject }));
  }

  /** Takes the lease from whoever has it. Resolves when it is ours. */
  takeOver(): Promise<Online> {
    if (this.current.kind === "ended") return this.whenOnline();
    this.takeOverNext = true;
    this.setState({ kind: "connecting", attempt: 0, since: Date.now() });
    this.connection?.abandon("taking over");
    this.wake?.();
    return this.whenOnline();
  }

  /** The network is said to be back: try now instead of waiting for the back-off. */
  poke(): void {
    if (this.current.kind === "connecting") this.wake?.();
  }

  /** Gives the lease back and ends. */
  close(): void {
    if (this.closing) return;
    this.closing = true;
    if (this.online) this.connection?.tell("release", { epoch: this.online.epoch });
    this.setState({ kind: "ended", code: "closed", message: "This session was closed." });
    this.connection?.abandon("closed");
    this.wake?.();
  }

  /** A request came back with `lease_lost`: ask for the lease once more; only when somebody else has it, it is lost. */
  async renewOrLose(online: Online): Promise<void> {
    if (this.online !== online) return;
    try {
      await this.lease(online.connection, false);
    } catch (error) {
      if (error instanceof Expected && error.code === "lease_held") this.lose(whoHolds(error));
      else online.connection.abandon("the lease could not be renewed");
    }
  }

  private async live(): Promise<void> {
    let attempt = 0;
    while (!this.closing) {
      if (this.current.kind === "held") await this.sleep(this.timing.heldMs);
      else if (this.current.kind === "lost") {
        await this.sleep(undefined);
        continue;
      }
      if (this.closing) return;
      const connection = new Connection(this.options.openSocket, this.options.url, this.timing.openMs);
      this.connection = connection;
      connection.onChunk = (outcome) => this.onChunk(outcome);
      this.followHints(connection);
      try {
        await connection.opened;
        const takeOver = this.takeOverNext;
        await this.lease(connection, takeOver);
        if (takeOver) this.takeOverNext = false;
        attempt = 0;
        this.renewWhile(connection);
      } catch (error) {
        if (error instanceof Expected && error.code === "lease_held") {
          if (this.hadLease) this.lose(whoHolds(error));
          else this.setState({ kind: "held", ...holder(error) });
        }
        connection.abandon("no lease");
      }
      const code = await connection.closed;
      this.online = undefined;
      this.closedBytes += connection.sentBytes;
      if (this.connection === connection) this.connection = undefined;
      if (this.closing) return;
      this.afterClose(code, attempt);
      if (this.state.kind === "ended") return;
      if (this.state.kind === "connecting" && !this.takeOverNext)
        await this.sleep(this.delay(attempt++, code));
    }
  }

  private afterClose(code: number, attempt: number): void {
    if (code === CLOSE.takenOver && !this.takeOverNext) this.lose("This machine was opened somewhere else.");
    else if (code === CLOSE.notFound)
      this.finish("not_found", "This machine does not exist, or it is not yours any more.");
    else if (code === CLOSE.signedOut)
      this.finish("signed_out", "You are signed out. Sign in again to save your work.");
    else if (this.current.kind === "online" || this.current.kind === "connecting") {
      const since = this.current.kind === "connecting" ? this.current.since : Date.now();
      this.setState({ kind: "connecting", attempt: attempt + 1, since });
    }
  }

  private finish(code: "signed_out" | "not_found", message: string): void {
    this.setState({ kind: "ended", code, message });
  }

  private lose(message: string): void {
    this.online = undefined;
    this.setState({ kind: "lost", message });
    this.connection?.abandon("lease lost");
  }

  private async lease(connection: Connection, takeOver: boolean): Promise<void> {
    const body = { session: this.options.session, take_over: takeOver };
    const answer = (await connection.request("lease", body, this.timing.requestMs)) as unknown as LeaseAnswer;
    connection.grantCredit(answer.credit);
    this.hadLease = true;
    this.online = { connection, epoch: answer.epoch };
    this.setState({ kind: "online", epoch: answer.epoch, head: answer.head });
  }

  private renewWhile(connection: Connection): void {
    const timer = setInterval(() => this.askStillOurs(connection), this.timing.renewMs);
    void connection.closed.then(() => clearInterval(timer));
  }

  /** Renews the lease, and finds out when it is not ours any more. */
  private askStillOurs(connection: Connection): void {
    const online = this.online;
    if (!online || online.connection !== connection) return;
    connection.request("renew", { epoch: online.epoch }, this.timing.requestMs).catch((error: unknown) => {
      if (error instanceof Expected && error.code === "lease_lost") void this.renewOrLose(online);
      else connection.abandon("the lease could not be renewed");
    });
  }

  /** Hints may be lost: each one that could mean the lease, and each gap in their numbers, makes us ask. */
  private followHints(connection: Connection): void {
    let last: number | undefined;
    connection.onHint = (hint, seq) => {
      const missed = last !== undefined && seq > last + 1;
      last = seq;
      if (hint !== "head" || missed) this.askStillOurs(connection);
    };
  }

  private setState(state: LeaseState): void {
    this.current = state;
    const error = blocked(state);
    for (const waiter of [...this.waiters]) {
      if (state.kind === "online" && this.online) waiter.resolve(this.online);
      else if (error) waiter.reject(error);
      else continue;
      this.waiters.delete(waiter);
    }
    for (const listener of [...this.listeners]) listener(state);
  }

  /** Back-off: doubled each time up to the most, and half of it random so that clients do not come back all at once. */
  private delay(attempt: number, code: number): number {
    const { backoffFirstMs, backoffMostMs } = this.timing;
    const doubled = Math.min(backoffMostMs, backoffFirstMs * 2 ** Math.min(attempt, 16));
    const full = code === CLOSE.tooFast ? backoffMostMs : doubled;
    return full / 2 + (full / 2) * (this.options.random ?? Math.random)();
  }

  private sleep(ms: number | undefined): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(() => this.wake?.(), ms);
      this.wake = () => {
        clearTimeout(timer);
        this.wake = undefined;
        resolve();
      };
    });
  }
}

function blocked(state: LeaseState): Error | undefined {
  switch (state.kind) {
    case "held":
      return new Expected("lease_held", `${state.holder} has this machine open.`, { ...state });
    case "lost":
      return new Expected("lease_lost", state.message);
    case "ended":
      return state.code === "closed" ? new Cancelled() : new Expected(state.code, state.message);
    default:
      return undefined;
  }
}

function holder(error: Expected): { holder: string; since: string } {
  return {
    holder: typeof error.details["holder"] === "string" ? error.details["holder"] : "Somebody",
    since: typeof error.details["since"] === "string" ? error.details["since"] : "",
  };
}

function whoHolds(error: Expected): string {
  return `${holder(error).holder} has opened this machine somewhere else.`;
}
