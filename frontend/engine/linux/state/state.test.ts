import { describe, expect, it } from "vitest";
import { PAGE_SIZE } from "../abi.ts";
import { StateError } from "./contract.ts";
import { LAYOUT, type MachineOptions, restoreMachine } from "./state.ts";

const MEMORY_MIB = 1;
const FIRST = MEMORY_MIB * 256;
const options = {
  host: { continueFrom: () => {}, realtime: () => ({ seconds: 0, nanoseconds: 0 }), monotonic: () => 0 },
  module: new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0)),
  memoryMib: MEMORY_MIB,
  hostObjects: {},
} as unknown as MachineOptions;

/** Blocks with a text behind a header. */
function saved(text: string, header: Partial<Record<"magic" | "layout" | "size" | "first", number>> = {}) {
  const bytes = new TextEncoder().encode(text);
  const all = new Uint8Array(Math.ceil((bytes.length + 16) / PAGE_SIZE) * PAGE_SIZE);
  const { magic = 0x4d56_4c57, layout = LAYOUT, size = bytes.length, first = FIRST } = header;
  new Int32Array(all.buffer).set([magic, layout, size, first]);
  all.set(bytes, 16);
  return (number: number): Uint8Array | undefined => {
    const at = (number - FIRST) * PAGE_SIZE;
    return at >= 0 && at < all.length ? all.subarray(at, at + PAGE_SIZE) : undefined;
  };
}

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof StateError) return error.code;
    throw error;
  }
  return "none";
}

describe("a saved machine that is none", () => {
  const refused = (read: ReturnType<typeof saved>): string => codeOf(() => restoreMachine(options, read));

  it("is refused by its header", () => {
    expect(refused(() => undefined)).toBe("bad_state");
    expect(refused(saved("{}", { magic: 1 }))).toBe("bad_state");
    expect(refused(saved("{}", { layout: 999 }))).toBe("state_version");
    expect(refused(saved("{}", { first: FIRST + 1 }))).toBe("memory_size");
  });

  it("is refused when it is no text, too short, or about nothing", () => {
    expect(refused(saved("no JSON"))).toBe("bad_state");
    expect(refused(saved('{"monotonic":1,"shapes":[],"objects":[]}', { size: 9 }))).toBe("bad_state");
    expect(refused(saved('{"monotonic":1,"shapes":[],"objects":[]}'))).toBe("bad_state");
    expect(refused(saved('{"monotonic":1,"shapes":[["Nobody","x"]],"objects":[["o",0,0,1]]}'))).toBe(
      "state_version",
    );
  });

  it("reaches no prototype and no function that a fresh machine does not have", () => {
    const text = (objects: unknown[], shapes: unknown[] = []): string =>
      JSON.stringify({ monotonic: 1, shapes, objects });
    expect(
      refused(
        saved(
          text(
            [
              ["o", 0, 0, [1]],
              ["a", 0],
            ],
            [["", "__proto__"]],
          ),
        ),
      ),
    ).toBe("bad_state");
    expect(refused(saved(text([["a", 0, ["f", "machine/constructor"]]])))).toBe("state_version");
    expect(({} as Record<string, unknown>)["length"]).toBeUndefined();
  });

  it("has no pages outside of the guest's memory", () => {
    const text = (...runs: number[]): string =>
      JSON.stringify({ monotonic: 1, shapes: [], objects: [["x", 0, 1, 1, ...runs]] });
    for (const runs of [
      [0, 1, 0, 1],
      [2 ** 20, 1, 0, 1],
      [1, 2 ** 20, 0, 1],
      [1, 1, -1, 1],
      [1, 1, 0, 128],
      [1, 1],
    ]) {
      expect(refused(saved(text(...runs)))).toBe("bad_state");
    }
  });
});
