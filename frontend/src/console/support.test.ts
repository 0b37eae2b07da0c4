import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { Zstd } from "@hpcc-js/wasm-zstd";
import { describe, expect, it } from "vitest";
import { missingSupport, PROBES, reducedSupport } from "./support";

/** As browsers do it: the option is read, then the address is found wrong. */
class ModernWorker {
  constructor(url: string, options: WorkerOptions) {
    void options.type;
    new URL(url);
  }
}

class OldWorker {
  constructor(url: string) {
    new URL(url);
  }
}

const able = {
  isSecureContext: true,
  crypto: { subtle: {} },
  WebAssembly,
  Worker: ModernWorker,
  WebSocket: {},
  caches: {},
  indexedDB: {},
  navigator: { locks: {} },
};

const { validate, compileStreaming, Module } = WebAssembly;

/** A WebAssembly that knows no instruction whose bytes are these. */
function lacking(...bytes: number[]): typeof able {
  const without = (module: BufferSource): boolean => {
    const text = (part: Iterable<number>): string => [...part].join(",");
    return validate(module) && !text(module as Uint8Array).includes(text(bytes));
  };
  return { ...able, WebAssembly: { compileStreaming, Module, validate: without } as typeof WebAssembly };
}

describe("the preflight", () => {
  it("lets an able browser through", () => {
    expect(missingSupport(able)).toBeUndefined();
    expect(reducedSupport(able)).toBeUndefined();
  });

  it.each([
    ["an insecure page", { ...able, isSecureContext: false }, /HTTPS/],
    ["no crypto.subtle", { ...able, crypto: {} }, /HTTPS/],
    ["no WebAssembly", { ...able, WebAssembly: undefined }, /switched off/],
    [
      "a policy against WebAssembly",
      { ...able, WebAssembly: { validate, compileStreaming, Module: ModernWorker } },
      /switched off/,
    ],
    ["no streaming", { ...able, WebAssembly: { validate, Module } }, /while it is downloaded/],
    ["no SIMD", lacking(0xfd, 0x0f), /no SIMD/],
    ["no bulk memory", lacking(0xfc, 0x0a), /in bulk/],
    ["no saturating conversions", lacking(0xfc, 0, 0x1a), /convert every number/],
    ["no sign extension", lacking(0xc0, 0x1a), /extend signs/],
    ["no exceptions", lacking(0x06, 0x40), /no exceptions/],
    ["no workers", { ...able, Worker: undefined }, /module workers/],
    ["no module workers", { ...able, Worker: OldWorker }, /module workers/],
    ["no WebSocket", { ...able, WebSocket: undefined }, /WebSocket/],
  ])("says one sentence and what to do: %s", (_what, globals, sentence) => {
    const said = missingSupport(globals as Parameters<typeof missingSupport>[0]);
    expect(said).toMatch(sentence);
    expect(said).toMatch(/Open it with|Allow it|Update this browser/);
  });

  it.each([
    ["no Cache Storage", { ...able, caches: undefined }, /^This browser gives the page no cache/],
    ["no IndexedDB", { ...able, indexedDB: undefined }, /lost with the tab/],
    ["no Web Locks", { ...able, navigator: {} }, /lost with the tab/],
  ])("lets the machine run, and says what goes less well: %s", (_what, globals, sentence) => {
    expect(missingSupport(globals as typeof able)).toBeUndefined();
    expect(reducedSupport(globals as typeof able)).toMatch(sentence);
  });

  it("survives a browser that throws when its storage is looked at", () => {
    const globals = Object.defineProperty({ ...able }, "indexedDB", {
      get: () => {
        throw new DOMException("no", "SecurityError");
      },
    });
    expect(reducedSupport(globals)).toMatch(/no storage/);
  });
});

describe("what the WebAssembly modules need", () => {
  /** Named by the compiler, and in every browser that has the others; no instruction of the emulator is of them. */
  const OLDER = [
    "multivalue",
    "mutable-globals",
    "reference-types",
    "bulk-memory-opt",
    "call-indirect-overlong",
  ];

  it("is probed: all features that v86 was built with", () => {
    const v86 = dirname(createRequire(import.meta.url).resolve("v86"));
    const features = featuresOf(readFileSync(join(v86, "v86.wasm")));
    expect(features).toContain("simd128");
    const probed = [...Object.keys(PROBES), ...OLDER];
    expect(features.filter((name) => !probed.includes(name))).toEqual([]);
  });

  it("is there where the tests run: both modules work", async () => {
    expect((await Zstd.load()).compress(new Uint8Array(100)).length).toBeGreaterThan(0);
    expect(missingSupport({ ...able, WebAssembly })).toBeUndefined();
  });
});

/** The names in a module's `target_features` section. */
function featuresOf(wasm: Uint8Array): string[] {
  const module = new WebAssembly.Module(Uint8Array.from(wasm));
  const [section] = WebAssembly.Module.customSections(module, "target_features");
  const text = new TextDecoder("latin1").decode(section);
  return [...text.matchAll(/\+[\x01-\x40]([a-z0-9-]+)/g)].map((match) => match[1] ?? "");
}
