/** The PC: v86 behind the `Machine` interface. Runs in a Web Worker and under Node. */

import { Emitter } from "../emitter";
import {
  BLOCK,
  MachineError,
  type BlockMatcher,
  type BlockDevice,
  type BlockRun,
  type Capture,
  type CaptureOptions,
  type Firmware,
  type Machine,
  type MachineEvents,
  type MachineState,
  type PcConfig,
  type SparseBlocks,
  messageOf,
} from "../machine";
import { joinSparse } from "../sparse";
import { captureMemory, loadMemory, surveyMemory } from "./memory";
import { DiskPort } from "./disk-port";
import { scanCodes } from "./keys";
import { Screen } from "./screen";
import { encodeState } from "./state";
import { picturePng } from "./thumbnail";
import { createEmulator, type Emulator } from "./v86";

/**
 * After this long without an answer from the disk the processor stops until there is one: Linux resets a disk that is
 * silent for 30 s and may then report errors to programs.
 */
const PATIENCE = 10_000;

/** A survey works for so long at once, and rests for so long between, ms. */
const SLICE = 2;
const BETWEEN_SLICES = 6;

/** Console bytes are handed on in batches, so that a busy guest costs one message per few milliseconds, not per byte. */
const BATCH = 8;

/** Where v86 puts the initrd. */
const INITRD_AT = 64 << 20;

export interface PcOptions {
  config: PcConfig;
  firmware: Firmware;
  disk: BlockDevice;
  /** v86's wasm, compiled once. */
  wasm: WebAssembly.Module;
}

export class Pc extends Emitter<MachineEvents> implements Machine {
  private emulator: Emulator | undefined;
  private screen: Screen | undefined;
  private readonly port: DiskPort;
  private state: MachineState = "loading";
  private watched = false;
  private activity = { read: 0, written: 0 };
  private activityTimer: ReturnType<typeof setTimeout> | undefined;
  private patienceTimer: ReturnType<typeof setTimeout> | undefined;
  /** Whether the processor stands still for the disk while the machine counts as running. */
  private held = false;
  private ticking = false;
  /** Emit the output that is still being collected. */
  private flushes: (() => void)[] = [];

  constructor(private readonly options: PcOptions) {
    super();
    this.port = new DiskPort(options.disk, {
      read: (bytes) => this.count("read", bytes),
      written: (bytes) => this.count("written", bytes),
      failed: (error) => this.stopOnDisk(error),
      waiting: (yes) => this.diskWaiting(yes),
    });
  }

  async boot(): Promise<void> {
    const { kernel, initrd } = await this.options.firmware.loadKernel();
    const { config } = this.options;
    if (this.size.ramBytes < INITRD_AT + initrd.length) {
      throw new MachineError(
        "firmware",
        `A machine of ${config.memory_mib} MiB is too small to boot: its initrd does not fit.`,
      );
    }
    // v86 writes the boot header into the kernel's image, so it gets copies.
    await this.create({
      bzimage: { buffer: copy(kernel) },
      initrd: { buffer: copy(initrd) },
      cmdline: config.cmdline,
    });
    await this.start();
  }

  async resume(memory: Iterable<BlockRun> | Promise<Iterable<BlockRun>>): Promise<void> {
    const [runs] = await Promise.all([memory, this.create({})]);
    loadMemory(this.live.v86.cpu, runs, this.size);
    await this.start();
  }

  async pause(): Promise<void> {
    if (this.state !== "running") return;
    await this.halt();
    this.setState("paused");
  }

  async run(): Promise<void> {
    if (this.state !== "paused") return;
    await this.start();
  }

  async restart(): Promise<void> {
    if (!this.emulator) return;
    this.setState("loading");
    try {
      await this.port.idle();
      await this.destroy();
      await this.boot();
    } catch (error) {
      this.setState("error", `The machine could not be started again: ${messageOf(error)}`);
    }
  }

  async retryDisk(): Promise<void> {
    if (this.state !== "stopped-on-disk") return;
    await this.port.retry();
    if (this.port.failure === undefined && !this.port.busy) await this.start();
  }

  async capture({ matches, frozen }: CaptureOptions = {}): Promise<Capture> {
    await this.settled();
    // From here to the end of the copying nothing else runs: between two of its ticks the processor stands still.
    const started = performance.now();
    for (const flush of this.flushes) flush();
    frozen?.();
    const cpu = this.live.v86.cpu;
    const state = encodeState(cpu, this.size);
    const { memory, matched } = captureMemory(cpu, state, this.size, matches);
    const disk = this.options.disk.freeze();
    const picture = this.screen?.picture();
    const pausedMs = performance.now() - started;
    return { memory, matched, disk, thumbnail: picture ? await picturePng(picture) : null, pausedMs };
  }

  get instructions(): number {
    return this.emulator?.v86.cpu.instruction_counter[0] ?? 0;
  }

  async survey(matches: BlockMatcher, mostBlocks: number): Promise<SparseBlocks> {
    const { cpu } = this.live.v86;
    const found: SparseBlocks[] = [];
    let left = mostBlocks;
    for (let from = 0; from < this.size.ramBytes / BLOCK && left > 0;) {
      // Until the end of its slice nothing else runs in this thread; then the guest has its turn.
      const slice = surveyMemory(cpu, this.size, { matches, from, most: left, ms: SLICE });
      found.push(slice.blocks);
      left -= slice.blocks.numbers.length;
      from = slice.next;
      await new Promise((resolve) => setTimeout(resolve, BETWEEN_SLICES));
      void this.live; // rejects when the machine was switched off meanwhile
    }
    return joinSparse(found);
  }

  sendConsole(bytes: Uint8Array): void {
    for (const byte of bytes) this.emulator?.bus.send("serial0-input", byte);
  }

  sendAgent(line: string): void {
    this.sendAgentText(`${line}\n`);
  }

  /** A piece of a line, for lines that are longer than the guest's terminal takes at once. */
  sendAgentText(text: string): void {
    for (const byte of new TextEncoder().encode(text)) this.emulator?.bus.send("serial1-input", byte);
  }

  sendKey(event: { code: string; down: boolean }): void {
    for (const code of scanCodes(event.code, event.down)) this.emulator?.bus.send("keyboard-code", code);
  }

  sendMouse(event: { dx: number; dy: number; buttons: number; wheel: number }): void {
    const bus = this.emulator?.bus;
    // `buttons` as in a MouseEvent (1 left, 2 right, 4 middle); the PS/2 mouse counts up as positive.
    bus?.send("mouse-click", [
      (event.buttons & 1) !== 0,
      (event.buttons & 4) !== 0,
      (event.buttons & 2) !== 0,
    ]);
    if (event.dx || event.dy) bus?.send("mouse-delta", [event.dx, -event.dy]);
    if (event.wheel) bus?.send("mouse-wheel", [-Math.sign(event.wheel), 0]);
  }

  watchScreen(on: boolean): void {
    this.watched = on;
    this.screen?.watch(on);
  }

  async destroy(): Promise<void> {
    clearTimeout(this.activityTimer);
    clearTimeout(this.patienceTimer);
    this.screen?.watch(false);
    const emulator = this.emulator;
    this.emulator = undefined;
    this.screen = undefined;
    this.ticking = false;
    await emulator?.destroy();
  }

  private get size(): { ramBytes: number; vgaBytes: number } {
    const { memory_mib, vga_memory_mib } = this.options.config;
    return { ramBytes: memory_mib << 20, vgaBytes: vga_memory_mib << 20 };
  }

  private get live(): Emulator {
    if (!this.emulator) throw new MachineError("machine_gone", "The machine is switched off.");
    return this.emulator;
  }

  private async create(kernel: {
    bzimage?: { buffer: ArrayBuffer };
    initrd?: { buffer: ArrayBuffer };
    cmdline?: string;
  }): Promise<void> {
    const { firmware, wasm } = this.options;
    const emulator = await createEmulator({
      wasm_fn: async (imports) => (await WebAssembly.instantiate(wasm, imports)).exports,
      bios: { buffer: copy(firmware.bios) },
      vga_bios: { buffer: copy(firmware.vgaBios) },
      hda: this.port,
      memory_size: this.size.ramBytes,
      vga_memory_size: this.size.vgaBytes,
      ...kernel,
    });
    this.emulator = emulator;
    const cpu = emulator.v86.cpu;
    // The RAM goes a way of its own (memory.ts); v86 would pack and unpack all of it once more.
    cpu.pack_memory = () => ({
      packed_memory: new Uint8Array(0),
      bitmap: { get_buffer: () => new ArrayBuffer(0) },
    });
    cpu.unpack_memory = () => undefined;
    // A restart needs the kernel, which v86 does not keep: power off and boot afresh.
    cpu.reboot_internal = () => void setTimeout(() => void this.restart(), 0);
    this.connect(emulator);
    this.screen = new Screen(emulator, (update) => this.emit("screen", update));
    this.screen.watch(this.watched);
  }

  private connect(emulator: Emulator): void {
    const batch = (event: "console" | "agent"): ((byte: never) => void) => {
      let bytes: number[] = [];
      const flush = (): void => {
        const sent = bytes;
        bytes = [];
        if (sent.length === 0 || this.emulator !== emulator) return;
        if (event === "agent") this.emit("agent", Uint8Array.from(sent));
        else this.emit("console", Uint8Array.from(sent), 0);
      };
      this.flushes.push(flush);
      return (byte: number) => {
        bytes.push(byte);
        if (bytes.length === 1) setTimeout(flush, BATCH);
      };
    };
    this.flushes = [];
    emulator.add_listener("serial0-output-byte", batch("console"));
    emulator.add_listener("serial1-output-byte", batch("agent"));
  }

  /** Runs the processor. The guest's time goes on from where it stood: a jump would trip its watchdogs. */
  private async start(): Promise<void> {
    this.held = false;
    const { v86 } = this.live;
    v86.cpu.set_tsc(v86.cpu.current_tsc[0] ?? 0, v86.cpu.current_tsc[1] ?? 0);
    await this.live.run();
    this.ticking = true;
    this.setState("running");
  }

  private async halt(): Promise<void> {
    if (!this.ticking) return;
    this.ticking = false;
    const emulator = this.live;
    await emulator.stop();
    emulator.v86.cpu.store_current_tsc();
  }

  private setState(state: MachineState, message?: string): void {
    this.state = state;
    this.emit("state", state, message);
  }

  /** Waits until no disk operation is in flight; rejects when one has failed. */
  private async settled(): Promise<void> {
    for (;;) {
      if (this.port.failure !== undefined) {
        throw new MachineError(
          "disk_error",
          `A disk read has not been answered: ${messageOf(this.port.failure)}`,
        );
      }
      if (!this.port.busy) return;
      await Promise.race([this.port.idle(), new Promise((resolve) => setTimeout(resolve, 100))]);
    }
  }

  private stopOnDisk(error: unknown): void {
    const stop = async (): Promise<void> => {
      if (this.emulator) await this.halt();
      this.setState("stopped-on-disk", messageOf(error));
    };
    void stop();
  }

  private diskWaiting(yes: boolean): void {
    clearTimeout(this.patienceTimer);
    this.reportActivity();
    if (yes) {
      this.patienceTimer = setTimeout(() => {
        if (this.state !== "running" || !this.port.busy) return;
        this.held = true;
        void this.halt();
      }, PATIENCE);
    } else if (this.held && this.state === "running") void this.start();
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
      this.emit("disk", {
        read,
        written,
        dirtyBlocks: this.options.disk.dirtyBlocks,
        waiting: this.port.busy,
      });
    }, 100);
  }
}

function copy(bytes: Uint8Array): ArrayBuffer {
  return bytes.slice().buffer as ArrayBuffer;
}
