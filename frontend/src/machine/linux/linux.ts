/** The Linux machine: our own engine behind the `Machine` interface. Runs in a Web Worker and under Node. */

import { EngineError, type Host } from "../../../engine/linux/kernel.ts";
import type { Machine as Guest } from "../../../engine/linux/machine.ts";
import { StateError } from "../../../engine/linux/state/contract.ts";
import {
  captureMachine,
  makeMachine,
  type MachineOptions,
  restoreMachine,
} from "../../../engine/linux/state/state.ts";
import type { Time } from "../../../engine/linux/types.ts";
import { Block, type Waiter } from "../../../engine/linux/wait.ts";
import { type Ext4FileSystem, settle } from "../../../engine/linux/vfs/ext4/filesystem.ts";
import { makeRoot } from "../../../engine/linux/vfs/root.ts";
import { Emitter } from "../emitter";
import {
  MachineError,
  type BlockDevice,
  type BlockMatcher,
  type BlockRun,
  type Capture,
  type CaptureOptions,
  type LinuxConfig,
  type Machine,
  type MachineEvents,
  type MachineState,
  type SparseBlocks,
  messageOf,
} from "../machine";
import { GuestAgent } from "./agent";
import { blocksOf, readerOf } from "./blocks";
import { openDisk, startInit } from "./boot";
import { GuestClock, realtime } from "./clock";
import { LinuxDisk } from "./disk";
import { ConsoleOutput } from "./output";
import { Turns } from "./turns";

/** Milliseconds that the guest runs before the host's events are looked at. */
const TURN = 8;
const LONGEST_WAIT = 0x7fffffff;
/** Crypto gives so many bytes at once. */
const MOST_RANDOM = 65536;
/** How often disk activity is told, ms. */
const ACTIVITY_EVERY = 100;
/** A machine whose init ends at once is not started again more often, ms. */
const BETWEEN_BOOTS = 1000;

export interface LinuxMachineOptions {
  config: LinuxConfig;
  disk: BlockDevice;
  /** The engine's core, compiled once. */
  wasm: WebAssembly.Module;
}

interface Live {
  guest: Guest;
  agent: GuestAgent;
  output: ConsoleOutput;
}

export class LinuxMachine extends Emitter<MachineEvents> implements Machine {
  private live: Live | undefined;
  private readonly clock = new GuestClock();
  private readonly disk: LinuxDisk;
  private state: MachineState = "loading";
  private ticking = false;
  /** Process 1 of the guest that runs has ended. */
  private initEnded = false;
  private readonly turns = new Turns(() => this.turn());
  private idle: ReturnType<typeof setTimeout> | undefined;
  private agentText = "";
  private activity = { read: 0, written: 0 };
  private activityTimer: ReturnType<typeof setTimeout> | undefined;
  private destroyed = false;

  constructor(private readonly options: LinuxMachineOptions) {
    super();
    this.disk = new LinuxDisk(options.disk, {
      read: (bytes) => this.count("read", bytes),
      written: (bytes) => this.count("written", bytes),
      failed: (error) => this.stopOnDisk(error),
      changed: () => {
        this.reportActivity();
        // Behind what the read's own promise does.
        setTimeout(() => this.kick(), 0);
      },
    });
  }

  async boot(): Promise<void> {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
    const now = (): Time => realtime();
    this.clock.continueFrom(0);
    const fs = await openDisk(this.disk, now, seed);
    const options = this.machineOptions;
    const root = (): Ext4FileSystem => fs;
    const guest = await settle(() => makeMachine(makeRoot({ now, root, source: "/dev/vda" }), options));
    await startInit(guest);
    if (this.destroyed) throw new MachineError("machine_gone", "The machine was switched off.");
    this.attach(guest);
    this.start();
  }

  async resume(memory: Iterable<BlockRun> | Promise<Iterable<BlockRun>>): Promise<void> {
    const read = readerOf(await memory);
    try {
      this.attach(restoreMachine(this.machineOptions, read));
    } catch (error) {
      throw machineError(error);
    }
    this.start();
  }

  async pause(): Promise<void> {
    if (this.state !== "running") return;
    this.halt();
    this.setState("paused");
  }

  async run(): Promise<void> {
    if (this.state === "paused") this.start();
  }

  async restart(): Promise<void> {
    if (!this.live) return;
    this.halt();
    this.flush();
    const { vfs, io } = this.live.guest;
    this.live = undefined;
    this.setState("loading");
    try {
      await settle(() => vfs.sync());
      await new Promise((resolve) => setTimeout(resolve, BETWEEN_BOOTS));
      if (this.destroyed) return;
      await this.boot();
      // Whoever looks at a terminal does not tell its size again.
      this.mustLive.guest.io.consoles.forEach((console, terminal) =>
        console.resize(io.consoles[terminal]!.window),
      );
    } catch (error) {
      this.setState("error", `The machine could not be started again: ${messageOf(error)}`);
    }
  }

  async retryDisk(): Promise<void> {
    if (this.state !== "stopped-on-disk") return;
    await this.disk.retry();
    if (this.disk.failure !== undefined || this.destroyed) return;
    if (this.live) this.start();
    else this.setState("loading");
  }

  async capture({ matches = () => false, frozen }: CaptureOptions = {}): Promise<Capture> {
    for (;;) {
      const { failure } = this.disk;
      if (failure !== undefined) {
        throw new MachineError("disk_error", `A disk read has not been answered: ${messageOf(failure)}`);
      }
      const started = performance.now();
      try {
        // From here to the end of the copying nothing else runs: between two turns the machine stands still.
        const blocks = captureMachine(this.whole);
        this.flush();
        frozen?.();
        const { changed, matched } = blocksOf(blocks, matches);
        const disk = this.options.disk.freeze();
        return { memory: changed, matched, disk, thumbnail: null, pausedMs: performance.now() - started };
      } catch (error) {
        if (!(error instanceof Block)) throw machineError(error);
        await arrival(error);
      }
    }
  }

  get instructions(): number {
    return (this.live?.guest.kernel.scheduler.instructions ?? 0) % 2 ** 32;
  }

  async survey(matches: BlockMatcher, mostBlocks: number): Promise<SparseBlocks> {
    const memoryBlocks = this.options.config.memory_mib * 256;
    try {
      const blocks = captureMachine(this.whole).filter(({ number }) => number < memoryBlocks);
      return blocksOf(blocks, matches, mostBlocks).changed;
    } catch (error) {
      if (!(error instanceof Block)) throw machineError(error);
      // Its files wait for the disk: the next round will see them.
      return { numbers: new Uint32Array(0), data: new Uint8Array(0) };
    }
  }

  sendConsole(bytes: Uint8Array, terminal = 0): void {
    this.live?.guest.io.consoles[terminal]?.input(bytes);
    this.kick();
  }

  sendAgent(line: string): void {
    this.sendAgentText(`${line}\n`);
  }

  /** A piece of a line. */
  sendAgentText(text: string): void {
    const lines = (this.agentText + text).split("\n");
    this.agentText = lines.pop()!;
    for (const line of lines) this.live?.agent.line(line);
    this.kick();
  }

  sendKey(): void {}

  sendMouse(): void {}

  watchScreen(): void {}

  async destroy(): Promise<void> {
    this.halt();
    this.destroyed = true;
    clearTimeout(this.activityTimer);
    this.turns.close();
    this.live = undefined;
  }

  /** What can be saved: not what an error has left half done. */
  private get whole(): Guest {
    if (this.state === "error")
      throw new MachineError("machine_gone", "The machine has stopped with an error and cannot be saved.");
    return this.mustLive.guest;
  }

  private get mustLive(): Live {
    if (!this.live) throw new MachineError("machine_gone", "The machine is switched off.");
    return this.live;
  }

  private get machineOptions(): MachineOptions {
    const { config, wasm } = this.options;
    return {
      host: this.host,
      module: wasm,
      memoryMib: config.memory_mib,
      terminals: config.terminals,
      hostObjects: { disk: this.disk },
    };
  }

  private readonly host: Host = {
    monotonic: () => this.clock.now(),
    realtime,
    random: (into) => {
      for (let at = 0; at < into.length; at += MOST_RANDOM) {
        crypto.getRandomValues(into.subarray(at, at + MOST_RANDOM) as Uint8Array<ArrayBuffer>);
      }
    },
    log: (message) => this.print(0, `${message}\r\n`),
    continueFrom: (nanoseconds) => this.clock.continueFrom(nanoseconds),
  };

  private attach(guest: Guest): void {
    const agent = new GuestAgent(guest, (line) => this.emit("agent", new TextEncoder().encode(`${line}\n`)));
    this.live = { guest, agent, output: new ConsoleOutput(guest.io.consoles) };
    this.initEnded = false;
    guest.kernel.onProcessEnd = (process) => {
      agent.processEnded(process);
      if (process.pid === 1) this.initEnded = true;
    };
  }

  private start(): void {
    this.clock.run();
    this.ticking = true;
    this.setState("running");
    this.kick();
  }

  private halt(): void {
    this.clock.stop();
    this.ticking = false;
    clearTimeout(this.idle);
  }

  /** The guest may have something to do. */
  private kick(): void {
    if (!this.ticking) return;
    clearTimeout(this.idle);
    this.turns.request();
  }

  private turn(): void {
    if (!this.ticking || !this.live) return;
    const { output, guest } = this.live;
    const { kernel } = guest;
    output.letGo();
    try {
      kernel.step(TURN);
    } catch (error) {
      this.halt();
      this.flush();
      const report = error instanceof EngineError ? error.message : String((error as Error).stack ?? error);
      this.setState("error", `The engine has stopped, because it is wrong somewhere: ${report}`);
      return;
    }
    this.flush();
    if (this.initEnded) {
      this.print(0, "\r\nThe machine has stopped; it is started again.\r\n");
      return void this.restart();
    }
    if (!this.ticking) return;
    const untilOutput = output.letGo();
    if (kernel.runnable) return this.kick();
    const untilTimer = (kernel.nextTimer - kernel.monotonic()) / 1e6;
    const wait = Math.ceil(Math.min(untilTimer, untilOutput));
    if (wait !== Infinity)
      this.idle = setTimeout(() => this.kick(), Math.max(0, Math.min(LONGEST_WAIT, wait)));
  }

  private print(terminal: number, text: string): void {
    this.live?.output.add(terminal, new TextEncoder().encode(text));
  }

  /** Tells what the guest has written since the last time. */
  private flush(): void {
    if (!this.live) return;
    for (const { terminal, bytes } of this.live.output.take()) this.emit("console", bytes, terminal);
  }

  private setState(state: MachineState, message?: string): void {
    this.state = state;
    this.emit("state", state, message);
  }

  private stopOnDisk(problem: unknown): void {
    if (this.destroyed || this.state === "error") return;
    this.halt();
    this.setState("stopped-on-disk", messageOf(problem));
  }

  private count(kind: "read" | "written", bytes: number): void {
    this.activity[kind] += bytes;
    this.reportActivity();
  }

  private reportActivity(): void {
    this.activityTimer ??= setTimeout(() => {
      this.activityTimer = undefined;
      const { read, written } = this.activity;
      this.activity = { read: 0, written: 0 };
      const { dirtyBlocks } = this.options.disk;
      this.emit("disk", { read, written, dirtyBlocks, waiting: this.disk.busy });
    }, ACTIVITY_EVERY);
  }
}

/** Resolves when what the call waits for may have come. */
async function arrival({ queues }: Block): Promise<void> {
  let waiter: Waiter | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  await new Promise<void>((resolve) => {
    waiter = { woken: () => resolve() };
    for (const queue of queues) queue.add(waiter);
    // A read that failed wakes nobody.
    timer = setTimeout(resolve, 200);
  });
  clearTimeout(timer);
  // What waits is part of the machine, this is not.
  for (const queue of queues) queue.remove(waiter!);
}

function machineError(error: unknown): unknown {
  return error instanceof StateError ? new MachineError(error.code, error.message, { cause: error }) : error;
}
