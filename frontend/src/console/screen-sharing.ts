/** The terminal as others see it, while we have the machine; and as whoever has it sees it, while we watch. */

import type { SyncClient } from "../sync/client";
import { Relay, Watcher } from "../sync/watch";
import type { SessionTerminal } from "./model";

export class ScreenSharing {
  private readonly relay: Relay;
  private watcher: Watcher | undefined;

  constructor(
    private readonly terminal: SessionTerminal,
    private readonly sync: () => SyncClient,
  ) {
    this.relay = new Relay({
      screen: (mostBytes) => terminal.serialize(mostBytes),
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

  /** The terminal was written to, or (without bytes) has become another. */
  output(bytes?: Uint8Array): void {
    this.relay.output(bytes);
  }

  watch(on: boolean): void {
    this.stop();
    const sync = this.sync();
    if (on) {
      const watcher = new Watcher({
        show: (bytes, whole) => {
          if (whole) this.terminal.restore(bytes, true);
          else this.terminal.write(bytes);
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
