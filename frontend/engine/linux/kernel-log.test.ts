import { expect, it } from "vitest";
import { KernelLog, LOG_BYTES } from "./kernel-log.ts";

it("keeps the last messages, whole", () => {
  const log = new KernelLog();
  for (let number = 0; number < 5000; number += 1) log.add(number * 1e6, `message ${number}`);
  const all = log.text(LOG_BYTES);
  expect(all.length).toBeLessThanOrEqual(LOG_BYTES);
  expect(all.length).toBeGreaterThan(LOG_BYTES - 100);
  expect(all.endsWith("<6>[    4.999000] message 4999\n")).toBe(true);
  expect(all.startsWith("<6>[")).toBe(true);
  expect(log.text(50)).toBe("<6>[    4.999000] message 4999\n");
});

it("shows what came since it was cleared, also when room was made", () => {
  const log = new KernelLog();
  for (let number = 0; number < 100; number += 1) log.add(0, "before");
  log.clear();
  expect(log.text(LOG_BYTES)).toBe("");
  for (let number = 0; number < 5000; number += 1) log.add(0, `after ${number}`);
  const all = log.text(LOG_BYTES);
  expect(all).not.toContain("before");
  expect(all.endsWith("after 4999\n")).toBe(true);
});
