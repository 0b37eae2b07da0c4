/**
 * The part of v86 0.5.462 that we use, typed. Its published types cover the embedding API; the device internals that a
 * page-wise state and a screen without DOM need are stable property names of the pinned version (see docs/design/machine.md).
 */

import { V86 as Constructor } from "v86";

/** v86's state format that the device objects' `get_state` speaks. */
export const V86_STATE_VERSION = 6;

export interface Stateful {
  get_state(): unknown[];
}

export interface Uart {
  /** Bytes received that the guest has not read yet; not part of v86's own state. */
  input: number[];
}

export interface Layer {
  image_data: ImageData;
  screen_x: number;
  screen_y: number;
  buffer_x: number;
  buffer_y: number;
  buffer_width: number;
  buffer_height: number;
}

export interface Vga {
  graphical_mode: boolean;
  max_cols: number;
  max_rows: number;
  start_address: number;
  offset_register: number;
  cursor_address: number;
  screen_width: number;
  screen_height: number;
  vga_memory: Uint8Array;
  screen_fill_buffer(): void;
  complete_redraw(): void;
}

export interface Cpu extends Stateful {
  wasm_memory: WebAssembly.Memory;
  mem8: Uint8Array;
  devices: { vga: Vga; uart0: Uart; uart1: Uart };
  set_state(state: unknown[]): void;
  pack_memory(): { packed_memory: Uint8Array; bitmap: { get_buffer(): ArrayBuffer } };
  unpack_memory(bitmap: unknown, packed: Uint8Array): void;
  reboot_internal(): void;
  store_current_tsc(): void;
  /** One number, modulo 2^32. */
  instruction_counter: Uint32Array;
  current_tsc: Uint32Array;
  set_tsc(low: number, high: number): void;
}

export interface Core {
  cpu: Cpu;
  yield(milliseconds: number, tick: number): void;
  yield_callback(tick: number): void;
}

export interface Bus {
  send(event: string, value?: unknown): void;
}

/** What v86 calls a buffer: our disk, seen through its interface. */
export interface DiskBuffer {
  byteLength: number;
  onload?: ((event: unknown) => void) | undefined;
  load(): void;
  get(start: number, length: number, done: (data: Uint8Array) => void): void;
  set(start: number, data: Uint8Array, done: () => void): void;
  /** Asked for the first sector before anything runs, for a geometry that only CHS addressing uses. */
  get_and_cache(start: number, length: number, done: () => void): void;
  get_from_cache(start: number, length: number): Uint8Array | undefined;
  get_state(): unknown[];
  set_state(state: unknown): void;
}

export interface Options {
  wasm_fn: (imports: WebAssembly.Imports) => Promise<WebAssembly.Exports>;
  bios: { buffer: ArrayBuffer };
  vga_bios: { buffer: ArrayBuffer };
  bzimage?: { buffer: ArrayBuffer };
  initrd?: { buffer: ArrayBuffer };
  cmdline?: string;
  hda: DiskBuffer;
  memory_size: number;
  vga_memory_size: number;
}

export interface Emulator {
  v86: Core;
  bus: Bus;
  screen_adapter: { update_buffer(layers: Layer[]): void };
  add_listener(event: string, listener: (value: never) => void): void;
  run(): Promise<void>;
  stop(): Promise<void>;
  destroy(): Promise<void>;
}

/** A powered-off PC with our set of devices; resolves when it could run. */
export function createEmulator(options: Options): Promise<Emulator> {
  const emulator = new Constructor({
    ...options,
    uart1: true,
    autostart: false,
    // The page turns key presses and mouse moves into events; v86's own adapters would look for a document.
    disable_keyboard: true,
    disable_mouse: true,
    disable_speaker: true,
    net_device: { type: "none" },
  } as unknown as ConstructorParameters<typeof Constructor>[0]) as unknown as Emulator;
  return new Promise((resolve) =>
    emulator.add_listener("emulator-loaded", () => {
      if (typeof MessageChannel !== "undefined" && typeof process === "undefined")
        useMessageChannel(emulator.v86);
      resolve(emulator);
    }),
  );
}

/**
 * Lets the processor's ticks follow each other through a message channel, which browsers do not clamp to 4 ms as they do nested
 * time-outs, and in between which other messages get their turn. v86 ignores a tick that a later one has overtaken.
 */
function useMessageChannel(core: Core): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = (event: MessageEvent<number>) => core.yield_callback(event.data);
  core.yield = (milliseconds, tick) => {
    if (milliseconds < 1) port2.postMessage(tick);
    else setTimeout(() => core.yield_callback(tick), milliseconds);
  };
}
