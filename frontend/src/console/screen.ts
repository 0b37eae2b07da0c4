/** The "Screen" tab: the machine's VGA screen on a canvas, with keyboard and mouse. */

import type { ScreenUpdate } from "../machine/machine";
import { CP437, VGA_COLOURS, blockFill, boxArms } from "./cp437";
import { byId } from "./dom";
import type { Session } from "./session";

const CELL_WIDTH = 9;
const CELL_HEIGHT = 16;

export class Screen {
  private readonly canvas = byId<HTMLCanvasElement>("vga");
  private readonly context = this.canvas.getContext("2d", { alpha: false });
  private readonly held = new Set<string>();
  private last: ScreenUpdate | undefined;
  private stop: (() => void) | undefined;

  constructor(
    private readonly session: Session,
    /** Keys that leave the screen: true when taken. */
    private readonly onShortcut: (event: KeyboardEvent) => boolean,
  ) {
    const { canvas } = this;
    canvas.addEventListener("keydown", (event) => this.key(event, true));
    canvas.addEventListener("keyup", (event) => this.key(event, false));
    canvas.addEventListener("blur", () => this.releaseKeys());
    canvas.addEventListener("click", () => {
      canvas.focus();
      if (document.pointerLockElement !== canvas) void lockPointer(canvas);
    });
    for (const type of ["mousemove", "mousedown", "mouseup"] as const) {
      canvas.addEventListener(type, (event) => this.mouse(event, 0));
    }
    canvas.addEventListener("wheel", (event) => {
      if (document.pointerLockElement !== canvas) return;
      event.preventDefault();
      this.mouse(event, Math.sign(event.deltaY));
    });
    canvas.addEventListener("contextmenu", (event) => {
      if (document.pointerLockElement === canvas) event.preventDefault();
    });
  }

  /** Somebody looks at the screen now. */
  open(): void {
    this.stop ??= this.session.watchScreen((update) => this.draw(update));
    this.canvas.focus();
  }

  close(): void {
    this.stop?.();
    this.stop = undefined;
    this.last = undefined;
    this.releaseKeys();
    if (document.pointerLockElement === this.canvas) document.exitPointerLock();
  }

  /** A new machine: the old one's updates are over. */
  reopen(): void {
    if (!this.stop) return;
    this.stop();
    this.stop = this.session.watchScreen((update) => this.draw(update));
  }

  get element(): HTMLCanvasElement {
    return this.canvas;
  }

  leave(): void {
    this.releaseKeys();
    if (document.pointerLockElement === this.canvas) document.exitPointerLock();
  }

  private key(event: KeyboardEvent, down: boolean): void {
    if (down && this.onShortcut(event)) {
      event.preventDefault();
      return;
    }
    if (event.code === "") return;
    event.preventDefault();
    if (down) this.held.add(event.code);
    else this.held.delete(event.code);
    this.session.key(event.code, down);
  }

  /** A key that goes up while we do not have the focus would stay down for the guest. */
  private releaseKeys(): void {
    for (const code of this.held) this.session.key(code, false);
    this.held.clear();
  }

  private mouse(event: MouseEvent, wheel: number): void {
    if (document.pointerLockElement !== this.canvas) return;
    this.session.mouse({ dx: event.movementX, dy: event.movementY, buttons: event.buttons, wheel });
  }

  private draw(update: ScreenUpdate): void {
    const { canvas, context } = this;
    if (!context) return;
    const text = update.mode === "text";
    const width = text ? update.width * CELL_WIDTH : update.width;
    const height = text ? update.height * CELL_HEIGHT : update.height;
    if (width === 0 || height === 0) return;
    const scale = text ? this.textScale(width, height) : 1;
    if (canvas.width !== width * scale || canvas.height !== height * scale) {
      canvas.width = width * scale;
      canvas.height = height * scale;
      this.last = undefined;
    }
    if (this.last?.mode !== update.mode) this.last = undefined;
    canvas.classList.toggle("graphics", !text);
    if (text) {
      context.setTransform(scale, 0, 0, scale, 0, 0);
      this.drawText(context, update);
    } else {
      const pixels = new Uint8ClampedArray(update.pixels);
      context.putImageData(new ImageData(pixels, update.width, update.height), 0, 0);
    }
    this.last = { ...update, pixels: update.pixels.slice() };
  }

  /** Whole pixels per pixel of the machine's, so that text is as sharp as the place on the page allows. */
  private textScale(width: number, height: number): number {
    const { clientWidth, clientHeight } = this.canvas;
    const fits = Math.min(clientWidth / width, clientHeight / height) * devicePixelRatio;
    return Math.min(4, Math.max(1, Math.ceil(fits)));
  }

  /** Draws the cells that differ from the last time, and those where the cursor was and is. */
  private drawText(context: CanvasRenderingContext2D, update: ScreenUpdate): void {
    const old = this.last?.pixels;
    const at = (cursor: ScreenUpdate["cursor"]): number =>
      cursor ? cursor.row * update.width + cursor.column : -1;
    const cursor = at(update.cursor);
    const oldCursor = at(this.last?.cursor);
    for (let cell = 0; cell < update.width * update.height; cell++) {
      const code = update.pixels[2 * cell] ?? 0;
      const attribute = update.pixels[2 * cell + 1] ?? 0;
      const same = old && old[2 * cell] === code && old[2 * cell + 1] === attribute;
      if (same && cell !== cursor && cell !== oldCursor) continue;
      const x = (cell % update.width) * CELL_WIDTH;
      const y = Math.floor(cell / update.width) * CELL_HEIGHT;
      const ink = VGA_COLOURS[attribute & 15] as string;
      context.fillStyle = VGA_COLOURS[(attribute >> 4) & 7] as string;
      context.fillRect(x, y, CELL_WIDTH, CELL_HEIGHT);
      context.fillStyle = ink;
      drawCharacter(context, code, x, y);
      if (cell === cursor) context.fillRect(x, y + CELL_HEIGHT - 3, CELL_WIDTH, 2);
    }
  }
}

function drawCharacter(context: CanvasRenderingContext2D, code: number, x: number, y: number): void {
  if (code === 0 || code === 32 || code === 255) return;
  const fill = blockFill(code);
  if (fill) {
    const [left, top, width, height, opacity] = fill;
    context.globalAlpha = opacity;
    context.fillRect(x + left * CELL_WIDTH, y + top * CELL_HEIGHT, width * CELL_WIDTH, height * CELL_HEIGHT);
    context.globalAlpha = 1;
    return;
  }
  const arms = boxArms(code);
  if (arms) {
    drawBox(context, arms, x, y);
    return;
  }
  context.font = '15px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace';
  context.textBaseline = "alphabetic";
  context.fillText(CP437[code] as string, x, y + 12.5, CELL_WIDTH);
}

function drawBox(
  context: CanvasRenderingContext2D,
  arms: { left: number; up: number; right: number; down: number },
  x: number,
  y: number,
): void {
  const centreX = x + 4;
  const centreY = y + 8;
  const across = (count: number, from: number, to: number): void => {
    if (count === 1) context.fillRect(from, centreY, to - from, 1);
    if (count === 2) {
      context.fillRect(from, centreY - 1, to - from, 1);
      context.fillRect(from, centreY + 1, to - from, 1);
    }
  };
  const along = (count: number, from: number, to: number): void => {
    if (count === 1) context.fillRect(centreX, from, 1, to - from);
    if (count === 2) {
      context.fillRect(centreX - 1, from, 1, to - from);
      context.fillRect(centreX + 1, from, 1, to - from);
    }
  };
  across(arms.left, x, centreX + 1);
  across(arms.right, centreX, x + CELL_WIDTH);
  along(arms.up, y, centreY + 1);
  along(arms.down, centreY, y + CELL_HEIGHT);
}

/** Pointer lock is refused without a gesture or in some frames: then the mouse just stays with the page. */
async function lockPointer(canvas: HTMLCanvasElement): Promise<void> {
  try {
    await canvas.requestPointerLock();
  } catch {
    // the keyboard works without it
  }
}
