import { describe, expect, it } from "vitest";
import { Random } from "../../testing/random";
import { nextPageIn } from "./zero-pages";

const PAGE = 4096;

function pagesFound(memory: WebAssembly.Memory, from: number, end: number): number[] {
  const next = nextPageIn(memory);
  const found: number[] = [];
  for (let at = next(from, end); at < end; at = next(at + PAGE, end)) found.push(at);
  return found;
}

describe("the pages that are not zeros", () => {
  it("are those with any byte, anywhere", () => {
    const memory = new WebAssembly.Memory({ initial: 4 });
    const bytes = new Uint8Array(memory.buffer);
    for (let byte = 0; byte < PAGE; byte++) {
      bytes[3 * PAGE + byte] = 1;
      expect(pagesFound(memory, 0, 8 * PAGE)).toEqual([3 * PAGE]);
      bytes[3 * PAGE + byte] = 0;
    }
    expect(pagesFound(memory, 0, 8 * PAGE)).toEqual([]);
  });

  it("are found like one by one, in a memory that does not begin at a page, and after it has grown", () => {
    const memory = new WebAssembly.Memory({ initial: 4 });
    const random = new Random(7);
    const base = 8192 + 16;
    for (let round = 0; round < 20; round++) {
      const bytes = new Uint8Array(memory.buffer).fill(0);
      const count = Math.floor((bytes.length - base) / PAGE);
      const expected = new Set<number>();
      for (let i = 0; i < round; i++) {
        const at = base + random.below(count * PAGE);
        bytes[at] = 1 + random.below(255);
        expected.add(base + Math.floor((at - base) / PAGE) * PAGE);
      }
      expect(pagesFound(memory, base, base + count * PAGE)).toEqual([...expected].sort((a, b) => a - b));
      if (round === 10) memory.grow(3);
    }
  });

  it("are none in an empty range", () => {
    const memory = new WebAssembly.Memory({ initial: 1 });
    expect(nextPageIn(memory)(PAGE, PAGE)).toBe(PAGE);
  });
});
