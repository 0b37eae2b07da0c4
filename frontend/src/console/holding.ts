/** Who has the VM: this session's lease, and what stands in the way of going on when it is not ours. */

import { SyncClient, type LeaseState } from "../sync/client";
import type { Conflict, SessionOptions } from "./model";

export interface HoldingEvents {
  /** The lease is ours (again); a conflict of before is over. */
  online(): void;
  /** There is a conflict now. */
  conflict(): void;
  /** Somebody asks for the lease: `giveUp` is what to do. */
  asked(by: string): void;
  /** Somebody watches, and may need a whole screen. */
  watched(fresh: boolean): void;
  changed(): void;
  /** A save is under way: the VM's head may be that save. */
  saving(): boolean;
}

export class Holding {
  conflict: Conflict | undefined;
  /** The snapshot that the machine here started from or was last saved as (null: none); undefined before it is known. */
  head: string | null | undefined;
  /** The machine was saved before the lease was given to whoever asked for it. */
  savedBefore = false;
  private client: SyncClient;

  constructor(
    private readonly options: SessionOptions,
    private readonly events: HoldingEvents,
  ) {
    this.client = this.connect();
  }

  get sync(): SyncClient {
    return this.client;
  }

  /** Whether the VM's head is not what this machine started from. */
  get headMoved(): boolean {
    const { state } = this.client;
    return (
      state.kind === "online" && this.head !== undefined && !this.events.saving() && state.head !== this.head
    );
  }

  /** Signed out is no reason to stop: the work goes on and is saved after signing in. */
  get mustStandStill(): boolean {
    return this.conflict !== undefined && this.conflict.kind !== "signed_out";
  }

  checkHead(): void {
    if (this.headMoved) this.setConflict({ kind: "head_moved" });
  }

  setConflict(conflict: Conflict): void {
    this.conflict = conflict;
    this.events.conflict();
    this.events.changed();
  }

  /** Takes the lease from whoever has it: they are asked first (`now`: not even that). */
  async takeOver(now: boolean): Promise<void> {
    await this.client.takeOver(now);
  }

  /** Connects again after signing in elsewhere. */
  reconnect(): void {
    this.client.close();
    this.conflict = undefined;
    this.client = this.connect();
    this.events.changed();
  }

  /** A client for another VM, in the name of the same run. */
  newSync(vm: string): SyncClient {
    const { session, openSocket, timing, every } = this.options;
    return new SyncClient({
      url: this.options.socketUrl(vm),
      session,
      openSocket,
      ...(timing ? { timing } : {}),
      ...(every ? { every } : {}),
    });
  }

  private connect(): SyncClient {
    const sync = this.newSync(this.options.vm);
    sync.onState((state) => {
      if (sync === this.client) this.stateChanged(state);
    });
    sync.onAsked = (by) => this.events.asked(by);
    sync.onWatched = (fresh) => this.events.watched(fresh);
    return sync;
  }

  private stateChanged(state: LeaseState): void {
    switch (state.kind) {
      case "online":
        this.conflict = undefined;
        this.savedBefore = false;
        this.events.online();
        break;
      case "held": {
        const { holder, since, yours } = state;
        this.setConflict({ kind: "held", holder, since, yours, asking: false, saving: false });
        break;
      }
      case "full":
        this.setConflict({ kind: "full", sessions: state.sessions, most: state.most });
        break;
      case "asking": {
        const by = this.conflict?.kind === "held" ? this.conflict : { holder: "", since: "", yours: false };
        this.setConflict({ ...by, kind: "held", asking: true, saving: state.saving });
        break;
      }
      case "lost":
        this.setConflict({ kind: "lost", message: state.message, saved: this.savedBefore });
        break;
      case "ended":
        if (state.code !== "closed") this.setConflict({ kind: state.code });
        break;
      case "connecting":
        this.events.changed();
    }
  }
}
