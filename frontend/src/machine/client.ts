/**
 * The page's side of the machine: it starts the Web Worker in which the emulator, the disk and all heavy work of a save
 * (comparing, hashing, packing, compressing) live, and talks to it over `postMessage`. Nothing here touches the DOM.
 *
 * A page does:
 *
 *     const machine = startMachine({ descriptor, locate });
 *     machine.on("console", (bytes) => terminal.write(bytes));
 *     await machine.start();                         // resumes the descriptor's memory, or boots when it has none
 *     const save = await machine.prepareSave();      // the guest runs on while this works
 *     …negotiate save.chunks, upload save.frame(digest) for what is missing, commit save.diskRoot and save.memoryRoot…
 *     await save.committed(snapshotId);              // or save.discard()
 */

import type { LinuxConfig, Machine, MachineEvents, MachineKind, PcConfig } from "./machine";
import { compileEmulator } from "./wasm";
import { plainError, type ToWorker } from "./messages";
import { RemoteMachine } from "./remote";

/** `{"size", "chunks"}` of docs/design/formats.md. */
export interface Blob {
  size: number;
  chunks: string[];
}

/** What a `pc` boots from. */
export interface PcFirmware {
  bios: Blob;
  vga_bios: Blob;
  kernel: Blob;
  initrd: Blob;
}

export interface DeviceDescriptor {
  root: string;
  blocks: number;
  public: boolean;
}

/** The part of the open descriptor (docs/design/api.md) that the machine reads. */
export interface OpenDescriptor {
  /** `id` names the VM's own entry in the browser's cache; saves are `tenant`'s. */
  vm?: { id: string; tenant: string };
  snapshot: { id: string } | null;
  machine: (PcConfig & PcFirmware) | LinuxConfig;
  disk: DeviceDescriptor;
  memory: DeviceDescriptor | null;
  image: {
    disk_root: string;
    memory_root: string;
    warm_pack: string;
    warm_pack_bytes: number;
    boot_pack: string;
    boot_pack_bytes: number;
    /** For each command that was rehearsed when the image was published: the disk chunks it read, in that order. */
    read_trails: number[][];
  };
  chunk_base_url: string;
  /** Private chunks are fetched with the cookies that `locate` has set. */
  chunk_cookies?: boolean;
}

export interface LocateRequest {
  snapshot: string | null;
  device: "disk" | "memory";
  leaves: number[];
}

/** What `POST /vms/{id}/locate` answers. */
export interface LocateAnswer {
  /** digest → base64 of the raw index node */
  nodes: Record<string, string>;
  /** digest → URL of a private chunk */
  urls: Record<string, string>;
  /** leaf number → URL of a pack of private chunks */
  packs?: Record<string, string>;
  /** Seconds for which the URLs are good. */
  expires_in?: number;
}

export interface StartOptions {
  descriptor: OpenDescriptor;
  /** Asks the server where private chunks are. Runs in the page, which holds the cookie; a rejection counts as a failed read. */
  locate: (request: LocateRequest) => Promise<LocateAnswer>;
  /** Power on and boot from the disk even when there is a memory to resume. */
  coldBoot?: boolean;
  /** A worker of `startWorker` (or of a test); by default one is started. */
  worker?: Worker;
}

/** What a request was for. */
export type TrafficKind = "index" | "firmware" | "warm_pack" | "boot_pack" | "memory" | "disk";

export interface Traffic {
  /** Requests that went to the network (retries count). */
  requests: number;
  /** Raw bytes received from the network (decoded: the browser does not tell a worker the encoded size). */
  bytes: number;
  /** Served from Cache Storage. */
  cachedRequests: number;
  cachedBytes: number;
  failures: number;
}

export interface MachineStats {
  traffic: Record<TrafficKind, Traffic>;
  /**
   * Milliseconds by phase: `worker` (compiling the emulator), then at the same time `firmware` and `memory` (fetched and
   * verified), `machine` (from the firmware's arrival until the guest runs; waits for the memory); `start` is all of it.
   */
  phases: Record<string, number>;
  disk: { readBytes: number; writtenBytes: number; dirtyBlocks: number; readsWaiting: number };
  cache: { chunks: number; bytes: number };
  /** Instructions that the processor has carried out, modulo 2^32. */
  instructions: number;
}

/** A chunk of a prepared save: an index node or packed blocks; both are uploaded alike. */
export interface PreparedChunk {
  digest: string;
  rawSize: number;
}

export interface PreparedSave {
  /** The snapshot the save is a delta to: `expected_head` of the commit. */
  parentSnapshot: string | null;
  diskRoot: string;
  memoryRoot: string;
  /** Everything new, children before the nodes that name them. Upload in this order what `negotiate` calls missing. */
  chunks: PreparedChunk[];
  /** The zstd frame of one of `chunks`. Compressed on demand, one after another; may be called again for a retry. */
  frame(digest: string): Promise<Uint8Array>;
  /** How long the guest stood still, ms; the time of all the work, ms. */
  pausedMs: number;
  preparedMs: number;
  /** 4 KiB blocks of the disk and pages of the memory that differ from the parent. */
  dirtyBlocks: number;
  changedPages: number;
  /** Raw bytes of changed blocks that had to be packed, and of those found in chunks that exist already (`reused_bytes`). */
  packedBytes: number;
  reusedBytes: number;
  /** Base64 PNG of the VGA screen when the guest shows graphics; null for a text console: the page draws its terminal. */
  thumbnail: string | null;
  /** The save is a snapshot now: it becomes the parent of the next one. Releases what `frame` needed. */
  committed(snapshot: string): Promise<void>;
  /**
   * Forget the save. The next one is again a delta to the old parent, and contains this one's changes. Blocks in the chunks of
   * `stored`, which the service has by now, need not be sent again.
   */
  discard(stored?: readonly string[]): Promise<void>;
}

/** What a pre-copy round found changed, as far as it had to be packed: data chunks that a save to come is likely to name. */
export interface PreparedRound {
  chunks: PreparedChunk[];
  frame(digest: string): Promise<Uint8Array>;
  /** Forget the round. The next save finds its blocks in the chunks of `stored`. */
  discard(stored?: readonly string[]): Promise<void>;
}

export interface ClientEvents extends MachineEvents {
  /** While `start` works: bytes done of total for a phase that takes a while. */
  progress: (progress: { phase: string; done: number; total: number }) => void;
  /** While `start` resumes a memory that was saved with `extra`: those bytes, before the guest's first console byte. */
  extra: (bytes: Uint8Array) => void;
}

export interface Started {
  /** False: powered on and booting. */
  resumed: boolean;
  /** Whether the memory carried `extra`. An image's warm snapshot does not. */
  extra: boolean;
}

export { MOST_EXTRA } from "./machine";

export interface SaveOptions {
  /**
   * The page's own state that belongs to this instant (the terminal's screen), kept in the memory device's state region
   * and given back by the `extra` event. Called once, right after the freeze: every console byte from before it has been
   * delivered as an event, none from after it. A rejection or more than `MOST_EXTRA` bytes: the save goes on without.
   */
  extra?: () => Promise<Uint8Array>;
}

/**
 * The machine in its worker. The methods of `Machine` that move whole memories (`resume`, `capture`) and `boot` are not
 * proxied: `start` and `prepareSave` do that inside the worker. Rejections are Errors with a `code` (string) and a message
 * for the person: `disk_error`, `bad_index`, `bad_state`, `state_version`, `memory_size`, `firmware`, `machine_gone`.
 */
export interface MachineClient extends Omit<
  Machine,
  "on" | "boot" | "resume" | "capture" | "survey" | "instructions"
> {
  readonly kind: MachineKind;
  /** How many consoles it has: a `pc` one. */
  readonly terminals: number;
  on<K extends keyof ClientEvents>(event: K, listener: ClientEvents[K]): () => void;
  /** Resolves when the guest runs (for a cold boot: when it is powered on). */
  start(): Promise<Started>;
  /** One at a time; a second call while one is being prepared rejects with code `save_in_progress`. */
  prepareSave(options?: SaveOptions): Promise<PreparedSave>;
  /**
   * Goes through memory and disk while the guest runs, in slices between its ticks, and packs what has changed: of different
   * instants, so it is no snapshot. Undefined when there is too little for it to be worth sending ahead. One at a time with saves.
   */
  prepareRound(): Promise<PreparedRound | undefined>;
  stats(): Promise<MachineStats>;
}

/** Loads the worker's script and the emulator. A page that still waits for its descriptor calls this first: the two then load side by side. */
export function startWorker(kind: MachineKind): Worker {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "machine" });
  // Compiled here: the page can begin before the worker's script has arrived.
  const give = (message: ToWorker): void => worker.postMessage(message);
  give({ type: "kind", kind });
  compileEmulator(kind).then(
    (module) => give({ type: "wasm", kind, module }),
    (error: unknown) => give({ type: "wasm", kind, error: plainError(error) }),
  );
  return worker;
}

export function startMachine(options: StartOptions): MachineClient {
  return new RemoteMachine(options.worker ?? startWorker(options.descriptor.machine.kind), options);
}
