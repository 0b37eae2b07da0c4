/** What the browser must have before anything is loaded. */

interface Globals {
  isSecureContext?: boolean;
  crypto?: { subtle?: unknown };
  WebAssembly?: {
    validate(bytes: Uint8Array<ArrayBuffer>): boolean;
    compileStreaming?: unknown;
    Module: new (bytes: Uint8Array<ArrayBuffer>) => unknown;
  };
  Worker?: new (url: string, options: WorkerOptions) => unknown;
  WebSocket?: unknown;
  caches?: unknown;
  indexedDB?: unknown;
  navigator?: { locks?: unknown };
}

const UPDATE = "Update this browser, or use a current Chrome, Edge, Firefox or Safari.";

/** One sentence that says what is missing and what to do, or undefined when the machine can run here. */
export function missingSupport(globals: Globals = globalThis as unknown as Globals): string | undefined {
  const { WebAssembly } = globals;
  if (globals.isSecureContext === false || !globals.crypto?.subtle)
    return "This page needs HTTPS (or http://localhost): over plain HTTP the browser gives it no way to check what it downloads. Open it with https://, or ask whoever runs this service to set it up.";
  if (!WebAssembly || !compiles(WebAssembly))
    return "This browser has WebAssembly switched off, so the machine cannot run in it. Allow it (Lockdown Mode and some policies switch it off) or use another browser.";
  if (!WebAssembly.compileStreaming)
    return `This browser cannot compile the emulator while it is downloaded. ${UPDATE}`;
  for (const { body, needed } of Object.values(PROBES))
    if (!WebAssembly.validate(moduleOf(body))) return `This browser's WebAssembly ${needed}. ${UPDATE}`;
  if (!globals.Worker || !takesModules(globals.Worker))
    return `This browser cannot run the machine beside the page (it has no module workers). ${UPDATE}`;
  if (!globals.WebSocket) return `This browser has no WebSocket, over which machines are saved. ${UPDATE}`;
  return undefined;
}

/** One sentence that says what goes less well here, or undefined when nothing does. */
export function reducedSupport(globals: Globals = globalThis as unknown as Globals): string | undefined {
  // Some browsers lack them in private windows, and throw when they are only looked at.
  const has = (look: () => unknown): boolean => {
    try {
      return Boolean(look());
    } catch {
      return false;
    }
  };
  const chunks = has(() => globals.caches) && has(() => globals.indexedDB);
  const journal = has(() => globals.indexedDB) && has(() => globals.navigator?.locks);
  if (!journal)
    return "This browser gives the page no storage (a private window?): what is not saved yet is lost with the tab, and every visit downloads the machine again.";
  if (!chunks)
    return "This browser gives the page no cache (a private window?): every visit downloads the machine again.";
  return undefined;
}

/**
 * What the emulator (v86.wasm) and the encoder of saves use beyond WebAssembly's first version: a function's body that only validates
 * where that is there. The names are those of the modules' own `target_features`.
 */
export const PROBES: Record<string, { body: readonly number[]; needed: string }> = {
  // i32.const 0, i8x16.splat, drop
  simd128: {
    body: [0x41, 0, 0xfd, 0x0f, 0x1a],
    needed: "has no SIMD instructions, which the emulator uses",
  },
  // i32.const 0 three times, memory.copy
  "bulk-memory": {
    body: [0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 0x0a, 0, 0],
    needed: "cannot copy memory in bulk, which the emulator does",
  },
  // f32.const 0, i32.trunc_sat_f32_s, drop
  "nontrapping-fptoint": {
    body: [0x43, 0, 0, 0, 0, 0xfc, 0, 0x1a],
    needed: "cannot convert every number, which the emulator does",
  },
  // i32.const 0, i32.extend8_s, drop
  "sign-ext": { body: [0x41, 0, 0xc0, 0x1a], needed: "cannot extend signs, which the emulator does" },
  // try, catch_all, end
  "exception-handling": {
    body: [0x06, 0x40, 0x19, 0x0b],
    needed: "has no exceptions, so that machines could not be saved",
  },
};

const HEADER = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];

/** A module with one function of the given body, without parameters and results, and a memory. */
function moduleOf(body: readonly number[]): Uint8Array<ArrayBuffer> {
  const code = [0, ...body, 0x0b];
  return Uint8Array.from([
    ...HEADER,
    ...[1, 4, 1, 0x60, 0, 0], // types
    ...[3, 2, 1, 0], // functions
    ...[5, 3, 1, 0, 1], // memory
    ...[10, code.length + 2, 1, code.length, ...code],
  ]);
}

/** A policy may forbid compiling where the names are all there. */
function compiles({ Module }: NonNullable<Globals["WebAssembly"]>): boolean {
  try {
    return Boolean(new Module(Uint8Array.from(HEADER)));
  } catch {
    return false;
  }
}

/** Only a browser that knows module workers asks for the option. The address is none, so nothing is started. */
function takesModules(Kind: NonNullable<Globals["Worker"]>): boolean {
  let asked = false;
  const options = {
    get type(): WorkerType {
      asked = true;
      return "module";
    },
  };
  try {
    new Kind("https://[", options);
  } catch {
    // as it must
  }
  return asked;
}
