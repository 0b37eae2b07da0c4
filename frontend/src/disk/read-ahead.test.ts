import { describe, expect, it } from "vitest";
import { ReadAhead } from "./read-ahead";

function setUp(trails: number[][]) {
  const asked: number[] = [];
  const waiting: (() => void)[] = [];
  const here = new Set<number>();
  const state = { busy: false };
  const ahead = new ReadAhead({
    chunks: 100,
    trails,
    isBusy: () => state.busy,
    fetch: (chunk) => {
      if (here.has(chunk)) return undefined;
      here.add(chunk);
      asked.push(chunk);
      return new Promise((resolve) => waiting.push(resolve));
    },
  });
  const read = (chunk: number): void => {
    here.add(chunk);
    ahead.note({ first: chunk, last: chunk, block: chunk * 1000, end: chunk * 1000 + 1 }); // never a run
  };
  /** Lets the fetch that was begun first end. */
  const arrive = async (): Promise<void> => {
    waiting.shift()?.();
    await new Promise((resolve) => setTimeout(resolve));
  };
  return { ahead, asked, read, arrive, state };
}

describe("ReadAhead", () => {
  it("test_it_works: follows the trail that a read is on, a few chunks at a time", async () => {
    const { asked, read, arrive } = setUp([
      [1, 2, 3],
      [50, 9, 70, 8, 60, 7],
    ]);
    read(50);
    expect(asked).toEqual([9, 70, 8, 60]);
    await arrive();
    expect(asked).toEqual([9, 70, 8, 60, 7]);
    await arrive();
    expect(asked).toHaveLength(5);
  });

  it("begins in the middle, and goes over to another trail", async () => {
    const { asked, read, arrive } = setUp([
      [1, 2, 3, 4],
      [20, 3, 21],
    ]);
    read(3);
    expect(asked).toEqual([4]);
    await arrive();
    read(20);
    expect(asked).toEqual([4, 21]); // 3 is at hand
  });

  it("does not run further ahead than its window", async () => {
    const { asked, read, arrive } = setUp([Array.from({ length: 90 }, (_, i) => i)]);
    read(0);
    for (let i = 0; i < 90; i++) await arrive();
    expect(asked).toHaveLength(32);
    read(40);
    for (let i = 0; i < 90; i++) await arrive();
    expect(Math.max(...asked)).toBe(72);
    expect(asked).not.toContain(35); // behind the guest by now
  });

  it("leaves the network to those who wait for it", async () => {
    const { asked, read, state } = setUp([[1, 2, 3]]);
    state.busy = true;
    read(1);
    expect(asked).toEqual([]);
    state.busy = false;
    read(1);
    expect(asked).toEqual([2, 3]);
  });

  it("reads ahead of a run of reads, more and more, to the end of the disk", () => {
    const { ahead, asked } = setUp([]);
    const note = (chunk: number): void =>
      ahead.note({ first: chunk, last: chunk, block: chunk * 64, end: (chunk + 1) * 64 });
    note(90);
    expect(asked).toEqual([]);
    note(91);
    note(92);
    note(93);
    expect(asked).toEqual([92, 93, 94, 95, 96, 97]);
    for (let chunk = 94; chunk < 100; chunk++) note(chunk);
    expect(Math.max(...asked)).toBe(99);
    expect(new Set(asked).size).toBe(asked.length);
  });
});
