/** From the keyboard, the clipboard and the extra keys to bytes for the guest. No DOM. */

/** A serial port's receiver has a small queue: more than this at once is sent in pieces. */
const PIECE = 256;
const PIECE_MS = 8;

/** Sends bytes in order, long input in pieces with a pause between them, so that a pasted file arrives whole. */
export class PacedSender {
  private queue: Uint8Array[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly sink: (bytes: Uint8Array) => void) {}

  send(bytes: Uint8Array): void {
    if (this.timer === undefined && bytes.length <= PIECE) {
      this.sink(bytes);
      return;
    }
    for (let at = 0; at < bytes.length; at += PIECE) this.queue.push(bytes.subarray(at, at + PIECE));
    if (this.timer === undefined) this.step();
  }

  /** Forgets what has not been sent yet. */
  clear(): void {
    this.queue = [];
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  private step(): void {
    const piece = this.queue.shift();
    if (!piece) {
      this.timer = undefined;
      return;
    }
    this.sink(piece);
    this.timer = setTimeout(() => this.step(), PIECE_MS);
  }
}

/**
 * Makes pasted text safe and fit for a terminal: line ends become Enter, every control character but Tab and Enter goes
 * (an ESC could end the brackets of a bracketed paste and run what follows), and the brackets are put around it if the guest
 * asked for them.
 */
export function preparePaste(text: string, bracketed: boolean): string {
  const plain = text.replace(/\r?\n/g, "\r").replace(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/g, "");
  return bracketed ? `\x1b[200~${plain}\x1b[201~` : plain;
}

export type ExtraKey =
  "Escape" | "Tab" | "ArrowUp" | "ArrowDown" | "ArrowLeft" | "ArrowRight" | "|" | "/" | "-" | "~";

const SEQUENCES: Record<ExtraKey, string> = {
  Escape: "\x1b",
  Tab: "\t",
  ArrowUp: "\x1b[A",
  ArrowDown: "\x1b[B",
  ArrowRight: "\x1b[C",
  ArrowLeft: "\x1b[D",
  "|": "|",
  "/": "/",
  "-": "-",
  "~": "~",
};

/** What a key of the extra row sends; the arrows depend on the mode that full-screen programs switch on. */
export function extraKeySequence(key: ExtraKey, applicationCursor: boolean): string {
  const sequence = SEQUENCES[key];
  return applicationCursor && key.startsWith("Arrow") ? sequence.replace("[", "O") : sequence;
}

/** Applies a latched Ctrl to typed text: `c` becomes 0x03. Text of more than one character is left alone. */
export function withCtrl(text: string): string {
  if (text.length !== 1) return text;
  const code = text.toUpperCase().charCodeAt(0);
  if (code >= 0x40 && code <= 0x5f) return String.fromCharCode(code & 0x1f);
  if (text === " ") return "\x00";
  if (text === "?") return "\x7f";
  return text;
}
