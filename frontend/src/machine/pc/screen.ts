/** The VGA screen read straight from the adapter: no canvas and no document. */

import type { ScreenUpdate } from "../machine";
import type { Emulator, Layer } from "./v86";

/** How often a watched screen is looked at, ms. 20 pictures a second are enough for a text console and cost little. */
const INTERVAL = 50;

export class Screen {
  private timer: ReturnType<typeof setInterval> | undefined;
  private pixels: Uint8Array = new Uint8Array(0);
  private changed = false;
  private lastText = "";

  constructor(
    private readonly emulator: Emulator,
    private readonly show: (update: ScreenUpdate) => void,
  ) {
    emulator.screen_adapter.update_buffer = (layers) => this.draw(layers);
  }

  watch(on: boolean): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.lastText = "";
    if (!on) return;
    this.vga.complete_redraw();
    this.timer = setInterval(() => this.look(), INTERVAL);
  }

  /** The whole picture in graphics mode, else undefined. */
  picture(): ScreenUpdate | undefined {
    if (!this.vga.graphical_mode) return undefined;
    this.vga.complete_redraw();
    this.vga.screen_fill_buffer();
    return this.graphics();
  }

  private get vga(): Emulator["v86"]["cpu"]["devices"]["vga"] {
    return this.emulator.v86.cpu.devices.vga;
  }

  private look(): void {
    this.changed = false;
    // In text mode this only keeps the retrace bits moving, which guests poll.
    this.vga.screen_fill_buffer();
    if (this.vga.graphical_mode) {
      if (this.changed) this.show(this.graphics());
      return;
    }
    const update = this.text();
    const cursor = update.cursor;
    const seen = `${update.width},${update.height},${cursor?.row},${cursor?.column},${update.pixels.join()}`;
    if (seen === this.lastText) return;
    this.lastText = seen;
    this.show(update);
  }

  private text(): ScreenUpdate {
    const vga = this.vga;
    const { max_cols: width, max_rows: height } = vga;
    const stride = Math.max(width, vga.offset_register * 2);
    const pixels = new Uint8Array(width * height * 2);
    for (let row = 0; row < height; row++) {
      const at = (vga.start_address + row * stride) * 2;
      pixels.set(vga.vga_memory.subarray(at, at + width * 2), row * width * 2);
    }
    const offset = vga.cursor_address - vga.start_address;
    const row = Math.floor(offset / stride);
    const visible = offset >= 0 && row < height;
    return {
      mode: "text",
      width,
      height,
      pixels,
      ...(visible && { cursor: { row, column: offset % stride } }),
    };
  }

  private graphics(): ScreenUpdate {
    this.fit();
    return {
      mode: "graphics",
      width: this.vga.screen_width,
      height: this.vga.screen_height,
      pixels: this.pixels.slice(),
    };
  }

  private fit(): void {
    const size = this.vga.screen_width * this.vga.screen_height * 4;
    if (this.pixels.length !== size) this.pixels = new Uint8Array(size);
  }

  /** Copies the rectangles that v86 has drawn into the picture, clipped at its edges. */
  private draw(layers: Layer[]): void {
    this.fit();
    const { screen_width: width, screen_height: height } = this.vga;
    for (const layer of layers) {
      const { data, width: stride } = layer.image_data;
      const columns = Math.min(layer.buffer_width, width - layer.screen_x, stride - layer.buffer_x);
      const rows = Math.min(layer.buffer_height, height - layer.screen_y);
      if (columns <= 0) continue;
      for (let row = 0; row < rows; row++) {
        const from = ((layer.buffer_y + row) * stride + layer.buffer_x) * 4;
        this.pixels.set(
          data.subarray(from, from + columns * 4),
          ((layer.screen_y + row) * width + layer.screen_x) * 4,
        );
      }
    }
    this.changed = true;
  }
}
