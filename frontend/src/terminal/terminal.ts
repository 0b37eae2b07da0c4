/**
 * The terminal of the console page: xterm.js with our settings. What the guest prints is data: titles, clipboard writes and
 * window commands in it do nothing, links open only http(s) addresses and only when clicked.
 */

import "@xterm/xterm/css/xterm.css";
import { FitAddon } from "@xterm/addon-fit";
import { SerializeAddon } from "@xterm/addon-serialize";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { WebglAddon } from "@xterm/addon-webgl";
import { Terminal } from "@xterm/xterm";
import { PacedSender, extraKeySequence, preparePaste, withCtrl, type ExtraKey } from "./input";
import type { SavedTerminal } from "./state";
import { themeFor } from "./theme";
import { drawTerminal } from "./thumbnail";
import { TextWaiters } from "./waiters";
import { WatchedSize } from "./watched-size";

/** Lines kept above the screen. */
const SCROLLBACK = 5000;
/** Bytes written but not yet parsed at which the guest should stand still, and at which it may go on. */
const FLOOD_HIGH = 4 * 1024 * 1024;
const FLOOD_LOW = 512 * 1024;
/** RIS: the terminal as new. */
const RESET = "\x1bc";

export interface TerminalOptions {
  fontSize: number;
  screenReader: boolean;
  scheme: "light" | "dark";
  /** Bytes for the guest. */
  onInput: (bytes: Uint8Array) => void;
  onResize: (columns: number, rows: number) => void;
  /** The guest prints faster than can be shown (true), or that is over (false). */
  onFlood: (flooded: boolean) => void;
  /** Keys that the page wants before the guest gets them; true: taken. */
  onShortcut: (event: KeyboardEvent) => boolean;
  onCtrlLatch: (on: boolean) => void;
}

export class ConsoleTerminal {
  private readonly xterm: Terminal;
  private readonly fitAddon = new FitAddon();
  private readonly serializer = new SerializeAddon();
  private readonly waiters: TextWaiters;
  private readonly sender: PacedSender;
  private readonly encoder = new TextEncoder();
  private readonly options: TerminalOptions;
  private webgl: WebglAddon | undefined;
  private unparsed = 0;
  private flooded = false;
  private restoring = false;
  private keepsSize = false;
  private fontSize: number;
  private watched: WatchedSize | undefined;
  private ctrl = false;

  constructor(options: TerminalOptions) {
    this.options = options;
    this.fontSize = options.fontSize;
    this.xterm = new Terminal({
      allowProposedApi: true,
      cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      fontFamily:
        'ui-monospace, "DejaVu Sans Mono", "SFMono-Regular", Menlo, Consolas, "Liberation Mono", monospace',
      fontSize: options.fontSize,
      // Such a link can show one address and lead to another: say where.
      linkHandler: { activate: (_event, uri) => confirm(`Open ${uri} ?`) && openLink(uri) },
      macOptionIsMeta: true,
      minimumContrastRatio: 3,
      screenReaderMode: options.screenReader,
      scrollback: SCROLLBACK,
      theme: themeFor(options.scheme),
    });
    this.sender = new PacedSender(options.onInput);
    this.waiters = new TextWaiters(() => this.screenText());
    this.xterm.loadAddon(this.fitAddon);
    this.xterm.loadAddon(this.serializer);
    this.xterm.loadAddon(new WebLinksAddon((_event, uri) => openLink(uri)));
    this.xterm.onData((text) => this.typed(text));
    this.xterm.onBinary((text) => this.sender.send(Uint8Array.from(text, (c) => c.charCodeAt(0) & 0xff)));
    this.xterm.onResize(({ cols, rows }) => {
      if (!this.restoring) this.options.onResize(cols, rows);
    });
    this.xterm.onWriteParsed(() => {
      this.waiters.changed();
      if (this.keepsSize) this.watched?.follow();
    });
    this.xterm.attachCustomKeyEventHandler((event) => this.keyEvent(event));
  }

  get columns(): number {
    return this.xterm.cols;
  }

  get rows(): number {
    return this.xterm.rows;
  }

  /** Shows the terminal in `element` and keeps it as large as that. */
  mount(element: HTMLElement): void {
    this.xterm.open(element);
    this.watched = new WatchedSize(this.xterm, element);
    this.useWebgl();
    this.fit();
    new ResizeObserver(() => this.refit()).observe(element);
    // Ours instead of xterm's own: it would let an ESC in the clipboard through.
    element.addEventListener(
      "paste",
      (event) => {
        event.preventDefault();
        event.stopPropagation();
        this.paste(event.clipboardData?.getData("text/plain") ?? "");
      },
      { capture: true },
    );
  }

  /** Takes the size of its place again, also after `restore` with `keepSize`. */
  fit(): void {
    this.keepsSize = false;
    this.xterm.options.fontSize = this.fontSize;
    this.refit();
  }

  private refit(): void {
    if (this.restoring) return;
    if (this.keepsSize) this.watched?.fit(this.fontSize);
    else this.fitAddon.fit();
  }

  focus(): void {
    this.xterm.focus();
  }

  /** What the guest printed. */
  write(bytes: Uint8Array): void {
    this.unparsed += bytes.length;
    this.xterm.write(bytes, () => {
      this.unparsed -= bytes.length;
      if (this.flooded && this.unparsed < FLOOD_LOW) this.setFlooded(false);
    });
    if (!this.flooded && this.unparsed > FLOOD_HIGH) this.setFlooded(true);
  }

  /** Types text into the guest, as a keyboard would. */
  send(text: string): void {
    this.sender.send(this.encoder.encode(text));
  }

  paste(text: string): void {
    if (text === "") return;
    this.send(preparePaste(text, this.xterm.modes.bracketedPasteMode));
    this.xterm.scrollToBottom();
    this.xterm.focus();
  }

  /** A key of the extra row, with the latched Ctrl if it is on. */
  pressExtra(key: ExtraKey): void {
    this.typed(extraKeySequence(key, this.xterm.modes.applicationCursorKeysMode));
    this.xterm.focus();
  }

  /** The next typed character goes with Ctrl. */
  latchCtrl(on: boolean): void {
    this.ctrl = on;
    this.options.onCtrlLatch(on);
  }

  get ctrlLatched(): boolean {
    return this.ctrl;
  }

  selection(): string {
    return this.xterm.getSelection();
  }

  /** Copies the selection; resolves false when there is none or the browser refuses. */
  async copy(): Promise<boolean> {
    const text = this.xterm.getSelection();
    if (text === "") return false;
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return false;
    }
  }

  /** Pastes from the clipboard; resolves false when the browser refuses to give it. */
  async pasteFromClipboard(): Promise<boolean> {
    try {
      this.paste(await navigator.clipboard.readText());
      return true;
    } catch {
      return false;
    }
  }

  set(settings: { fontSize?: number; screenReader?: boolean; scheme?: "light" | "dark" }): void {
    if (settings.fontSize !== undefined) this.xterm.options.fontSize = this.fontSize = settings.fontSize;
    if (settings.screenReader !== undefined) this.xterm.options.screenReaderMode = settings.screenReader;
    if (settings.scheme !== undefined) this.xterm.options.theme = themeFor(settings.scheme);
    this.refit();
  }

  /** All lines with the scrollback, wrapped lines joined, without the blanks at the ends. */
  screenText(): string {
    const buffer = this.xterm.buffer.active;
    const lines: string[] = [];
    for (let y = 0; y < buffer.length; y++) {
      const line = buffer.getLine(y);
      if (!line) continue;
      // A line that goes on in the next one keeps its trailing blanks: they are part of the text.
      const wraps = buffer.getLine(y + 1)?.isWrapped === true;
      const text = line.translateToString(!wraps);
      if (line.isWrapped && lines.length > 0) lines[lines.length - 1] += text;
      else lines.push(text);
    }
    while (lines.length > 0 && lines[lines.length - 1] === "") lines.pop();
    return lines.join("\n");
  }

  waitForText(pattern: RegExp, timeoutMs: number): Promise<string> {
    return this.waiters.wait(pattern, timeoutMs);
  }

  /** The screen as of everything written so far, with as much scrollback as fits into `mostBytes` (none at least). */
  serialize(mostBytes: number): Promise<SavedTerminal> {
    return new Promise((resolve) =>
      // The callback runs between two writes: nothing that is written later is in it.
      this.xterm.write("", () => {
        for (let scrollback = 1000; ; scrollback = Math.floor(scrollback / 4)) {
          const content = this.serializer.serialize({ scrollback });
          if (scrollback > 0 && this.encoder.encode(content).length > mostBytes) continue;
          return resolve({ columns: this.xterm.cols, rows: this.xterm.rows, content });
        }
      }),
    );
  }

  /**
   * Shows a saved screen, with `keepSize` in the size that it has. What was written before is gone, what is written meanwhile comes
   * after it.
   */
  restore(saved: SavedTerminal, keepSize = false): void {
    this.keepsSize = keepSize;
    this.restoring = true;
    this.xterm.resize(saved.columns, saved.rows);
    // A reset in its turn: at once it would leave what was written, but not parsed yet, above the screen.
    this.xterm.write(RESET + saved.content, () => {
      this.restoring = false;
      this.refit();
    });
  }

  /** As new: another machine's screen was shown. */
  reset(): void {
    this.xterm.write(RESET);
  }

  picture(): HTMLCanvasElement {
    return drawTerminal(this.xterm);
  }

  private typed(text: string): void {
    if (this.restoring) return; // answers to what a saved screen asks are not typed again
    if (this.ctrl) {
      this.latchCtrl(false);
      text = withCtrl(text);
    }
    this.send(text);
  }

  private keyEvent(event: KeyboardEvent): boolean {
    if (event.type !== "keydown") return true;
    const mac = navigator.platform.startsWith("Mac");
    const combination = event.ctrlKey && event.shiftKey && !event.altKey;
    if ((combination || (mac && event.metaKey)) && event.code === "KeyC" && this.xterm.hasSelection()) {
      event.preventDefault();
      void this.copy();
      return false;
    }
    if (combination && event.code === "KeyC") {
      event.preventDefault(); // else the browser opens its developer tools
      return false;
    }
    // Ctrl+Shift+V: the browser fires `paste` by itself; the guest must not get a ^V as well.
    if (combination && event.code === "KeyV") return false;
    if (this.options.onShortcut(event)) {
      event.preventDefault();
      return false;
    }
    return true;
  }

  private setFlooded(flooded: boolean): void {
    this.flooded = flooded;
    this.options.onFlood(flooded);
  }

  /** WebGL where the graphics hardware does it; when its context is lost (sleep, driver), xterm's DOM renderer goes on. */
  private useWebgl(): void {
    try {
      if (!hasGraphicsHardware()) return;
      const webgl = new WebglAddon();
      webgl.onContextLoss(() => {
        webgl.dispose();
        this.webgl = undefined;
      });
      this.xterm.loadAddon(webgl);
      this.webgl = webgl;
    } catch {
      this.webgl = undefined;
    }
  }

  /** Which renderer draws now, for the statistics. */
  get renderer(): "webgl" | "dom" {
    return this.webgl ? "webgl" : "dom";
  }
}

/**
 * Without it every frame of a WebGL canvas waits for a processor that the emulator has use for, and the page's thread with it
 * (measured: up to 0.2 s a frame on two busy cores).
 */
function hasGraphicsHardware(): boolean {
  const context = document
    .createElement("canvas")
    .getContext("webgl2", { failIfMajorPerformanceCaveat: true });
  if (!context) return false;
  // Not every browser says so when it is asked as above.
  const names = context.getExtension("WEBGL_debug_renderer_info");
  const renderer: unknown = context.getParameter(names?.UNMASKED_RENDERER_WEBGL ?? context.RENDERER);
  context.getExtension("WEBGL_lose_context")?.loseContext();
  return !/swiftshader|llvmpipe|softpipe|software|basic render/i.test(String(renderer));
}

function openLink(uri: string): void {
  if (/^https?:\/\//i.test(uri)) window.open(uri, "_blank", "noopener,noreferrer");
}
