/**
 * The one interface of an emulator: `pc/` (v86) and `linux/` (our own engine) implement it. Nothing above this file may know which one runs. No DOM here: the same code runs in a Web Worker and under Node.
 */

export const BLOCK = 4096;
export const CHUNK = 256 * 1024;
export const CHUNK_BLOCKS = CHUNK / BLOCK;
/** Pages and blocks have the same size, so a memory is a block device. Blocks behind the RAM pages of a memory device that hold the machine's device state. */
export const STATE_BLOCKS = 8192;
/** The last of them are the page's (`SaveOptions.extra` of client.ts); a machine neither writes nor reads them. */
export const EXTRA_BLOCKS = 65;
/** At most so many bytes of it go into a save. */
export const MOST_EXTRA = (EXTRA_BLOCKS - 1) * BLOCK;

/** Why a machine could not do what was asked; `code` is stable, the message is for the person. */
export class MachineError extends Error {
  override readonly name = "MachineError";
  constructor(
    readonly code:
      | "bad_state"
      | "state_version"
      | "memory_size"
      | "firmware"
      | "disk_error"
      | "save_in_progress"
      | "save_gone"
      | "chunk_gone"
      | "machine_gone",
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The text of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What a machine reads its disk from. Reads are asynchronous; writes go to an overlay and are immediate. */
export interface BlockDevice {
  /** Size in 4 KiB blocks. */
  readonly blocks: number;
  /** Reads whole blocks. Rejects with `DiskError` only when retries are exhausted; the caller decides to stop and try again. */
  read(firstBlock: number, count: number): Promise<Uint8Array>;
  /** The same without waiting when every block is at hand, else undefined. */
  readNow(firstBlock: number, count: number): Uint8Array | undefined;
  write(firstBlock: number, data: Uint8Array): void;
  /** How many blocks differ from the parent snapshot. */
  readonly dirtyBlocks: number;
  /** The blocks written since the disk's parent snapshot, as they are at this instant. */
  freeze(): SparseBlocks;
}

export interface PcConfig {
  kind: "pc";
  memory_mib: number;
  vga_memory_mib: number;
  cmdline: string;
}

export interface LinuxConfig {
  kind: "linux";
  memory_mib: number;
  /** Consoles: ttyS0, ttyS1, … */
  terminals: number;
}

export type MachineConfig = PcConfig | LinuxConfig;
export type MachineKind = MachineConfig["kind"];

/** Raw bytes of the firmware. Kernel and initrd are asked for only by a cold boot, or when the guest reboots. */
export interface Firmware {
  bios: Uint8Array;
  vgaBios: Uint8Array;
  loadKernel(): Promise<{ kernel: Uint8Array; initrd: Uint8Array }>;
}

/**
 * A whole memory device as sparse blocks: RAM pages, then the machine's device state from block `memory_mib * 256` on.
 * `numbers` ascends; block `numbers[i]` is `data.subarray(i * 4096, (i + 1) * 4096)`; blocks not named are zeros.
 */
export interface SparseBlocks {
  numbers: Uint32Array;
  data: Uint8Array;
}

/** Blocks `first`, `first + 1`, … one after the other in `data`. */
export interface BlockRun {
  first: number;
  data: Uint8Array;
}

/**
 * Whether the 1024 words of `words` from index `at` on are known to be the content of block `block` in the parent
 * snapshot. False is always a right answer: the block is then copied.
 */
export type BlockMatcher = (block: number, words: Int32Array, at: number) => boolean;

export interface CaptureOptions {
  matches?: BlockMatcher;
  /** Called at the instant of the capture: all console output from before it has been emitted, none from after it. */
  frozen?: () => void;
}

/** Disk and memory at one instant. */
export interface Capture {
  /** The memory's blocks that are not zero and were not matched. */
  memory: SparseBlocks;
  /** Numbers of the memory's blocks that were matched, ascending. All others are zeros. */
  matched: Uint32Array;
  /** What the disk's `freeze` gave at the same instant. */
  disk: SparseBlocks;
  thumbnail: string | null;
  /** How long the machine stood still, ms. */
  pausedMs: number;
}

export type MachineState = "loading" | "running" | "paused" | "stopped-on-disk" | "error";

export interface ScreenUpdate {
  /** Text mode: rows of characters with a VGA attribute byte each; graphics: RGBA pixels. */
  mode: "text" | "graphics";
  width: number;
  height: number;
  /** text: width*height*2 bytes (character, attribute); graphics: width*height*4 bytes RGBA. */
  pixels: Uint8Array;
  cursor?: { row: number; column: number };
}

export interface MachineEvents {
  /** Bytes the guest wrote to one of its consoles; a `pc` has only number 0. */
  console: (bytes: Uint8Array, terminal: number) => void;
  /** Bytes the guest wrote to the agent's serial port. */
  agent: (bytes: Uint8Array) => void;
  state: (state: MachineState, message?: string) => void;
  screen: (update: ScreenUpdate) => void;
  /** Bytes of disk traffic since the last report, for the activity light. */
  disk: (activity: { read: number; written: number; dirtyBlocks: number; waiting: boolean }) => void;
}

export interface Machine {
  /** Instructions carried out so far, modulo 2^32. */
  readonly instructions: number;
  on<K extends keyof MachineEvents>(event: K, listener: MachineEvents[K]): () => void;
  /** Power on and boot from the disk, with the kernel given in the firmware. */
  boot(): Promise<void>;
  /** Restore a captured memory, which may still be on its way, and run on. The disk must be the one captured with it. */
  resume(memory: Iterable<BlockRun> | Promise<Iterable<BlockRun>>): Promise<void>;
  pause(): Promise<void>;
  /** Run on after `pause`. */
  run(): Promise<void>;
  /** After "stopped-on-disk": try the failed reads once more and go on where the machine stopped. */
  retryDisk(): Promise<void>;
  /** Power off and on again: programs end without being asked, the disk stays. Resolves when it boots; failures end in the state "error". */
  restart(): Promise<void>;
  /**
   * Disk and memory at one instant: waits until no disk read is in flight, stands still only while the state is copied,
   * runs on (if it was running) before the returned data is worked on. Rejects when a failed disk read stands in the way.
   */
  capture(options?: CaptureOptions): Promise<Capture>;
  /**
   * The RAM's blocks that are not zero and not matched, at most so many, looked at in slices between the guest's ticks: each as it
   * was at some instant on the way, so together they are no snapshot.
   */
  survey(matches: BlockMatcher, mostBlocks: number): Promise<SparseBlocks>;
  sendConsole(bytes: Uint8Array, terminal?: number): void;
  /** A line for the guest's agent: `clock`, `resize`, `reseed` (see docs/design/guest.md). */
  sendAgent(line: string): void;
  sendKey(event: { code: string; down: boolean }): void;
  sendMouse(event: { dx: number; dy: number; buttons: number; wheel: number }): void;
  /** Ask for screen updates (only while somebody looks at the VGA tab). */
  watchScreen(on: boolean): void;
  destroy(): Promise<void>;
}
