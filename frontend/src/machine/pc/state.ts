/**
 * The device state of the PC as blocks (docs/design/machine.md, "Device state").
 *
 * v86's devices describe themselves through `get_state` as nested arrays with typed arrays in them. Every typed array of a
 * page or more gets its own page-aligned place, in order of the walk, so that it lies at the same place in every save of
 * a machine and its unchanged pages stay identical; the rest is one JSON text behind them, where a change of length
 * moves nothing else.
 *
 *     block 0   "WVPC", u32 layout version, u32 RAM bytes, u32 VGA bytes, u32 first JSON block, u32 JSON bytes
 *     block 1…  the large arrays        then   the JSON
 */

import { BLOCK, EXTRA_BLOCKS, MachineError, STATE_BLOCKS } from "../machine";
import { V86_STATE_VERSION, type Cpu, type Stateful } from "./v86";

const MAGIC = 0x43505657; // "WVPC"
export const LAYOUT_VERSION = 1;

/** Where v86 0.5.462 keeps two registers in its wasm memory. Its own `set_state` restores neither (it replaces the views). */
const FPU_STATUS_WORD = 1040;
const MXCSR = 824;

const ARRAYS = {
  Uint8Array,
  Int8Array,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float32Array,
  Float64Array,
} as const;
type ArrayName = keyof typeof ARRAYS;
type TypedArray = InstanceType<(typeof ARRAYS)[ArrayName]>;

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

interface Saved {
  v86: number;
  fpuStatus: number;
  mxcsr: number;
  /** What was typed or sent and not read yet: v86 leaves the UARTs' queues out of its state. */
  serial: number[][];
  cpu: Json;
}

export interface MachineSize {
  ramBytes: number;
  vgaBytes: number;
}

/** The device state of a machine that stands still between two instructions. The RAM is not part of it. */
export function encodeState(cpu: Cpu, size: MachineSize): Uint8Array {
  const large: { at: number; bytes: Uint8Array }[] = [];
  let next = BLOCK;
  const place = (bytes: Uint8Array): number => {
    const at = next;
    large.push({ at, bytes });
    next += Math.ceil(bytes.length / BLOCK) * BLOCK;
    return at;
  };
  const saved: Saved = {
    v86: V86_STATE_VERSION,
    fpuStatus: new DataView(cpu.wasm_memory.buffer).getUint16(FPU_STATUS_WORD, true),
    mxcsr: new DataView(cpu.wasm_memory.buffer).getInt32(MXCSR, true),
    serial: [[...cpu.devices.uart0.input], [...cpu.devices.uart1.input]],
    cpu: pack(cpu, place),
  };
  const json = new TextEncoder().encode(JSON.stringify(saved));
  const jsonAt = next;
  const area = new Uint8Array(Math.ceil((jsonAt + json.length) / BLOCK) * BLOCK);
  if (area.length > (STATE_BLOCKS - EXTRA_BLOCKS) * BLOCK) {
    throw new MachineError(
      "bad_state",
      `The device state needs ${area.length} bytes, more than a snapshot has room for.`,
    );
  }
  const header = new DataView(area.buffer);
  [MAGIC, LAYOUT_VERSION, size.ramBytes, size.vgaBytes, jsonAt / BLOCK, json.length].forEach((value, index) =>
    header.setUint32(index * 4, value, true),
  );
  for (const { at, bytes } of large) area.set(bytes, at);
  area.set(json, jsonAt);
  return area;
}

/** Puts the devices of a fresh machine of the same size into the state; throws `MachineError` and changes nothing when it cannot. */
export function restoreState(cpu: Cpu, area: Uint8Array, size: MachineSize): void {
  const saved = parse(area, size);
  const state = unpack(saved.cpu, area) as unknown[];
  cpu.set_state(state);
  const registers = new DataView(cpu.wasm_memory.buffer);
  registers.setUint16(FPU_STATUS_WORD, saved.fpuStatus, true);
  registers.setInt32(MXCSR, saved.mxcsr, true);
  cpu.devices.uart0.input = saved.serial[0] ?? [];
  cpu.devices.uart1.input = saved.serial[1] ?? [];
}

function parse(area: Uint8Array, size: MachineSize): Saved {
  const header = new DataView(area.buffer, area.byteOffset, area.length);
  if (area.length < 2 * BLOCK || header.getUint32(0, true) !== MAGIC) {
    throw new MachineError("bad_state", "This snapshot holds no device state of a PC.");
  }
  const version = header.getUint32(4, true);
  if (version !== LAYOUT_VERSION) {
    throw new MachineError(
      "state_version",
      `This snapshot was written by another version of the machine (layout ${version}, this one reads ${LAYOUT_VERSION}). Reload the page.`,
    );
  }
  const ramBytes = header.getUint32(8, true);
  const vgaBytes = header.getUint32(12, true);
  if (ramBytes !== size.ramBytes || vgaBytes !== size.vgaBytes) {
    throw new MachineError(
      "memory_size",
      `This snapshot is of a machine with ${ramBytes >> 20} MiB of memory and ${vgaBytes >> 20} MiB for the screen, not ${size.ramBytes >> 20} and ${size.vgaBytes >> 20}.`,
    );
  }
  const at = header.getUint32(16, true) * BLOCK;
  const length = header.getUint32(20, true);
  if (at + length > area.length)
    throw new MachineError("bad_state", "The device state of this snapshot is cut short.");
  let saved: Saved;
  try {
    saved = JSON.parse(new TextDecoder().decode(area.subarray(at, at + length))) as Saved;
  } catch (error) {
    throw new MachineError("bad_state", "The device state of this snapshot is not readable.", {
      cause: error,
    });
  }
  if (saved.v86 !== V86_STATE_VERSION) {
    throw new MachineError("state_version", `The emulator cannot read device state of format ${saved.v86}.`);
  }
  return saved;
}

function pack(value: unknown, place: (bytes: Uint8Array) => number): Json {
  if (value === null || value === undefined) return null;
  if (typeof value === "number" || typeof value === "boolean" || typeof value === "string") return value;
  if (Array.isArray(value)) return Array.from(value, (item: unknown) => pack(item, place));
  if (value instanceof Map)
    return { map: Array.from(value, ([key, item]) => [pack(key, place), pack(item, place)]) };
  // v86's views of its wasm memory are proxies of typed arrays, which `ArrayBuffer.isView` does not know.
  if ((value as Partial<TypedArray>).BYTES_PER_ELEMENT) {
    const array = value as TypedArray;
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.length * array.BYTES_PER_ELEMENT);
    const type = array.constructor.name.replace("bound ", "");
    if (!(type in ARRAYS))
      throw new MachineError("bad_state", `The emulator's state holds an unknown ${type}.`);
    if (bytes.length >= BLOCK) return { type, at: place(bytes), bytes: bytes.length };
    return { type, values: Array.from(new ARRAYS[type as ArrayName](bytes.slice().buffer)) };
  }
  if (typeof (value as Stateful).get_state === "function") {
    return Array.from((value as Stateful).get_state(), (item) => pack(item, place));
  }
  const view = value as { buffer?: unknown; length?: unknown };
  throw new MachineError(
    "bad_state",
    `The emulator's state holds an unknown ${typeof value} (${Object.keys(view).join()}).`,
  );
}

function unpack(value: Json | undefined, area: Uint8Array): unknown {
  if (value === null || value === undefined || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map((item) => unpack(item, area));
  if (Array.isArray(value.map)) {
    return new Map(value.map.map((pair) => unpack(pair, area) as [unknown, unknown]));
  }
  const type = ARRAYS[value.type as ArrayName];
  if (!type) throw new MachineError("bad_state", `The device state holds an unknown ${String(value.type)}.`);
  if (Array.isArray(value.values)) return type.from(value.values as number[]);
  const { at, bytes } = value as { at: number; bytes: number };
  if (!(at >= BLOCK && bytes >= 0 && at + bytes <= area.length)) {
    throw new MachineError("bad_state", "The device state of this snapshot points outside of itself.");
  }
  return new type(area.slice(at, at + bytes).buffer);
}
