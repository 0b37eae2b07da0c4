import { describe, expect, test } from "vitest";
import { importPercent, importWords, isOver, sentenceOf, type Import } from "./import";

const job = (changes: Partial<Import> = {}): Import => ({
  id: "1",
  state: "running",
  step: "Checking the archive",
  done: 0,
  total: 0,
  error: "",
  vm: null,
  ...changes,
});

describe("imports", () => {
  test("how far one is", () => {
    expect(importWords(job({ done: 1_200_000_000, total: 2_400_000_000 }))).toBe(
      "Checking the archive: 1.2 GB of 2.4 GB",
    );
    expect(importWords(job({ done: 5_000_000 }))).toBe("Checking the archive: 5.0 MB");
    expect(importWords(job({ state: "queued" }))).toBe("Waiting for the worker");
    expect(importWords(job({ state: "failed", error: "No." }))).toBe("");
    expect([importPercent(job({ done: 3, total: 4 })), importPercent(job({ done: 9, total: 4 }))]).toEqual([
      75, 100,
    ]);
    expect(importPercent(job({ done: 3 }))).toBeNull();
  });

  test("which states are the end", () => {
    const states = ["receiving", "queued", "running", "succeeded", "failed", "cancelled"] as const;
    expect(states.map((state) => isOver(job({ state })))).toEqual([false, false, false, true, true, true]);
  });

  test("the sentence of a refusal, whoever answers", () => {
    expect(sentenceOf(413, '{"error": {"code": "x", "message": "Too large."}}')).toBe("Too large.");
    expect(sentenceOf(502, "<html>Bad gateway</html>")).toBe(
      "The service answered 502. Try again in a moment.",
    );
    expect(sentenceOf(500, '{"error": {"message": 5}}')).toBe(
      "The service answered 500. Try again in a moment.",
    );
  });
});
