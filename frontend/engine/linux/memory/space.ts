/** An address space: a wasm memory with its instance of the core. */

import { CPU_SIZE, GUEST_BASE, type CoreExports, type CoreImports } from "../abi.ts";
import { E, Errno } from "../errno.ts";
import { Registers } from "../registers.ts";
import { TranslatedFunctions } from "./translated.ts";

const WASM_PAGE = 65536;
/** The memory grows by at least this, so that growing stays rare. */
const GROWTH = 16 * 1024 * 1024;
/** A memory that grew beyond this is not used again: the pages it has touched would stay. */
const RECYCLED_AT_MOST = 256 * 1024 * 1024;
const RECYCLED = 16;
/** Nor is one where more pages than these were filled: they would stay with it. */
const PAGES_AT_MOST = 8192;

interface Instance {
  memory: WebAssembly.Memory;
  core: CoreExports;
}

/** Makes instances of the core and keeps a few that have been given back. */
export class CorePool {
  private readonly module: WebAssembly.Module;
  private readonly tsc: () => bigint;
  private readonly free: Instance[] = [];

  constructor(module: WebAssembly.Module, tsc: () => bigint) {
    this.module = module;
    this.tsc = tsc;
  }

  /** `size`: bytes that the whole memory will soon need. */
  take(size = 0): Instance {
    const free = this.free.pop();
    if (free !== undefined) return free;
    let memory: WebAssembly.Memory;
    try {
      memory = new WebAssembly.Memory({
        initial: Math.max(GUEST_BASE + GROWTH, size) / WASM_PAGE,
        maximum: 65536,
      });
    } catch {
      throw new Errno(E.NOMEM);
    }
    const functions = new TranslatedFunctions(memory);
    const env: CoreImports = {
      memory,
      tsc: this.tsc,
      translate: functions.translate,
      discard: functions.discard,
    };
    const instance = new WebAssembly.Instance(this.module, { env: { ...env } });
    const core = instance.exports as unknown as CoreExports;
    functions.attach(core.__indirect_function_table);
    core.initialize();
    return { memory, core };
  }

  /** None of its pages may be there any more; `filled`: how many it had at the most. */
  give(instance: Instance, filled: number): void {
    if (
      filled > PAGES_AT_MOST ||
      this.free.length >= RECYCLED ||
      instance.memory.buffer.byteLength > RECYCLED_AT_MOST
    )
      return;
    this.free.push(instance);
  }
}

/** Pages of it are what `maps` says; this class only knows bytes. Shared by the threads that run in it. */
export class AddressSpace {
  readonly core: CoreExports;
  readonly pool: CorePool;
  /** Threads and vfork children in it; at 0 the memory goes back to the pool. */
  users = 0;
  /** How many pages of it were filled at the most. */
  filled = 0;
  /** Whose processor is in the core now. */
  loaded: { cpu: Uint8Array } | undefined;
  /** The whole wasm memory; guest address `a` is at `GUEST_BASE + a`. */
  bytes: Uint8Array;
  view: DataView;
  /** Page table: a byte for each page. */
  pages: Uint8Array;
  registers: Registers;
  private readonly instance: Instance;
  private readonly cpu: number;
  private readonly pageTable: number;

  constructor(pool: CorePool, size = 0) {
    this.pool = pool;
    this.instance = pool.take(size);
    this.core = this.instance.core;
    this.cpu = this.core.cpu();
    this.pageTable = this.core.pages();
    const buffer = this.instance.memory.buffer;
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.pages = new Uint8Array(buffer, this.pageTable, 1 << 20);
    this.registers = new Registers(this.view, this.cpu);
  }

  private renew(): void {
    const buffer = this.instance.memory.buffer;
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.pages = new Uint8Array(buffer, this.pageTable, 1 << 20);
    this.registers = new Registers(this.view, this.cpu);
  }

  /** Makes sure that guest addresses below `end` have bytes behind them. ENOMEM when the host refuses. */
  reach(end: number): void {
    const need = GUEST_BASE + end;
    const have = this.bytes.length;
    if (need <= have) return;
    const wanted = Math.min(Math.max(need, have + GROWTH), 65536 * WASM_PAGE);
    try {
      this.instance.memory.grow(Math.ceil((wanted - have) / WASM_PAGE));
    } catch {
      throw new Errno(E.NOMEM);
    }
    this.renew();
  }

  /** Puts that thread's processor into the core. */
  load(thread: { cpu: Uint8Array }): void {
    if (this.loaded === thread) return;
    this.unload();
    this.bytes.set(thread.cpu, this.cpu);
    this.loaded = thread;
  }

  /** Copies the processor in the core back to its thread. */
  unload(): void {
    if (this.loaded === undefined) return;
    this.loaded.cpu.set(this.bytes.subarray(this.cpu, this.cpu + CPU_SIZE));
    this.loaded = undefined;
  }

  /** Instructions that the loaded thread has run, modulo 2^32. */
  instructions(): number {
    return this.view.getUint32(this.cpu + 592, true);
  }

  exitAddress(): bigint {
    return this.view.getBigUint64(this.cpu + 576, true);
  }

  exitAccess(): number {
    return this.view.getUint32(this.cpu + 584, true);
  }

  /** 512 bytes as FXSAVE makes them, of the loaded thread. */
  saveFpu(): Uint8Array {
    const at = this.core.scratch();
    this.core.saveFpu(at);
    return this.bytes.slice(at, at + 512);
  }

  loadFpu(image: Uint8Array): void {
    const at = this.core.scratch();
    this.bytes.set(image, at);
    this.core.loadFpu(at);
  }

  /** Bytes of guest memory without any check. */
  raw(address: number, length: number): Uint8Array {
    return this.bytes.subarray(GUEST_BASE + address, GUEST_BASE + address + length);
  }

  enter(): void {
    this.users += 1;
  }

  /** The last one gives the memory back. */
  leave(): void {
    this.users -= 1;
    if (this.users > 0) return;
    this.loaded = undefined;
    this.pool.give(this.instance, this.filled);
  }
}
