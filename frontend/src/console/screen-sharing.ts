/** The terminal that the person sees as others see it, while we have the machine; and as whoever has it sees it, while we watch. */

import type { SyncClient } from "../sync/client";
import { Relay, Watcher } from "../sync/watch";
import type { SessionTerminals } from "./model";

export class ScreenSharing {
  private readonly relay: Relay;
  private watcher: Watcher | undefined;

  constructor(
    private readonly terminals: SessionTerminals,
    private readonly sync: () => SyncClient,
  ) {
    this.relay = new Relay({
      screen: (mostBytes) => terminals.serializeShown(mostBytes),
      send: (frame) => sync().show(frame),
    });
  }

  /** We show what somebody else sees. */
  get watching(): boolean {
    return this.watcher !== undefined;
  }

  /** Somebody watches us, and may need a whole screen. */
  watched(fresh: boolean): void {
    this.relay.watched(fresh);
  }

  /** A terminal was written to. */
  output(bytes: Uint8Array, terminal: number): void {
    if (terminal === this.terminals.shown) this.relay.output(bytes);
  }

  /** Another terminal is shown, or it has another size or screen. */
  changed(): void {
    this.relay.output();
  }

  watch(on: boolean): void {
    this.stop();
    const sync = this.sync();
    if (on) {
      let seen = 0; // the terminal of the last whole frame
      const watcher = new Watcher({
        show: (bytes, whole) => {
          if (whole) [seen = 0] = this.terminals.restore(bytes, true);
          else this.terminals.write(bytes, seen);
        },
        askWhole: () => sync.watch(true),
        acknowledge: (count) => sync.acknowledge(count),
      });
      this.watcher = watcher;
      sync.onScreen = (frame) => watcher.receive(frame);
    }
    sync.watch(on);
  }

  /** The machine is ours now, or everything ends: there is nobody to tell. */
  stop(): void {
    this.watcher?.close();
    this.watcher = undefined;
  }

  close(): void {
    this.stop();
    this.relay.close();
  }
}
