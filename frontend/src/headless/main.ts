/**
 * Boots a disk image in the emulator under Node, finishes its configuration, takes the warm snapshot and records the boot
 * trace. Used by the publishing pipeline:
 *
 *     node frontend/dist-node/headless.js <spec.json>
 *
 * The spec:
 *
 *     {"machine": {"kind": "pc", "memory_mib", "vga_memory_mib", "cmdline"} or {"kind": "linux", "memory_mib", "terminals"},
 *      "disk": path of the raw image, changed in place,
 *      "bios", "vga_bios", "kernel", "initrd": paths, of a pc only,
 *      "prompt": regular expression that the serial console shows when the machine is up,
 *      "configure": [shell commands run through the guest's agent, in order],
 *      "settle": [commands just before the warm snapshot],
 *      "rehearse": [commands that people are likely to run first, for the read trails],
 *      "out": directory for the outputs, "timeout_s": for everything}
 *
 * Standard output is JSON lines: {type: "step", name, …}, {type: "console", text}, {type: "agent", text},
 * {type: "progress", done, total} (steps), {type: "error", step, message}, {type: "done"}. Exit status 0 only after "done".
 *
 * Outputs in `out`, complete when "done" was written: `memory.numbers` (u32 little endian, ascending), `memory.blocks` (4 KiB each, in
 * that order), `trace.json` (256 KiB chunk numbers of the disk in order of first read by a cold boot), `warm.json` (those that
 * the resumed prompt read until it had answered), `trails.json` (for each of `rehearse`, the chunk numbers that it read first, in that order), `result.json`
 * ({times: {step: ms}, capture: {paused_ms, blocks}, versions: {emulator, node, layout}}).
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Firmware, type MachineConfig, messageOf, type SparseBlocks } from "../machine/machine";
import { endProcess } from "../../engine/headless/ending.ts";
import { LAYOUT as LINUX_LAYOUT } from "../../engine/linux/state/state.ts";
import { LinuxMachine } from "../machine/linux/linux";
import { Pc } from "../machine/pc/pc";
import { LAYOUT_VERSION } from "../machine/pc/state";
import { runsOf } from "../machine/sparse";
import { FileDisk } from "./file-disk";
import { Guest, type PatientMachine } from "./guest";

interface Spec {
  machine: MachineConfig;
  disk: string;
  bios?: string;
  vga_bios?: string;
  kernel?: string;
  initrd?: string;
  prompt: string;
  configure: string[];
  settle: string[];
  rehearse: string[];
  out: string;
  timeout_s: number;
}

const STEPS = ["boot", "configure", "settle", "snapshot", "resume", "rehearse", "trace"] as const;
type Step = (typeof STEPS)[number];

/** The guest has nothing more to say when its console was quiet for so long, ms. */
const QUIET = 500;
/** A resumed machine must answer within this time, ms. */
const RESUME_TIMEOUT = 30_000;

/** Makes machines of the spec's kind. */
interface MachineMaker {
  make(disk: FileDisk): PatientMachine;
  versions: { emulator: string; layout: number };
}

function makerOf(spec: Spec): MachineMaker {
  const config = spec.machine;
  const here = dirname(fileURLToPath(import.meta.url));
  const wasmOf = (name: string): WebAssembly.Module => new WebAssembly.Module(readFileSync(join(here, name)));
  if (config.kind === "linux") {
    const wasm = wasmOf("core.wasm");
    return {
      make: (disk) => new LinuxMachine({ config, disk, wasm }),
      versions: { emulator: "linux", layout: LINUX_LAYOUT },
    };
  }
  const wasm = wasmOf("v86.wasm");
  const part = (name: "bios" | "vga_bios" | "kernel" | "initrd"): Uint8Array => {
    const path = spec[name];
    if (path === undefined) throw new Error(`the spec of a pc lacks "${name}"`);
    return readFileSync(path);
  };
  const kernel = part("kernel");
  const initrd = part("initrd");
  const firmware: Firmware = {
    bios: part("bios"),
    vgaBios: part("vga_bios"),
    loadKernel: async () => ({ kernel, initrd }),
  };
  return {
    make: (disk) => new Pc({ config, firmware, disk, wasm }),
    versions: { emulator: `v86 ${__V86_VERSION__}`, layout: LAYOUT_VERSION },
  };
}

function report(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

class Run {
  step: Step = "boot";
  private readonly times: Record<string, number> = {};
  private readonly deadline: number;
  private readonly prompt: RegExp;
  private readonly made: MachineMaker;

  constructor(private readonly spec: Spec) {
    this.deadline = performance.now() + spec.timeout_s * 1000;
    this.made = makerOf(spec);
    this.prompt = new RegExp(spec.prompt);
    mkdirSync(spec.out, { recursive: true });
  }

  async all(): Promise<void> {
    const { memory, pausedMs } = await this.prepare();
    const { warm, trails } = await this.resume(memory);
    const trace = await this.timed("trace", () => this.traceBoot());
    const write = (name: string, data: string | Uint8Array): void =>
      writeFileSync(join(this.spec.out, name), data);
    write(
      "memory.numbers",
      new Uint8Array(memory.numbers.buffer, memory.numbers.byteOffset, memory.numbers.byteLength),
    );
    write("memory.blocks", memory.data);
    write("trace.json", JSON.stringify(trace));
    write("warm.json", JSON.stringify(warm));
    write("trails.json", JSON.stringify(trails));
    write(
      "result.json",
      JSON.stringify({
        times: this.times,
        capture: { paused_ms: Math.round(pausedMs), blocks: memory.numbers.length },
        versions: { ...this.made.versions, node: process.version },
      }),
    );
  }

  /** First boot, on the disk itself: configuration and warm snapshot. */
  private async prepare(): Promise<{ memory: SparseBlocks; pausedMs: number }> {
    const disk = new FileDisk(this.spec.disk, false);
    const guest = this.guest(disk);
    await this.timed("boot", async () => {
      await guest.machine.boot();
      await guest.waitForConsole(this.prompt, "the prompt");
    });
    await this.timed("configure", () => this.commands(guest, this.spec.configure));
    await this.timed("settle", () => this.commands(guest, this.spec.settle));
    return this.timed("snapshot", async () => {
      await guest.waitForQuiet(QUIET);
      const { memory, pausedMs } = await guest.machine.capture();
      // Nothing may reach the disk any more: it belongs to the memory just captured.
      await guest.machine.destroy();
      disk.close();
      report({ type: "step", name: "captured", blocks: memory.numbers.length, bytes: memory.data.length });
      return { memory, pausedMs };
    });
  }

  /**
   * The snapshot must come to life in a machine that has seen nothing of the first, and its shell must answer. Then it runs what
   * people are likely to run, as they will: from the warm snapshot. What each command reads first is its trail.
   */
  private async resume(memory: SparseBlocks): Promise<{ warm: number[]; trails: number[][] }> {
    const disk = new FileDisk(this.spec.disk, true);
    const guest = this.guest(disk);
    await this.timed("resume", async () => {
      const started = performance.now();
      await guest.machine.resume(runsOf(memory));
      report({ type: "step", name: "resumed", ms: Math.round(performance.now() - started) });
      guest.machine.sendConsole(new TextEncoder().encode("echo resumed-$((6 * 7))\r"));
      await guest.waitForConsole(/resumed-42/, "the resumed prompt to answer", RESUME_TIMEOUT);
    });
    const warm = disk.trace.slice();
    const trails: number[][] = [];
    await this.timed("rehearse", async () => {
      for (const command of this.spec.rehearse) {
        const before = disk.trace.length;
        await this.commands(guest, [command]);
        trails.push(disk.trace.slice(before));
      }
    });
    await guest.machine.destroy();
    disk.close();
    return { warm, trails };
  }

  /**
   * The trace comes from a second cold boot, of the finished disk and without writing to it: what was configured may have
   * moved files that a boot reads, and it proves that the disk as published boots.
   */
  private async traceBoot(): Promise<number[]> {
    const disk = new FileDisk(this.spec.disk, true);
    const guest = this.guest(disk);
    await guest.machine.boot();
    await guest.waitForConsole(this.prompt, "the prompt");
    await guest.machine.destroy();
    disk.close();
    return disk.trace;
  }

  private guest(disk: FileDisk): Guest {
    const machine = this.made.make(disk);
    const output = {
      console: (text: string) => report({ type: "console", text }),
      agent: (text: string) => report({ type: "agent", text }),
    };
    return new Guest(machine, output, this.deadline);
  }

  private async commands(guest: Guest, commands: string[]): Promise<void> {
    for (const command of commands) {
      report({ type: "step", name: "command", command });
      await guest.run(command);
    }
  }

  private async timed<T>(step: Step, work: () => Promise<T>): Promise<T> {
    this.step = step;
    report({ type: "step", name: step });
    report({ type: "progress", done: STEPS.indexOf(step), total: STEPS.length });
    const started = performance.now();
    const result = await work();
    this.times[step] = Math.round(performance.now() - started);
    return result;
  }
}

async function main(): Promise<number> {
  const path = process.argv[2];
  if (!path) {
    report({ type: "error", step: "start", message: "usage: headless.js <spec.json>" });
    return 2;
  }
  let run: Run | undefined;
  try {
    run = new Run(JSON.parse(readFileSync(path, "utf8")) as Spec);
    await run.all();
  } catch (error) {
    const message = messageOf(error);
    report({ type: "error", step: run?.step ?? "start", message });
    return 1;
  }
  report({ type: "progress", done: STEPS.length, total: STEPS.length });
  report({ type: "done" });
  return 0;
}

main().then(endProcess, (error: unknown) => {
  console.error(error);
  process.exit(1);
});
