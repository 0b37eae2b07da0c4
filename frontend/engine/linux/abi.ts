/** The core's ABI: `core/abi.h` in TypeScript. */

export const GUEST_BASE = 32 * 1024 * 1024;
export const GUEST_END = 2 ** 32 - GUEST_BASE;
export const PAGE_SHIFT = 12;
export const PAGE_SIZE = 4096;

export const PAGE_READ = 1;
export const PAGE_WRITE = 2;
export const PAGE_EXEC = 4;
export const PAGE_WRITABLE = 8;
export const PAGE_CODE = 16;
export const PAGE_DIRTY = 32;

export const EXIT_BUDGET = 1;
export const EXIT_SYSCALL = 2;
export const EXIT_PAGE_FAULT = 3;
export const EXIT_INVALID_OPCODE = 4;
export const EXIT_DIVIDE_ERROR = 5;
export const EXIT_BREAKPOINT = 6;
export const EXIT_GENERAL_PROTECTION = 7;
export const EXIT_FPU_ERROR = 8;
export const EXIT_SIMD_ERROR = 9;
export const EXIT_TRAP = 10;
export const EXIT_INT80 = 11;
export const EXIT_UNIMPLEMENTED = 12;
export const EXIT_INTERNAL = 13;
export const EXIT_STACK_FAULT = 14;

/** Offsets in `Cpu`. */
export const CPU_GPR = 0;
export const CPU_RIP = 128;
export const CPU_RFLAGS = 136;
export const CPU_FS_BASE = 144;
export const CPU_GS_BASE = 152;
export const CPU_FPU_CONTROL = 544;
export const CPU_FPU_STATUS = 546;
export const CPU_MXCSR = 568;
export const CPU_EXIT_REASON = 572;
export const CPU_EXIT_ADDRESS = 576;
export const CPU_EXIT_ACCESS = 584;
export const CPU_INSTRUCTIONS = 592;
/** 16 bits each: es, ds, fs, gs. */
export const CPU_SELECTORS = 600;
export const CPU_SIZE = 608;

/** What an instance of the core exports. Addresses named `pointer` are wasm addresses, others are the guest's. */
export interface CoreExports {
  /** Makes the instance ready; once, after instantiation. */
  initialize(): void;
  /** Pointer to the processor's state. */
  cpu(): number;
  /** Pointer to the page table: a byte for each page of the 4 GiB. */
  pages(): number;
  /** Runs about `budget` instructions; an `EXIT_*`. */
  run(budget: number): number;
  /** Runs one instruction; `EXIT_BUDGET` behind it, or why it could not. */
  step(): number;
  /**
   * Sets the bits of pages (`PAGE_READ`, `PAGE_WRITABLE`, `PAGE_EXEC`, and `PAGE_DIRTY` where it shall be set) and drops what was decoded from them.
   */
  setPages(firstPage: number, count: number, bits: number): void;
  /** Linux has written guest memory itself: pages become dirty, decoded code there is dropped. */
  wrote(address: number, length: number): void;
  /** Clears `PAGE_DIRTY` of pages, so that the next store sets it again. */
  clean(firstPage: number, count: number): void;
  /** Translates what begins there now, hot or not; 1 if it could. */
  translate(address: number): number;
  /** Drops all decoded and translated code. */
  flush(): void;
  /** FXSAVE's 512 bytes to and from that pointer (not guest memory). */
  saveFpu(pointer: number): void;
  loadFpu(pointer: number): void;
  /** Pointer to `size` bytes of scratch space of the core (at least 64 KiB), for arguments. */
  scratch(): number;
  readonly __indirect_function_table: WebAssembly.Table;
}

/** What the core imports from module `env`. */
export interface CoreImports {
  memory: WebAssembly.Memory;
  /** Time stamp counter: nanoseconds, or faster, as 64 bits. */
  tsc(): bigint;
  /** Compiles the module that the translator has written at that pointer; its function's table index, or 0 when it can't be had. */
  translate(pointer: number, size: number): number;
  /** That function is not called any more. */
  discard(index: number): void;
}
