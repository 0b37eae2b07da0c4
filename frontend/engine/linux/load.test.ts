import { expect, it } from "vitest";
import { LoadAverages } from "./load.ts";

const SECOND = 1e9;

it("follows how many threads can run, fast and slowly", () => {
  const load = new LoadAverages();
  let now = 0;
  const run = (seconds: number, threads: number): void => {
    for (let done = 0; done < seconds * 10; done += 1) {
      now += SECOND / 10;
      load.count(SECOND / 10, threads, now);
    }
  };
  expect(load.at(now)).toEqual([0, 0, 0]);
  run(4.9, 3);
  expect(load.at(now)).toEqual([0, 0, 0]);
  run(55.1, 3);
  const [one, five, fifteen] = load.at(now);
  expect(one).toBeCloseTo(3 * (1 - Math.exp(-1)), 1);
  expect(five).toBeCloseTo(3 * (1 - Math.exp(-1 / 5)), 1);
  expect(fifteen).toBeCloseTo(3 * (1 - Math.exp(-1 / 15)), 1);
  run(3600, 3);
  expect(load.at(now)[0]).toBeCloseTo(3, 3);
  now += 60 * SECOND; // nobody ran
  expect(load.at(now)[0]).toBeCloseTo(3 * Math.exp(-1), 2);
});
