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
  it("test_it_works: follows the trail that reads are on, a few chunks at a time", async () => {
    const { asked, read, arrive } = setUp([
      [1, 2, 3],
      [50, 9, 70, 8, 60, 7, 61, 62],
    ]);
    read(50);
    expect(asked).toEqual([]); // any program may read one of them
    read(9);
    expect(asked).toEqual([70, 8, 60, 7]);
    await arrive();
    expect(asked).toHaveLength(4);
    read(70);
    expect(asked).toEqual([70, 8, 60, 7, 61]); // four under way
    await arrive();
    expect(asked).toEqual([70, 8, 60, 7, 61, 62]);
  });

  it("begins in the middle, and goes over to another trail", async () => {
    const { asked, read } = setUp([
      [1, 2, 3, 4, 5],
      [20, 3, 21, 22],
    ]);
    read(3);
    read(4);
    expect(asked).toEqual([5]);
    read(20);
    read(3); // leads on in the first trail
    read(20);
    expect(asked).toEqual([5]);
    read(21);
    expect(asked).toEqual([5, 22]);
  });

  it("takes two chunks of a trail that are far apart for chance", () => {
    const { asked, read } = setUp([Array.from({ length: 90 }, (_, i) => i)]);
    read(10);
    read(60);
    expect(asked).toEqual([]);
    read(61);
    expect(asked).toEqual([62, 63, 64, 65]);
  });

  it("does not run further ahead than its window", async () => {
    const { asked, read, arrive } = setUp([Array.from({ length: 90 }, (_, i) => i)]);
    for (let chunk = 0; chunk < 8; chunk++) {
      read(chunk);
      for (let i = 0; i < 40; i++) await arrive();
    }
    expect(Math.max(...asked)).toBe(7 + 32);
    read(30);
    for (let i = 0; i < 40; i++) await arrive();
    expect(Math.max(...asked)).toBe(30 + 32);
    read(5);
    expect(new Set(asked).size).toBe(asked.length);
  });

  it("leaves the network to those who wait for it", async () => {
    const { asked, read, state } = setUp([[1, 2, 3, 4, 5]]);
    state.busy = true;
    read(1);
    read(2);
    expect(asked).toEqual([]);
    state.busy = false;
    read(3);
    expect(asked).toEqual([4, 5]);
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
