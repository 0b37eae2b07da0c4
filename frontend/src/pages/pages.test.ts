import { describe, expect, test } from "vitest";
import { keepSecret, secretOf, takeSecret } from "./fragment";
import { amount, badgeClass, humanBytes, isOver, nextWait, percent, stateWords, type Job } from "./job";
import { otherTheme } from "./theme";
import { relativeTime } from "./time";

const job = (changes: Partial<Job> = {}): Job => ({
  state: "running",
  step: "fetch packages",
  done: 0,
  total: 0,
  unit: "",
  error: "",
  log: [],
  ...changes,
});

describe("relative times", () => {
  const now = Date.UTC(2026, 0, 31, 12);
  const at = (seconds: number): string => relativeTime(now + seconds * 1000, now);

  test.each([
    [0, "just now"],
    [-59, "just now"],
    [-60, "1 minute ago"],
    [-3599, "59 minutes ago"],
    [-7100, "1 hour ago"],
    [-86400, "yesterday"],
    [-20 * 86400, "2 weeks ago"],
    [-400 * 86400, "last year"],
    [30, "in less than a minute"],
    [7 * 86400 - 30, "in 7 days"],
    [3 * 3600, "in 3 hours"],
  ])("%d seconds away: %s", (seconds, words) => {
    expect(at(seconds)).toBe(words);
  });
});

describe("theme", () => {
  test("the toggle leaves the system's choice, then goes back and forth", () => {
    expect(otherTheme(undefined, true)).toBe("light");
    expect(otherTheme(undefined, false)).toBe("dark");
    expect(otherTheme("light", true)).toBe("dark");
    expect(otherTheme("dark", false)).toBe("light");
    expect(otherTheme("nonsense", false)).toBe("dark");
  });
});

describe("secrets in fragments", () => {
  const secret = "84iq6gFE_w5r-BrPZm26rAwEXUa_XQv9bzcJGyCFI40";

  test("a secret is taken, anything else is not", () => {
    expect(secretOf(`#${secret}`)).toBe(secret);
    expect(secretOf(secret)).toBe(secret);
    for (const hash of ["", "#", "#content", "#<b>aaaaaaaaaaaaaaaaaaaaaa</b>", `#${"a".repeat(200)}`]) {
      expect(secretOf(hash)).toBe("");
    }
  });

  test("it is found again after signing in, once, and only on its own page", () => {
    const rows = new Map<string, string>();
    const kept = {
      getItem: (key: string) => rows.get(key) ?? null,
      setItem: (key: string, value: string) => void rows.set(key, value),
      removeItem: (key: string) => void rows.delete(key),
    } as unknown as Storage;
    keepSecret(`#${secret}`, "/join/", kept);
    keepSecret("", "/join/", kept); // the page is looked at again without its fragment
    expect(takeSecret("", "/sign-in-link/", kept)).toBe("");
    expect(takeSecret("", "/join/", kept)).toBe(secret);
    expect(takeSecret("", "/join/", kept)).toBe("");
    expect(takeSecret(`#${secret}`, "/join/", kept)).toBe(secret);
  });
});

describe("publish jobs", () => {
  test("how far a step is", () => {
    expect(amount(job())).toBe("");
    expect(amount(job({ done: 3, total: 120, unit: "packages" }))).toBe("3 of 120 packages");
    expect(amount(job({ done: 31_200_000, total: 80_100_000, unit: "bytes" }))).toBe("31.2 MB of 80.1 MB");
    expect(amount(job({ done: 500, unit: "bytes" }))).toBe("500 B");
    expect(amount(job({ state: "failed", done: 3, total: 4 }))).toBe("");
  });

  test("percent, also of what lies about its size", () => {
    expect(percent(job())).toBeNull();
    expect(percent(job({ done: 1, total: 3 }))).toBe(33);
    expect(percent(job({ done: 9, total: 3 }))).toBe(100);
    expect(percent(job({ done: -1, total: 3 }))).toBe(0);
    expect(percent(job({ state: "succeeded" }))).toBe(100);
  });

  test("which states are the end", () => {
    expect(
      (["queued", "running", "succeeded", "failed", "cancelled"] as const).map((state) =>
        isOver(job({ state })),
      ),
    ).toEqual([false, false, true, true, true]);
  });

  test("a state of a newer service is shown as it is called", () => {
    const odd = job({ state: "paused" as Job["state"] });
    expect(stateWords(odd)).toBe("paused");
    expect(badgeClass(odd)).toBe("badge");
  });

  test("bytes", () => {
    expect([0, 999, 1000, 1_500_000, 250_000_000, 5e12].map(humanBytes)).toEqual([
      "0 B",
      "999 B",
      "1.0 kB",
      "1.5 MB",
      "250 MB",
      "5.0 TB",
    ]);
  });

  test("asks every second, and less often while nobody answers", () => {
    expect([0, 1, 2, 3, 4, 50].map(nextWait)).toEqual([1000, 2000, 4000, 8000, 15000, 15000]);
  });
});
