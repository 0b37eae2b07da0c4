/**
 * One run of a machine: its devices opened from chunks, the emulator, and the saves. Lives in the worker; has no DOM, so that tests run it
 * under Node.
 */

import type { ChunkCache } from "../disk/cache";
import { RemoteDisk } from "../disk/remote-disk";
import type { Fetch } from "../disk/retry";
import type { ChunkSource } from "../disk/source";
import { loadMemory, readWhole } from "./arriving";
import type {
  Blob,
  ClientEvents,
  LocateAnswer,
  LocateRequest,
  MachineStats,
  OpenDescriptor,
  Started,
} from "./client";
import { Devices } from "./devices";
import { loadEmulator } from "./emulators";
import { splitExtra } from "./extra";
import { MachineError, type Machine, type MachineEvents, type MachineKind } from "./machine";
import type { RoundSummary, SaveSummary } from "./messages";
import { memoryRuns } from "./parent-memory";
import { Saves } from "./saves";
import { loadEncoder } from "./zstd";

export interface SessionOptions {
  fetch: Fetch;
  openCache(): Promise<ChunkCache | undefined>;
  compileWasm(kind: MachineKind): Promise<WebAssembly.Module>;
  locate(request: LocateRequest): Promise<LocateAnswer>;
  /** The page's bytes for a save; see `SaveOptions` of client.ts. */
  askExtra(): Promise<Uint8Array | undefined>;
  emit<K extends keyof ClientEvents>(event: K, ...values: Parameters<ClientEvents[K]>): void;
}

/** After the machine has started, what can wait waits for so long, ms: the cache's writes, the index of known blocks. */
const SETTLING = 400;
/** Progress is told this often at most, ms: the page draws it. */
const PROGRESS_EVERY = 60;

/** What exists once the machine was started. */
interface Running {
  machine: Machine;
  disk: RemoteDisk;
  devices: Devices;
  saves: Saves;
}

export class Session {
  private running: Running | undefined;
  private lastProgress = 0;
  private readonly phases: Record<string, number> = {};
  private isRunning = false;
  private io = { readBytes: 0, writtenBytes: 0, dirtyBlocks: 0, readsWaiting: 0 };

  constructor(private readonly options: SessionOptions) {}

  async start({ descriptor, coldBoot }: { descriptor: OpenDescriptor; coldBoot: boolean }): Promise<Started> {
    const started = performance.now();
    const [cache, wasm] = await this.phase("worker", () =>
      Promise.all([this.options.openCache(), this.options.compileWasm(descriptor.machine.kind)]),
    );
    const memory = coldBoot ? null : descriptor.memory;
    const { fetch, locate } = this.options;
    const devices = new Devices({ descriptor, memory, cache, fetch, locate });
    const { source, locator, trees } = devices;
    source.holdWrites();
    const disk = new RemoteDisk(trees.disk, source, "disk");
    const trails = descriptor.image.read_trails;
    // What a boot reads is in its packs; anything ahead of that would only be in its way.
    if (memory) disk.readAhead(trails);
    const packs = memory ? undefined : loadBootPacks(source, descriptor);
    let extra: Uint8Array | undefined;
    const arriving =
      memory &&
      this.phase("memory", async () => {
        await loadMemory(source, locator, trees.memory, descriptor, (done, total) =>
          this.progress(done, total),
        );
        const parts = splitExtra(await memoryRuns(trees.memory, source), trees.memory.blocks);
        extra = parts.extra;
        if (extra) this.options.emit("extra", extra.slice());
        return parts.machine;
      });
    // Its failure is heard where it is waited for; the firmware may fail first.
    arriving?.catch(() => undefined);
    const machine = await this.make(descriptor.machine, source, disk, wasm);
    this.listen(machine);
    const saves = new Saves({
      ...{ machine, disk, devices },
      askExtra: () => this.options.askExtra(),
      isRunning: () => this.isRunning,
    });
    this.running = { machine, disk, devices, saves };
    // The emulator is built while the memory is still on its way.
    try {
      if ((await packs) === false) disk.readAhead(trails);
      await this.phase("machine", () => (arriving ? machine.resume(arriving) : machine.boot()));
    } catch (error) {
      // What came is kept: the next try begins with it.
      await source.releaseWrites();
      throw error;
    }
    this.phases.start = Math.round(performance.now() - started);
    setTimeout(() => {
      if (!memory) disk.readAhead(trails);
      void this.settle();
    }, SETTLING);
    return { resumed: memory !== null, extra: extra !== undefined };
  }

  /** The machine of that kind; the code of the other kind is not loaded. */
  private async make(
    config: OpenDescriptor["machine"],
    source: ChunkSource,
    disk: RemoteDisk,
    wasm: WebAssembly.Module,
  ): Promise<Machine> {
    if (config.kind === "linux") {
      const { LinuxMachine } = await loadEmulator("linux");
      return new LinuxMachine({ config, disk, wasm });
    }
    const readBlob = (blob: Blob): Promise<Uint8Array> => readWhole(source, blob);
    const [{ Pc }, firmware] = await Promise.all([
      loadEmulator("pc"),
      this.phase("firmware", async () => {
        const [bios, vgaBios] = await Promise.all([readBlob(config.bios), readBlob(config.vga_bios)]);
        const loadKernel = async (): Promise<{ kernel: Uint8Array; initrd: Uint8Array }> => {
          const [kernel, initrd] = await Promise.all([readBlob(config.kernel), readBlob(config.initrd)]);
          return { kernel, initrd };
        };
        return { bios, vgaBios, loadKernel };
      }),
    ]);
    return new Pc({ config, firmware, disk, wasm });
  }

  private async settle(): Promise<void> {
    await this.running?.devices.settle();
    // Now, while there is a network: a save must be possible without one.
    await loadEncoder().catch(() => undefined);
  }

  pause(): Promise<void> {
    return this.live.machine.pause();
  }

  run(): Promise<void> {
    return this.live.machine.run();
  }

  restart(): Promise<void> {
    return this.live.machine.restart();
  }

  retryDisk(): Promise<void> {
    return this.live.machine.retryDisk();
  }

  async destroy(): Promise<void> {
    await this.running?.machine.destroy();
    this.running = undefined;
  }

  sendConsole(bytes: Uint8Array, terminal = 0): void {
    this.running?.machine.sendConsole(bytes, terminal);
  }

  sendAgent(line: string): void {
    this.running?.machine.sendAgent(line);
  }

  sendKey(event: { code: string; down: boolean }): void {
    this.running?.machine.sendKey(event);
  }

  sendMouse(event: { dx: number; dy: number; buttons: number; wheel: number }): void {
    this.running?.machine.sendMouse(event);
  }

  watchScreen(on: boolean): void {
    this.running?.machine.watchScreen(on);
  }

  async prepareSave(askExtra = false): Promise<SaveSummary> {
    return this.live.saves.prepare(askExtra);
  }

  async frame(id: number, digest: string): Promise<Uint8Array> {
    return this.live.saves.frame(id, digest);
  }

  async prepareRound(): Promise<RoundSummary | undefined> {
    return this.live.saves.prepareRound();
  }

  async roundFrame(digest: string): Promise<Uint8Array> {
    return this.live.saves.roundFrame(digest);
  }

  async discardRound(id: number, stored: readonly string[]): Promise<void> {
    this.running?.saves.discardRound(id, stored);
  }

  async committed(id: number, snapshot: string): Promise<void> {
    this.live.saves.committed(id, snapshot);
  }

  async discard(id: number, stored: readonly string[] = []): Promise<void> {
    this.running?.saves.discard(id, stored);
  }

  async stats(): Promise<MachineStats> {
    const { machine, disk, devices } = this.live;
    const { source } = devices;
    return {
      traffic: source.traffic,
      phases: this.phases,
      disk: { ...this.io, dirtyBlocks: disk.dirtyBlocks },
      cache: source.size,
      instructions: machine.instructions,
    };
  }

  private get live(): Running {
    if (!this.running) throw new MachineError("machine_gone", "The machine has not been started.");
    return this.running;
  }

  private progress(done: number, total: number): void {
    const now = performance.now();
    if (now - this.lastProgress < PROGRESS_EVERY) return;
    this.lastProgress = now;
    this.options.emit("progress", { phase: "memory", done, total });
  }

  private listen(machine: Machine): void {
    const pass = <K extends keyof MachineEvents>(event: K): void => {
      const listener = (...values: unknown[]): void => this.options.emit(event, ...(values as never));
      machine.on(event, listener as MachineEvents[K]);
    };
    pass("console");
    pass("agent");
    machine.on("state", (state) => (this.isRunning = state === "running"));
    pass("state");
    pass("screen");
    machine.on("disk", (activity) => {
      this.io.readBytes += activity.read;
      this.io.writtenBytes += activity.written;
      this.io.readsWaiting = activity.waiting ? 1 : 0;
      this.options.emit("disk", activity);
    });
  }

  private async phase<T>(name: string, work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    const result = await work();
    this.phases[name] = Math.round(performance.now() - started);
    return result;
  }
}

/**
 * What a boot reads, in two requests: nodes of the disk's index are in the warm pack, chunks in the boot pack. Worth waiting for: one
 * by one they take longer. False: they are not all there; the others can be had singly.
 */
async function loadBootPacks(source: ChunkSource, { image }: OpenDescriptor): Promise<boolean> {
  const packs = [
    source.loadPack(image.warm_pack, "warm_pack"),
    source.loadPack(image.boot_pack, "boot_pack"),
  ];
  const loaded = await Promise.allSettled(packs);
  return loaded.every(({ status }) => status === "fulfilled");
}
