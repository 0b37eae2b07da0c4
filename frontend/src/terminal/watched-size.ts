/**
 * A terminal whose size somebody else has, in a place that may be smaller: it gets smaller letters, and where those would be too
 * small to read it is scrolled to the cursor.
 */

import type { Terminal } from "@xterm/xterm";

/** Letters are not made smaller than this, CSS px. */
export const LEAST_FONT = 8;

interface Size {
  width: number;
  height: number;
}

/** The largest font size of those tried, from `wanted` down to `LEAST_FONT`, at which the screen that `sizeAt` tells fits into `place`. */
export function fittingFont(wanted: number, place: Size, sizeAt: (font: number) => Size): number {
  const full = sizeAt(wanted);
  const part = Math.min(1, place.width / full.width, place.height / full.height);
  // Cells are whole pixels high, so that this is an estimate only.
  let font = Math.min(wanted, Math.max(LEAST_FONT, Math.ceil(wanted * part) + 1));
  for (; font > LEAST_FONT; font--) {
    const { width, height } = sizeAt(font);
    if (width <= place.width && height <= place.height) break;
  }
  return font;
}

/** Where to scroll so that `from` to `to` are seen in a view of `length` that is at `now`; no further than it must be. */
export function scrolledTo(now: number, length: number, from: number, to: number): number {
  if (to > now + length) now = to - length;
  return Math.max(0, Math.min(now, from));
}

export class WatchedSize {
  private last = "";

  constructor(
    private readonly xterm: Terminal,
    private readonly place: HTMLElement,
  ) {}

  /** `wanted`: the font size where there is room. */
  fit(wanted: number): void {
    const sizeAt = (font: number): Size => {
      this.xterm.options.fontSize = font;
      return this.screen();
    };
    this.xterm.options.fontSize = fittingFont(wanted, this.place.getBoundingClientRect(), sizeAt);
    this.last = "";
    this.follow();
  }

  /** The screen has changed: its cursor stays in sight. Who has scrolled elsewhere stays there until it moves. */
  follow(): void {
    const { cursorX, cursorY } = this.xterm.buffer.active;
    const at = `${cursorX},${cursorY}`;
    if (at === this.last) return;
    this.last = at;
    const { width, height } = this.screen();
    const { place } = this;
    const [cell, row] = [width / this.xterm.cols, height / this.xterm.rows];
    place.scrollTop = scrolledTo(place.scrollTop, place.clientHeight, cursorY * row, (cursorY + 1) * row);
    place.scrollLeft = scrolledTo(place.scrollLeft, place.clientWidth, cursorX * cell, (cursorX + 1) * cell);
  }

  private screen(): Size {
    const { width = 0, height = 0 } =
      this.place.querySelector(".xterm-screen")?.getBoundingClientRect() ?? {};
    return { width, height };
  }
}
