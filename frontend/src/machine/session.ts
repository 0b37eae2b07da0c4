/**
 * One run of a machine: its devices opened from chunks, the emulator, and the saves. Lives in the worker; has no DOM, so that tests run it
 * under Node.
 */

import { packDelta, type Delta, type Rest } from "../disk/delta";
import { IndexTree } from "../disk/tree";
import { LEAF_BLOCKS } from "../disk/index-node";
import { KnownBlocks } from "../disk/known";
import { Locator, type Device } from "../disk/locator";
import { RemoteDisk } from "../disk/remote-disk";
import type { Fetch } from "../disk/retry";
import { ChunkSource } from "../disk/source";
import type { ChunkCache } from "../disk/cache";
import { MOST_BLOCKS, SentAhead } from "./ahead";
import { loadMemory, readWhole, withCookies } from "./arriving";
import type {
  Blob,
  ClientEvents,
  DeviceDescriptor,
  LocateAnswer,
  LocateRequest,
  MachineStats,
  OpenDescriptor,
  Started,
} from "./client";
import { splitExtra, withExtra } from "./extra";
import { MachineError, STATE_BLOCKS, type Machine, type MachineEvents } from "./machine";
import { memoryRuns, parentMatcher } from "./parent-memory";
import { Pc } from "./pc/pc";
import type { RoundSummary, SaveSummary } from "./messages";
import { compressFrame, loadEncoder } from "./zstd";

export interface SessionOptions {
  fetch: Fetch;
  openCache(): Promise<ChunkCache | undefined>;
  compileWasm(): Promise<WebAssembly.Module>;
  locate(request: LocateRequest): Promise<LocateAnswer>;
  /** The page's bytes for a save; see `SaveOptions` of client.ts. */
  askExtra(): Promise<Uint8Array | undefined>;
  emit<K extends keyof ClientEvents>(event: K, ...values: Parameters<ClientEvents[K]>): void;
}

/** Chunks kept in memory: room for a parent's memory, which every save is compared with, and for what programs read. */
const MEMORY_BYTES = 192 << 20;
/** After the machine has started, what can wait waits for so long, ms: the cache's writes, the index of known blocks. */
const SETTLING = 400;
/** Progress is told this often at most, ms: the page draws it. */
const PROGRESS_EVERY = 60;

/** Work beside a running guest: so long at once, and a rest as long as a nested time-out takes, ms. */
const WORK_FOR = 4;
const REST_FOR = 4;

interface Save {
  summary: SaveSummary;
  disk: Delta;
  memory: Delta;
}

/** What exists once the machine was started. */
interface Running {
  machine: Machine;
  source: ChunkSource;
  locator: Locator;
  known: KnownBlocks;
  ahead: SentAhead;
  disk: RemoteDisk;
  trees: Record<Device, IndexTree>;
}

export class Session {
  private running: Running | undefined;
  private snapshot: string | null = null;
  /** Chunks that were seen to be public: free to name, and nobody's to fold. */
  private readonly publicChunks = new Set<string>();
  /** Chunks whose blocks are not known yet; undefined once all are, and new ones become known at once. */
  private unknown: { digest: string; raw: Uint8Array }[] | undefined = [];
  private lastProgress = 0;
  private readonly phases: Record<string, number> = {};
  private save: Save | undefined;
  private saving = false;
  private isRunning = false;
  private lastSave = 0;
  private io = { readBytes: 0, writtenBytes: 0, dirtyBlocks: 0, readsWaiting: 0 };

  constructor(private readonly options: SessionOptions) {}

  async start({ descriptor, coldBoot }: { descriptor: OpenDescriptor; coldBoot: boolean }): Promise<Started> {
    const started = performance.now();
    this.snapshot = descriptor.snapshot?.id ?? null;
    const [cache, wasm] = await this.phase("worker", () =>
      Promise.all([this.options.openCache(), this.options.compileWasm()]),
    );
    const memory = coldBoot ? null : descriptor.memory;
    const { source, locator, known, trees } = this.openDevices(descriptor, memory, cache);
    source.holdWrites();
    const disk = new RemoteDisk(trees.disk, source, "disk", descriptor.image.read_trails);
    const readBlob = (blob: Blob): Promise<Uint8Array> => readWhole(source, blob);
    if (!memory) void source.loadPack(descriptor.image.boot_pack, "boot_pack").catch(() => undefined);
    const config = descriptor.machine;
    const firmware = this.phase("firmware", async () => {
      const [bios, vgaBios] = await Promise.all([readBlob(config.bios), readBlob(config.vga_bios)]);
      const loadKernel = async (): Promise<{ kernel: Uint8Array; initrd: Uint8Array }> => {
        const [kernel, initrd] = await Promise.all([readBlob(config.kernel), readBlob(config.initrd)]);
        return { kernel, initrd };
      };
      return { bios, vgaBios, loadKernel };
    });
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
    const machine = new Pc({ config, firmware: await firmware, disk, wasm });
    this.listen(machine);
    this.running = { machine, source, locator, known, ahead: new SentAhead(source, known), disk, trees };
    // The emulator is built while the memory is still on its way.
    try {
      await this.phase("machine", () => (arriving ? machine.resume(arriving) : machine.boot()));
    } catch (error) {
      // What came is kept: the next try begins with it.
      await source.releaseWrites();
      throw error;
    }
    this.phases.start = Math.round(performance.now() - started);
    setTimeout(() => void this.settle(), SETTLING);
    return { resumed: memory !== null, extra: extra !== undefined };
  }

  /** What the start has put off, in small steps: the guest runs in this thread. */
  private async settle(): Promise<void> {
    if (!this.running) return;
    const { source, known } = this.running;
    while (this.unknown?.length) {
      for (const { digest, raw } of this.unknown.splice(0, 8)) known.add(digest, raw);
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    this.unknown = undefined;
    await source.releaseWrites();
    // Now, while there is a network: a save must be possible without one.
    await loadEncoder().catch(() => undefined);
  }

  pause(): Promise<void> {
    return this.live.machine.pause();
  }

  run(): Promise<void> {
    return this.live.machine.run();
  }

  retryDisk(): Promise<void> {
    return this.live.machine.retryDisk();
  }

  async destroy(): Promise<void> {
    await this.running?.machine.destroy();
    this.running = undefined;
    this.save = undefined;
  }

  sendConsole(bytes: Uint8Array): void {
    this.running?.machine.sendConsole(bytes);
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

  /** Captures the machine and works out what is new against the parent snapshot. A save that was neither committed nor discarded is dropped. */
  async prepareSave(askExtra = false): Promise<SaveSummary> {
    const { machine, source, known, ahead, trees } = this.live;
    if (this.saving) throw new MachineError("save_in_progress", "A save is being prepared already.");
    this.saving = true;
    this.save = undefined;
    try {
      const started = performance.now();
      for (const { digest, raw } of this.unknown?.splice(0) ?? []) known.add(digest, raw);
      const parent = await parentMatcher(trees.memory, source, this.rests());
      let extra: Promise<Uint8Array | undefined> | undefined;
      const capture = await machine.capture({
        matches: parent.matches,
        frozen: () => {
          // Without it the snapshot is whole all the same.
          if (askExtra) extra = this.options.askExtra().catch(() => undefined);
        },
      });
      const memory = withExtra(capture.memory, trees.memory.blocks, await extra);
      const local = (digest: string): Promise<Uint8Array | undefined> => source.local(digest);
      // What this save packs for the disk is likely to be in the guest's page cache too.
      const mine = new Map<string, Uint8Array>();
      const blocks = new KnownBlocks(async (digest) => mine.get(digest) ?? source.local(digest), known);
      const options = {
        known: blocks,
        local,
        isPublic: (digest: string) => this.publicChunks.has(digest),
        isAhead: (digest: string) => ahead.chunk(digest) !== undefined,
        rest: this.rests(),
      };
      const diskDelta = await packDelta(trees.disk, { written: capture.disk }, options);
      for (const [digest, raw] of diskDelta.chunks) {
        mine.set(digest, raw);
        if (!diskDelta.nodes.has(digest)) blocks.add(digest, raw);
      }
      const memoryDelta = await packDelta(
        trees.memory,
        { written: memory, cleared: parent.cleared(capture.matched, memory.numbers) },
        options,
      );
      const summary: SaveSummary = {
        id: ++this.lastSave,
        parentSnapshot: this.snapshot,
        diskRoot: diskDelta.root,
        memoryRoot: memoryDelta.root,
        chunks: listed(
          new Map([
            ...ahead.among([...diskDelta.named, ...memoryDelta.named]),
            ...diskDelta.chunks,
            ...memoryDelta.chunks,
          ]),
        ),
        pausedMs: capture.pausedMs,
        preparedMs: performance.now() - started,
        dirtyBlocks: diskDelta.changedBlocks,
        changedPages: memoryDelta.changedBlocks,
        packedBytes: diskDelta.packedBytes + memoryDelta.packedBytes,
        reusedBytes: diskDelta.reusedBytes + memoryDelta.reusedBytes,
        thumbnail: capture.thumbnail,
      };
      this.save = { summary, disk: diskDelta, memory: memoryDelta };
      return summary;
    } finally {
      this.saving = false;
    }
  }

  async frame(id: number, digest: string): Promise<Uint8Array> {
    const save = this.saved(id);
    const { ahead, source, known } = this.live;
    const raw = save.disk.chunks.get(digest) ?? save.memory.chunks.get(digest) ?? ahead.chunk(digest);
    // The service may lack one of the parent, too, that is at hand here.
    const found = raw ?? (await source.local(digest));
    if (!found) {
      // The next save packs its blocks anew.
      known.forget(digest);
      throw new MachineError("chunk_gone", "The service has lost a part of this save. Save again.");
    }
    return compressFrame(found);
  }

  /** Looks for what has changed, beside the running guest, and packs it to be sent ahead; undefined when that is little. */
  async prepareRound(): Promise<RoundSummary | undefined> {
    const { machine, source, disk, ahead, trees } = this.live;
    if (this.saving) throw new MachineError("save_in_progress", "A save is being prepared already.");
    this.saving = true;
    try {
      const rest = this.rests();
      const parent = await parentMatcher(trees.memory, source, rest);
      const memory = await machine.survey(parent.matches, MOST_BLOCKS);
      const id = ++this.lastSave;
      const chunks = await ahead.pack(id, [disk.written(), memory], rest);
      return chunks && { id, chunks: listed(chunks) };
    } finally {
      this.saving = false;
    }
  }

  async roundFrame(digest: string): Promise<Uint8Array> {
    const raw = this.live.ahead.chunk(digest);
    if (!raw) throw new MachineError("save_gone", "This round is over.");
    return compressFrame(raw);
  }

  async discardRound(id: number, stored: readonly string[]): Promise<void> {
    this.running?.ahead.end(id, stored);
  }

  /** The save is the snapshot `snapshot` now, and the parent of the next one. */
  async committed(id: number, snapshot: string): Promise<void> {
    const { disk: diskDelta, memory: memoryDelta } = this.saved(id);
    const running = this.live;
    const { source, known, ahead, locator, trees } = running;
    ahead.committed(new Set([...diskDelta.named, ...memoryDelta.named]));
    for (const delta of [diskDelta, memoryDelta]) {
      for (const [digest, raw] of delta.chunks) {
        source.put(digest, raw);
        if (!delta.nodes.has(digest)) known.add(digest, raw);
      }
    }
    trees.disk = trees.disk.successor(diskDelta.root, diskDelta.nodes);
    trees.memory = trees.memory.successor(memoryDelta.root, memoryDelta.nodes);
    running.disk.rebase(trees.disk);
    this.snapshot = snapshot;
    locator.rebase({ disk: diskDelta.touchedLeaves, memory: memoryDelta.touchedLeaves });
    this.save = undefined;
  }

  async discard(id: number, stored: readonly string[] = []): Promise<void> {
    if (this.save?.summary.id !== id) return;
    const { disk, memory } = this.save;
    this.save = undefined;
    for (const delta of [disk, memory]) {
      const data = [...delta.chunks].filter(([digest]) => !delta.nodes.has(digest));
      this.running?.ahead.add(stored, new Map(data));
    }
  }

  async stats(): Promise<MachineStats> {
    const { machine, source, disk } = this.live;
    return {
      traffic: source.traffic,
      phases: this.phases,
      disk: { ...this.io, dirtyBlocks: disk.dirtyBlocks },
      cache: source.size,
      instructions: machine.instructions,
    };
  }

  /** Long work lets the guest run in between, as long as it runs. */
  private rests(): Rest {
    let until = performance.now() + WORK_FOR;
    return async () => {
      if (performance.now() < until || !this.isRunning) return;
      await new Promise((resolve) => setTimeout(resolve, REST_FOR));
      until = performance.now() + WORK_FOR;
    };
  }

  private get live(): Running {
    if (!this.running) throw new MachineError("machine_gone", "The machine has not been started.");
    return this.running;
  }

  private saved(id: number): Save {
    if (this.save?.summary.id !== id)
      throw new MachineError("save_gone", "This save has been dropped; save again.");
    return this.save;
  }

  private openDevices(
    descriptor: OpenDescriptor,
    memory: DeviceDescriptor | null,
    cache: ChunkCache | undefined,
  ): Pick<Running, "source" | "locator" | "known" | "trees"> {
    const devices: Record<Device, DeviceDescriptor> = {
      disk: descriptor.disk,
      memory: memory ?? { root: "", blocks: memoryBlocks(descriptor), public: true },
    };
    const leafCount = (device: Device): number => Math.ceil(devices[device].blocks / LEAF_BLOCKS);
    const locator = new Locator({
      baseUrl: descriptor.chunk_base_url,
      locate: (device, leaves) => this.options.locate({ snapshot: this.snapshot, device, leaves }),
      publicDevices: (["disk", "memory"] as const).filter((device) => devices[device].public),
      leafCounts: { disk: leafCount("disk"), memory: leafCount("memory") },
    });
    const known: KnownBlocks = new KnownBlocks((digest) => source.local(digest));
    const source: ChunkSource = new ChunkSource({
      locator,
      fetch: descriptor.chunk_cookies ? withCookies(this.options.fetch, descriptor) : this.options.fetch,
      cache,
      memoryBytes: MEMORY_BYTES,
      onChunk: (digest, raw, isPublic) => {
        if (isPublic) this.publicChunks.add(digest);
        // What a fork reads is another tenant's: a save may name it at its own place only.
        else if (!descriptor.vm || !locator.isOwn(digest, descriptor.vm.tenant)) return;
        if (this.unknown) this.unknown.push({ digest, raw });
        else known.add(digest, raw);
      },
    });
    const tree = (device: Device): IndexTree => {
      const load = async (digest: string, leaf: number): Promise<Uint8Array> =>
        (await locator.node(digest, { device, leaf })) ?? source.get(digest, "index", { device, leaf });
      return new IndexTree(devices[device].root, devices[device].blocks, load);
    };
    return { source, locator, known, trees: { disk: tree("disk"), memory: tree("memory") } };
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

function listed(chunks: ReadonlyMap<string, Uint8Array>): { digest: string; rawSize: number }[] {
  return [...chunks].map(([digest, raw]) => ({ digest, rawSize: raw.length }));
}

function memoryBlocks({ machine }: OpenDescriptor): number {
  return machine.memory_mib * 256 + STATE_BLOCKS;
}
