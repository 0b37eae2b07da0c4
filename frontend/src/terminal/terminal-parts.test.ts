import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { PacedSender, extraKeySequence, preparePaste, withCtrl } from "./input";
import { decodeScreens, encodeScreens, encodeTerminal } from "./state";
import { paletteColour, themeFor } from "./theme";
import { TextWaiters } from "./waiters";

describe("a paste", () => {
  it("turns line ends into Enter", () => {
    expect(preparePaste("a\r\nb\nc", false)).toBe("a\rb\rc");
  });

  it("cannot end the brackets or smuggle control characters", () => {
    const hostile = "x\x1b[201~\rrm -rf /\x03\x9b201~\ty";
    expect(preparePaste(hostile, true)).toBe("\x1b[200~x[201~\rrm -rf /201~\ty\x1b[201~");
  });
});

describe("extra keys", () => {
  it("follow the cursor key mode", () => {
    expect(extraKeySequence("ArrowUp", false)).toBe("\x1b[A");
    expect(extraKeySequence("ArrowUp", true)).toBe("\x1bOA");
    expect(extraKeySequence("Tab", true)).toBe("\t");
  });

  it("Ctrl makes control characters of single characters only", () => {
    expect(withCtrl("c")).toBe("\x03");
    expect(withCtrl("[")).toBe("\x1b");
    expect(withCtrl(" ")).toBe("\x00");
    expect(withCtrl("é")).toBe("é");
    expect(withCtrl("pasted text")).toBe("pasted text");
  });
});

describe("the sender", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("sends a key at once and a long paste in order and in pieces", () => {
    const sent: Uint8Array[] = [];
    const sender = new PacedSender((bytes) => sent.push(bytes));
    sender.send(new Uint8Array([1]));
    expect(sent).toHaveLength(1);
    const long = Uint8Array.from({ length: 10_000 }, (_, i) => i & 255);
    sender.send(long);
    sender.send(new Uint8Array([99]));
    expect(sent.length).toBeLessThan(4);
    vi.runAllTimers();
    const all = sent.flatMap((bytes) => [...bytes]);
    expect(all).toEqual([1, ...long, 99]);
    expect(Math.max(...sent.map((bytes) => bytes.length))).toBeLessThanOrEqual(256);
    sender.send(new Uint8Array([7]));
    expect(sent.at(-1)).toEqual(new Uint8Array([7]));
  });
});

describe("a saved screen", () => {
  it("comes back as it was", () => {
    const saved = { columns: 120, rows: 40, content: "\x1b[31mré\x1b[0m\n\nx" };
    expect(decodeScreens(encodeTerminal(saved))).toEqual({ shown: 0, screens: new Map([[0, saved]]) });
  });

  it("comes back with those of the other terminals", () => {
    const screens = new Map([
      [0, { columns: 80, rows: 24, content: "first\n" }],
      [2, { columns: 120, rows: 40, content: "\x1b[31mré\x1b[0m\n\nx" }],
      [3, { columns: 80, rows: 24, content: "" }],
    ]);
    expect(decodeScreens(encodeScreens({ shown: 2, screens }, 4096))).toEqual({ shown: 2, screens });
  });

  it("is left out for want of room, the shown one last", () => {
    const screens = new Map([0, 1, 2].map((n) => [n, { columns: 80, rows: 24, content: "x".repeat(1000) }]));
    const fitted = (most: number): number[] => {
      const bytes = encodeScreens({ shown: 1, screens }, most);
      expect(bytes.length).toBeLessThanOrEqual(most);
      return [...(decodeScreens(bytes)?.screens.keys() ?? [])];
    };
    expect(fitted(4096)).toEqual([1, 0, 2]);
    expect(fitted(2500)).toEqual([1, 0]);
    expect(fitted(1500)).toEqual([1]);
    expect(fitted(500)).toEqual([]);
  });

  it.each([
    "",
    "no head",
    '{"version":3,"columns":80,"rows":24}\nx',
    '{"version":2,"columns":80,"rows":24}\nx',
    '{"version":2,"shown":0,"terminals":[{"terminal":0,"columns":80,"rows":24,"bytes":2}]}\nx',
    '{"version":2,"shown":0,"terminals":[{"terminal":0,"columns":80,"rows":24,"bytes":1}]}\nxx',
    '{"version":2,"shown":0,"terminals":[{"terminal":-1,"columns":80,"rows":24,"bytes":1}]}\nx',
    '{"version":2,"shown":0,"terminals":[null]}\nx',
    '{"version":1,"columns":80000,"rows":24}\nx',
    '{"version":1,"columns":"80","rows":24}\nx',
    "null\nx",
  ])("is ignored when it is %j", (text) => {
    expect(decodeScreens(new TextEncoder().encode(text))).toBeUndefined();
  });
});

describe("waiting for text", () => {
  it("finds what is there, what comes, and gives up", async () => {
    let screen = "hello";
    const waiters = new TextWaiters(() => screen);
    expect(await waiters.wait(/h(.)l/g, 100)).toBe("hel");
    const later = waiters.wait(/world/, 1000);
    const never = waiters.wait(/never/, 60).catch((error: unknown) => error);
    screen = "hello world";
    waiters.changed();
    expect(await later).toBe("world");
    expect(await never).toMatchObject({ code: "timeout" });
  });
});

describe("the palette", () => {
  it("has xterm's 256 colours", () => {
    const theme = themeFor("dark");
    expect(paletteColour(1, theme)).toBe(theme.red);
    expect(paletteColour(16, theme)).toBe("rgb(0 0 0)");
    expect(paletteColour(196, theme)).toBe("rgb(255 0 0)");
    expect(paletteColour(255, theme)).toBe("rgb(238 238 238)");
  });

  it.each(["light", "dark"] as const)("is readable in %s", (scheme) => {
    const theme = themeFor(scheme);
    const hidden = scheme === "dark" ? ["black"] : ["white", "brightWhite"];
    const names = [
      "red",
      "green",
      "yellow",
      "blue",
      "magenta",
      "cyan",
      "black",
      "white",
      "brightBlack",
      "foreground",
    ];
    for (const name of names.filter((each) => !hidden.includes(each))) {
      const ratio = contrast(theme[name as "red"] ?? "", theme.background ?? "");
      expect(ratio, name).toBeGreaterThanOrEqual(4.5);
    }
  });
});

function contrast(one: string, other: string): number {
  const light = (hex: string): number => {
    const [r, g, b] = [1, 3, 5].map((at) => {
      const value = parseInt(hex.slice(at, at + 2), 16) / 255;
      return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    }) as [number, number, number];
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [a, b] = [light(one), light(other)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
