import { describe, expect, it } from "vitest";
import { CP437, boxArms } from "./cp437";
import { formatAgo, formatBytes } from "./format";
import { showsPrompt } from "./guest";
import { loadPreferences } from "./preferences";

describe("formats", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1 KB"],
    [312_400, "312 KB"],
    [999_600, "1 MB"],
    [1_440_000, "1.4 MB"],
    [38_000_000, "38 MB"],
  ])("%d bytes are %s", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it("tells how long ago", () => {
    const now = Date.parse("2026-01-02T12:00:00Z");
    expect(formatAgo("2026-01-02T11:59:40Z", now)).toBe("just now");
    expect(formatAgo("2026-01-02T11:56:00Z", now)).toBe("4 minutes ago");
    expect(formatAgo("2026-01-01T12:00:00Z", now)).toBe("yesterday");
    expect(formatAgo("nonsense", now)).toBe("");
  });
});

describe("a prompt", () => {
  it.each([
    ["root@box:~# ", true],
    ["last login\n$", true],
    ["[  1.2] Booting...", false],
    ["# done\nmore", false],
  ])("%j: %s", (screen, shown) => {
    expect(showsPrompt(screen)).toBe(shown);
  });
});

describe("code page 437", () => {
  it("has 256 characters in the right places", () => {
    expect(CP437).toHaveLength(256);
    expect(CP437.every((character) => character.length === 1)).toBe(true);
    expect(
      [0x01, 0x1f, 0x41, 0x7f, 0x80, 0xb3, 0xda, 0xdb, 0xe1, 0xf8, 0xfe].map((code) => CP437[code]),
    ).toEqual(Array.from("☺▼A⌂Ç│┌█ß°■"));
  });

  it("joins its lines as their names say", () => {
    expect(boxArms(0xc5)).toEqual({ left: 1, up: 1, right: 1, down: 1 });
    expect(boxArms(0xc9)).toEqual({ left: 0, up: 0, right: 2, down: 2 });
    expect(boxArms(0xda)).toEqual({ left: 0, up: 0, right: 1, down: 1 });
    expect(boxArms(0xdb)).toBeUndefined();
    expect(boxArms(0x41)).toBeUndefined();
  });
});

describe("preferences", () => {
  it.each([["{"], ['{"fontSize":900,"screenReader":"yes"}'], ["null"]])("of %s are the defaults", (saved) => {
    expect(loadPreferences({ getItem: () => saved })).toEqual({
      fontSize: 14,
      screenReader: false,
      extraKeys: undefined,
    });
  });

  it("come back", () => {
    const saved = '{"fontSize":22,"screenReader":true,"extraKeys":false}';
    expect(loadPreferences({ getItem: () => saved })).toEqual(JSON.parse(saved));
  });
});
