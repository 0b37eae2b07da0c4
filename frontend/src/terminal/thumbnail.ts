/** A small picture of a screen, for the list of machines and the history. */

import type { IBufferCell, Terminal } from "@xterm/xterm";
import { paletteColour, themeFor } from "./theme";

const WIDTH = 480;
const HEIGHT = 300;
const MOST_BYTES = 64 * 1024;

/** Draws the visible screen of a terminal with its colours. Always dark, so that the list of machines looks of one piece. */
export function drawTerminal(terminal: Terminal): HTMLCanvasElement {
  const theme = themeFor("dark");
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const context = canvas.getContext("2d");
  if (!context) return canvas;
  const background = theme.background ?? "#000";
  const foreground = theme.foreground ?? "#fff";
  context.fillStyle = background;
  context.fillRect(0, 0, WIDTH, HEIGHT);

  // A wide terminal is cut at the right rather than made unreadably small.
  const columns = Math.min(terminal.cols, 80);
  const width = (WIDTH - 12) / columns;
  const height = width * 1.9;
  const buffer = terminal.buffer.active;
  // As many lines as fit, the last of them being the last that has something on it (or the cursor).
  const fit = Math.floor((HEIGHT - 12) / height);
  let used = buffer.cursorY + 1;
  for (let row = terminal.rows - 1; row >= used; row--) {
    if (buffer.getLine(buffer.baseY + row)?.translateToString(true)) used = row + 1;
  }
  const first = Math.max(0, used - fit);
  context.textBaseline = "middle";
  const font = `${(width * 1.66).toFixed(2)}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace`;
  const cell = buffer.getNullCell();
  for (let row = first; row < used; row++) {
    const line = buffer.getLine(buffer.baseY + row);
    if (!line) continue;
    const y = 6 + (row - first) * height;
    for (let column = 0; column < columns; column++) {
      if (!line.getCell(column, cell)) break;
      const x = 6 + column * width;
      const colours = cellColours(cell, background, foreground);
      if (colours.background !== background) {
        context.fillStyle = colours.background;
        context.fillRect(x, y, width * Math.max(1, cell.getWidth()) + 0.5, height + 0.5);
      }
      const characters = cell.getChars();
      if (characters === "" || characters === " " || cell.isInvisible()) continue;
      context.font = cell.isBold() ? `bold ${font}` : font;
      context.fillStyle = colours.foreground;
      context.fillText(characters, x, y + height / 2);
    }
  }
  return canvas;
}

/** Fits any canvas into the picture's size. */
export function shrink(source: HTMLCanvasElement): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const context = canvas.getContext("2d");
  if (!context || source.width === 0 || source.height === 0) return canvas;
  context.fillStyle = "#000";
  context.fillRect(0, 0, WIDTH, HEIGHT);
  const scale = Math.min(WIDTH / source.width, HEIGHT / source.height);
  const width = source.width * scale;
  const height = source.height * scale;
  context.drawImage(source, (WIDTH - width) / 2, (HEIGHT - height) / 2, width, height);
  return canvas;
}

/** Base64 of a WebP (PNG where the browser has no WebP encoder) of at most 64 KiB, null when it cannot be made so small. */
export async function encodePicture(canvas: HTMLCanvasElement): Promise<string | null> {
  for (const quality of [0.8, 0.5, 0.2]) {
    const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/webp", quality));
    if (!blob || blob.size > MOST_BYTES) continue;
    if (blob.type !== "image/webp" && blob.type !== "image/png") return null;
    const bytes = new Uint8Array(await blob.arrayBuffer());
    let binary = "";
    for (const byte of bytes) binary += String.fromCharCode(byte);
    return btoa(binary);
  }
  return null;
}

function cellColours(
  cell: IBufferCell,
  background: string,
  foreground: string,
): Record<"background" | "foreground", string> {
  const theme = themeFor("dark");
  const rgb = (value: number): string => `#${value.toString(16).padStart(6, "0")}`;
  let fore = foreground;
  if (cell.isFgRGB()) fore = rgb(cell.getFgColor());
  else if (cell.isFgPalette()) {
    const index = cell.getFgColor();
    fore = paletteColour(cell.isBold() && index < 8 ? index + 8 : index, theme);
  }
  let back = background;
  if (cell.isBgRGB()) back = rgb(cell.getBgColor());
  else if (cell.isBgPalette()) back = paletteColour(cell.getBgColor(), theme);
  return cell.isInverse() ? { background: fore, foreground: back } : { background: back, foreground: fore };
}
