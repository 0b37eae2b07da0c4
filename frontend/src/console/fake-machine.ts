/** A machine for the tests of the session: does what it is told at once, and lets the test play the guest. */

import type {
  ClientEvents,
  MachineClient,
  MachineStats,
  PreparedRound,
  PreparedSave,
  SaveOptions,
  Started,
} from "../machine/client";
import { Emitter } from "../machine/emitter";
import type { MachineKind, MachineState } from "../machine/machine";

export class FakeMachine extends Emitter<ClientEvents> implements MachineClient {
  kind: MachineKind = "pc";
  terminals = 1;
  readonly agentLines: string[] = [];
  readonly typed: string[] = [];
  /** What was typed into the terminals behind the first, as `<number>: <text>`. */
  readonly typedElsewhere: string[] = [];
  readonly calls: string[] = [];
  started: Started = { resumed: true, extra: false };
  /** The screen that a resumed memory carries. */
  screen: Uint8Array | undefined;
  failStart: Error | undefined;
  failSave: Error | undefined;
  state: MachineState = "loading";
  parent: string | null = null;
  savedExtra: string | undefined;
  /** What the agent answers when it is asked to trim; undefined: nothing. */
  trims: string | undefined = "ok trim";
  private dirtyBlocks = 0;
  private saves = 0;

  become(state: MachineState, message?: string): void {
    this.state = state;
    this.emit("state", state, message);
  }

  prints(text: string, terminal = 0): void {
    this.emit("console", new TextEncoder().encode(text), terminal);
  }

  agentSays(line: string): void {
    this.emit("agent", new TextEncoder().encode(`${line}\n`));
  }

  async start(): Promise<Started> {
    this.calls.push("start");
    await Promise.resolve();
    if (this.failStart) throw this.failStart;
    if (this.screen) this.emit("extra", this.screen);
    this.become("running");
    return this.started;
  }

  async pause(): Promise<void> {
    this.calls.push("pause");
    this.become("paused");
  }

  async run(): Promise<void> {
    this.calls.push("run");
    this.become("running");
  }

  async restart(): Promise<void> {
    this.calls.push("restart");
    this.become("loading");
    await Promise.resolve();
    this.become("running");
  }

  async retryDisk(): Promise<void> {
    this.calls.push("retryDisk");
    this.become("running");
  }

  /** The frames that were made for saves. */
  readonly frames: string[] = [];

  async prepareSave(options: SaveOptions = {}): Promise<PreparedSave> {
    if (this.failSave) throw this.failSave;
    const extra = await options.extra?.();
    this.savedExtra = new TextDecoder().decode(extra);
    const root = (kind: number): string => (16 * ++this.saves + kind).toString(16).padStart(64, "0");
    const [diskRoot, memoryRoot] = [root(1), root(2)];
    return {
      parentSnapshot: this.parent,
      diskRoot,
      memoryRoot,
      chunks: [diskRoot, memoryRoot].map((digest) => ({ digest, rawSize: 4096 })),
      frame: async (digest) => {
        this.frames.push(digest);
        return new TextEncoder().encode(digest);
      },
      pausedMs: 5,
      preparedMs: 50,
      dirtyBlocks: 3,
      changedPages: 4,
      packedBytes: 8192,
      reusedBytes: 0,
      thumbnail: null,
      committed: async (snapshot) => {
        this.calls.push(`committed ${snapshot}`);
        this.parent = snapshot;
        this.dirtyBlocks = 0;
      },
      discard: async () => {
        this.calls.push("discard");
      },
    };
  }

  /** What a round would send ahead, if anything. */
  ahead: string[] = [];
  instructions = 0;

  async prepareRound(): Promise<PreparedRound | undefined> {
    this.calls.push("round");
    if (this.ahead.length === 0) return undefined;
    return {
      chunks: this.ahead.map((digest) => ({ digest, rawSize: 4096 })),
      frame: async (digest) => new TextEncoder().encode(digest),
      discard: async (stored = []) => void this.calls.push(`sent ahead ${new Set(stored).size}`),
    };
  }

  sendConsole(bytes: Uint8Array, terminal = 0): void {
    const text = new TextDecoder().decode(bytes);
    if (terminal === 0) this.typed.push(text);
    else this.typedElsewhere.push(`${terminal}: ${text}`);
  }

  sendAgent(line: string): void {
    this.agentLines.push(line);
    if (line === "trim") this.calls.push(line);
    if (line === "trim" && this.trims) this.agentSays(this.trims);
  }

  sendKey(): void {}
  sendMouse(): void {}
  watchScreen(): void {}

  async stats(): Promise<MachineStats> {
    const disk = { readBytes: 0, writtenBytes: 0, dirtyBlocks: this.dirtyBlocks, readsWaiting: 0 };
    return {
      traffic: {} as MachineStats["traffic"],
      phases: {},
      disk,
      cache: { chunks: 0, bytes: 0 },
      instructions: this.instructions,
    };
  }

  /** The guest writes to its disk. */
  writes(blocks: number): void {
    this.dirtyBlocks += blocks;
    this.emit("disk", { read: 0, written: 4096 * blocks, dirtyBlocks: this.dirtyBlocks, waiting: false });
  }

  async destroy(): Promise<void> {
    this.calls.push("destroy");
  }
}
