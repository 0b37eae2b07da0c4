/** Functions that the core's translator has written: compiled here, and put into the core's table. */

/** What a core imports for it. */
export interface TranslatorImports {
  /** Compiles the module at that pointer; the table index of its `run`, or 0 when it can't be had. */
  translate(pointer: number, size: number): number;
  /** Takes a function out of the table. */
  discard(index: number): void;
}

/** The table grows by so many places. */
const GROWTH = 32;

/** One for each instance of the core; `attach` comes before the core runs. */
export class TranslatedFunctions implements TranslatorImports {
  private readonly memory: WebAssembly.Memory;
  private table: WebAssembly.Table | undefined;
  private readonly free: number[] = [];
  /** Functions made since the beginning, and bytes of their modules. */
  made = 0;
  bytes = 0;

  constructor(memory: WebAssembly.Memory) {
    this.memory = memory;
  }

  attach(table: WebAssembly.Table): void {
    this.table = table;
  }

  translate = (pointer: number, size: number): number => {
    const table = this.table;
    if (table === undefined) return 0;
    const code = new Uint8Array(this.memory.buffer, pointer, size).slice();
    let run: unknown;
    try {
      const module = new WebAssembly.Module(code);
      run = new WebAssembly.Instance(module, { env: { memory: this.memory, table } }).exports["run"];
    } catch (error) {
      // Not for want of memory: a module that does not validate is a fault of the translator.
      if (error instanceof WebAssembly.CompileError) throw error;
      return 0;
    }
    if (this.free.length === 0) {
      const first = table.grow(GROWTH);
      for (let i = GROWTH - 1; i >= 0; i -= 1) this.free.push(first + i);
    }
    const index = this.free.pop() ?? 0;
    table.set(index, run as () => void);
    this.made += 1;
    this.bytes += size;
    return index;
  };

  discard = (index: number): void => {
    this.table?.set(index, null);
    this.free.push(index);
  };
}
