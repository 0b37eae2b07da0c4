import { describe, expect, it } from "vitest";
import { fittingFont, LEAST_FONT, scrolledTo } from "./watched-size";

/** 100 columns and 30 rows, as browsers draw them: rows are whole pixels high. */
const sizeAt = (font: number): { width: number; height: number } => ({
  width: 100 * font * 0.6,
  height: 30 * Math.ceil(font * 1.17),
});

describe("the letters of what is watched", () => {
  it("are as large as wanted where there is room, and no larger", () => {
    expect(fittingFont(14, { width: 2000, height: 2000 }, sizeAt)).toBe(14);
  });

  it("get smaller until the whole screen fits", () => {
    for (const place of [
      { width: 700, height: 900 },
      { width: 2000, height: 400 },
      { width: 610, height: 361 },
    ]) {
      const font = fittingFont(14, place, sizeAt);
      const { width, height } = sizeAt(font);
      expect(font).toBeGreaterThan(LEAST_FONT);
      expect(width).toBeLessThanOrEqual(place.width);
      expect(height).toBeLessThanOrEqual(place.height);
      const next = sizeAt(font + 1);
      expect(next.width > place.width || next.height > place.height).toBe(true);
    }
  });

  it("stay large enough to read, and are not enlarged for that", () => {
    expect(fittingFont(14, { width: 100, height: 100 }, sizeAt)).toBe(LEAST_FONT);
    expect(fittingFont(6, { width: 100, height: 100 }, sizeAt)).toBe(6);
  });
});

describe("scrolling to the cursor", () => {
  it.each([
    ["is left alone when it is seen", 100, 150, 166, 100],
    ["goes down to it", 100, 290, 306, 106],
    ["goes up to it", 100, 48, 64, 48],
    ["does not begin before the start", 0, 0, 16, 0],
    ["shows the beginning of what is larger than the view", 0, 40, 400, 40],
  ])("%s", (_what, now, from, to, expected) => {
    expect(scrolledTo(now, 200, from, to)).toBe(expected);
  });
});
