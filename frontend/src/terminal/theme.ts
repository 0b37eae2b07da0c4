/** The terminal's colours, light and dark. Every ANSI colour is readable (contrast ≥ 4.5) on its background, but for "black on dark" and "white on light". */

import type { ITheme } from "@xterm/xterm";

const DARK: ITheme = {
  background: "#0d1110",
  foreground: "#dfe9e4",
  cursor: "#54d9a9",
  cursorAccent: "#0d1110",
  selectionBackground: "#28574a",
  black: "#2a303b",
  red: "#ff7b72",
  green: "#7ee787",
  yellow: "#e3b341",
  blue: "#79c0ff",
  magenta: "#d2a8ff",
  cyan: "#76e3ea",
  white: "#c9d1d9",
  brightBlack: "#8b949e",
  brightRed: "#ffa198",
  brightGreen: "#9ff0a8",
  brightYellow: "#f2cc60",
  brightBlue: "#a5d6ff",
  brightMagenta: "#e2c5ff",
  brightCyan: "#b3f0f5",
  brightWhite: "#ffffff",
};

const LIGHT: ITheme = {
  background: "#fffefb",
  foreground: "#191c20",
  cursor: "#0a6650",
  cursorAccent: "#fffefb",
  selectionBackground: "#bfe3d5",
  black: "#1c2430",
  red: "#b3201f",
  green: "#116329",
  yellow: "#7a4f01",
  blue: "#0a55b5",
  magenta: "#7a34b8",
  cyan: "#0b6470",
  white: "#dde2e9",
  brightBlack: "#57606a",
  brightRed: "#c4302b",
  brightGreen: "#1a7f37",
  brightYellow: "#8a5a00",
  brightBlue: "#1462c9",
  brightMagenta: "#8a45c9",
  brightCyan: "#1b7280",
  brightWhite: "#ffffff",
};

const ANSI = [
  "black",
  "red",
  "green",
  "yellow",
  "blue",
  "magenta",
  "cyan",
  "white",
  "brightBlack",
  "brightRed",
  "brightGreen",
  "brightYellow",
  "brightBlue",
  "brightMagenta",
  "brightCyan",
  "brightWhite",
] as const;

export function themeFor(scheme: "light" | "dark"): ITheme {
  return scheme === "dark" ? DARK : LIGHT;
}

/** The CSS colour of palette entry 0..255: 16 of the theme, a 6×6×6 cube, 24 greys (xterm's layout). */
export function paletteColour(index: number, theme: ITheme): string {
  if (index < 16) return theme[ANSI[index] as (typeof ANSI)[number]] ?? "#000000";
  if (index >= 232) {
    const grey = 8 + 10 * (index - 232);
    return `rgb(${grey} ${grey} ${grey})`;
  }
  const level = (n: number): number => (n === 0 ? 0 : 55 + 40 * n);
  const cube = index - 16;
  return `rgb(${level(Math.floor(cube / 36))} ${level(Math.floor(cube / 6) % 6)} ${level(cube % 6)})`;
}
