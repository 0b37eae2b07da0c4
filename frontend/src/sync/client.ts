/**
 * Holds a VM's lease over a socket that may come and go: connects, reconnects with back-off and jitter, takes and renews
 * the lease, and says in one `state` what a person must know. No DOM.
 */

import { Connection, type ChunkOutcome, type OpenSocket } from "./connection";
import { DirectUploads, putWithFetch, type PutFrame } from "./direct";
import { ConnectionLost, Expected } from "./errors";
import { blocked, isHeldBy, NO_ROOM, takenOver, tenantFull, type LeaseState } from "./lease-state";
import { CLOSE, holderIn, type Holder, type LeaseAnswer, type Notice } from "./protocol";
import { byTimer, TIMING, type Every, type Timing } from "./timing";

export type { LeaseState } from "./lease-state";
export type { Timing } from "./timing";

export interface SyncOptions {
  url: string;
  /** Names this tab's run: the same one taking the lease again keeps its epoch. */
  session: string;
  openSocket: OpenSocket;
  timing?: Partial<Timing>;
  /** The clock by which the lease is renewed; by default the page's timers, which a hidden tab slows down. */
  every?: Every;
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
  /** Somebody asks for the lease; `giveUp` is what to do in the end. */
  onAsked: (by: string) => void = () => undefined;
  /** While the lease is ours: somebody watches, and may need a whole screen. */
  onWatched: (fresh: boolean) => void = () => undefined;
  /** While we watch: a frame. Never one of our own, since the lease ends it. */
  onScreen: (frame: Uint8Array) => void = () => undefined;

  private readonly options: SyncOptions;
  private readonly listeners = new Set<(state: LeaseState) => void>();
  private readonly waiters = new Set<Waiter>();
  private current: LeaseState = { kind: "connecting", attempt: 0, since: Date.now() };
  private online: Online | undefined;
  private connection: Connection | undefined;
  private wake: (() => void) | undefined;
  /** The person wants the lease from whoever has it: by asking first, or at once. */
  private wanted: "ask" | "now" | undefined;
  private watching = false;
  private heard: () => void = () => undefined;
  private takenBy: Holder | undefined;
  private hadLease = false;
  private closing = false;
  /** Connections in a row that came to nothing. */
  private attempt = 0;
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

  /**
   * Takes the lease from whoever has it. They are asked first, and save; one that does not answer is passed over (`now`: at once).
   * Resolves when the lease is ours.
   */
  takeOver(now = false): Promise<Online> {
    if (this.current.kind === "ended") return this.whenOnline();
    if (this.online) return Promise.resolve(this.online);
    this.wanted = now ? "now" : (this.wanted ?? "ask");
    if (this.current.kind !== "asking") this.setState({ kind: "asking", saving: false });
    this.wake?.();
    return this.whenOnline();
  }

  /** Sees what the holder sees, by `onScreen`, while somebody else has the lease. Called again it asks for a whole screen. */
  watch(on: boolean): void {
    this.watching = on;
    if (!this.online) this.tellWatching();
  }

  /** So many bytes of what is watched have arrived. */
  acknowledge(count: number): void {
    this.connection?.tell("seen", { count });
  }

  /** Sends what a watcher is to see; false: it cannot be sent now. */
  show(frame: Uint8Array<ArrayBuffer>): boolean {
    return this.online?.connection.sendLossy(frame) ?? false;
  }

  /**
   * Does `work` (a save) for whoever asked, saying again and again that it is being done, and gives the lease back. If the
   * work fails the lease is kept: whoever asked passes us over then.
   */
  async giveUp(by: string, work: () => Promise<void>): Promise<void> {
    let said = 0;
    const say = (): void => {
      if (!this.online) return;
      said = Date.now();
      this.online.connection.tell("yield", { epoch: this.online.epoch });
    };
    say();
    const stop = (this.options.every ?? byTimer)(say, this.timing.yieldMs);
    // In a tab that has been hidden for long, browsers let timers wait for up to a minute; what is heard does not.
    this.heard = () => {
      if (Date.now() - said >= this.timing.yieldMs) say();
    };
    try {
      await work();
    } finally {
      stop();
      this.heard = () => undefined;
    }
    const { online } = this;
    if (!online) return;
    const since = new Date().toISOString();
    // Said before the answer: from here on nothing is saved under this lease.
    const released = online.connection.request("release", { epoch: online.epoch }, this.timing.requestMs);
    await released.catch(() => undefined); // the lease runs out, or is taken
    if (this.current.kind === "online" || this.current.kind === "connecting")
      this.lose({ holder: by, since, yours: false });
  }

  /** The network is said to be back: try now instead of waiting for the back-off. */
  poke(): void {
    if (this.current.kind === "connecting") this.wake?.();
  }

  /** There may be room now for one more machine: asks at once. Resolves with what came of it. */
  askAgain(): Promise<LeaseState> {
    const answered = new Promise<LeaseState>((resolve) => {
      const stop = this.onState((state) => {
        stop();
        resolve(state);
      });
    });
    this.wake?.();
    return answered;
  }

  /** As `close`, but resolves when the service has the lease back. */
  async handBack(): Promise<void> {
    const { online } = this;
    const released = online?.connection.request("release", { epoch: online.epoch }, this.timing.requestMs);
    await released?.catch(() => undefined); // it runs out
    this.online = undefined;
    this.close();
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
      if (error instanceof Expected && error.code === "lease_held") this.lose(holderIn(error.details));
      else online.connection.abandon("the lease could not be renewed");
    }
  }

  private async live(): Promise<void> {
    while (!this.closing) {
      if (this.current.kind === "lost") {
        await this.sleep(undefined);
        continue;
      }
      const connection = new Connection(this.options.openSocket, this.options.url, this.timing.openMs);
      this.connection = connection;
      connection.onChunk = (outcome) => this.onChunk(outcome);
      connection.onHeard = () => this.heard();
      connection.onNotice = (notice) => this.noticed(connection, notice);
      connection.onScreen = (frame) => {
        if (this.watching) this.onScreen(frame);
      };
      this.followHints(connection);
      try {
        await connection.opened;
        await this.obtain(connection);
        this.renewWhile(connection);
      } catch {
        connection.abandon("no lease");
      }
      const code = await connection.closed;
      this.online = undefined;
      this.closedBytes += connection.sentBytes;
      if (this.connection === connection) this.connection = undefined;
      if (this.closing) return;
      this.afterClose(code);
      const { kind } = this.state;
      if (kind === "ended") return;
      if (kind !== "lost") await this.sleep(this.delay(this.attempt++, code));
    }
  }

  /** Resolves when the lease is ours on this connection; waits while somebody else has it. */
  private async obtain(connection: Connection): Promise<void> {
    let over = false;
    void connection.closed.then(() => {
      over = true;
      this.wake?.();
    });
    for (;;) {
      try {
        const force = this.wanted !== undefined && (await this.mayForce(connection));
        await this.lease(connection, force);
        return;
      } catch (error) {
        if (!(error instanceof Expected)) throw error;
        if (error.code === NO_ROOM) {
          this.wanted = undefined;
          this.setState(tenantFull(error));
        } else if (error.code === "lease_held") this.isHeld(error);
        else throw error;
        this.attempt = 0;
      }
      const { askMs, fullMs, heldMs } = this.timing;
      await this.sleep(this.wanted ? askMs : this.current.kind === "full" ? fullMs : heldMs);
      if (over || this.closing) throw new ConnectionLost("closed while waiting for the lease");
    }
  }

  /** Throws `refusal` when that means that the lease we had is lost. */
  private isHeld(refusal: Expected): void {
    const by = holderIn(refusal.details);
    if (this.hadLease && !this.wanted) {
      this.lose(by);
      throw refusal;
    }
    // While it is wanted, somebody else was quicker: they are asked in turn.
    if (this.wanted || isHeldBy(this.current, by)) return;
    this.setState({ kind: "held", ...by });
    if (this.watching) this.tellWatching();
  }

  /** Asks the holder for the lease until it is free (false), or they are silent or are not to be waited for (true). */
  private async mayForce(connection: Connection): Promise<boolean> {
    for (;;) {
      if (this.wanted === "now") return true;
      const { session } = this.options;
      const answer = await connection.request("ask", { session }, this.timing.requestMs);
      if (answer["state"] === "free") return false;
      if (answer["state"] === "silent") return true;
      const saving = answer["state"] === "saving";
      if (this.current.kind !== "asking" || this.current.saving !== saving)
        this.setState({ kind: "asking", saving });
      await this.sleep(this.timing.askMs);
    }
  }

  private afterClose(code: number): void {
    if (code === CLOSE.takenOver && !this.wanted) this.lose(this.takenBy ?? holderIn({}));
    else if (code === CLOSE.notFound)
      this.finish("not_found", "This machine does not exist, or it is not yours any more.");
    else if (code === CLOSE.signedOut)
      this.finish("signed_out", "You are signed out. Sign in again to save your work.");
    else if (this.current.kind !== "lost" && this.current.kind !== "asking") {
      const since = this.current.kind === "connecting" ? this.current.since : Date.now();
      this.setState({ kind: "connecting", attempt: this.attempt + 1, since });
    }
  }

  private finish(code: "signed_out" | "not_found", message: string): void {
    this.setState({ kind: "ended", code, message });
  }

  private lose(by: Holder): void {
    this.online = undefined;
    this.setState({ kind: "lost", message: takenOver(by), by });
    this.connection?.abandon("lease lost");
  }

  private async lease(connection: Connection, takeOver: boolean): Promise<void> {
    const body = { session: this.options.session, take_over: takeOver };
    const answer = (await connection.request("lease", body, this.timing.requestMs)) as unknown as LeaseAnswer;
    connection.grantCredit(answer.credit);
    this.attempt = 0;
    this.hadLease = true;
    this.wanted = undefined;
    this.watching = false; // for the service, too
    this.takenBy = undefined;
    this.online = { connection, epoch: answer.epoch };
    this.setState({ kind: "online", epoch: answer.epoch, head: answer.head });
  }

  private renewWhile(connection: Connection): void {
    const every = this.options.every ?? byTimer;
    void connection.closed.then(every(() => this.askStillOurs(connection), this.timing.renewMs));
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
      if (hint === "head" && !missed) return;
      if (this.online) this.askStillOurs(connection);
      else this.wake?.(); // it may be free now
    };
  }

  private noticed(connection: Connection, notice: Notice): void {
    if (this.online?.connection !== connection) return;
    switch (notice.notice) {
      case "asked":
        return this.onAsked(notice.by);
      case "taken_over":
        this.takenBy = notice.by;
        return;
      case "watched":
        this.onWatched(notice.fresh);
    }
  }

  private tellWatching(): void {
    const { kind } = this.current;
    if (kind === "held" || kind === "asking")
      this.connection?.tell("watch", { on: this.watching, fresh: this.watching });
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
