/**
 * Watching somebody else's machine: the holder's terminal, sent as frames `u8 2, u32 number, u8 whole`, then bytes. A whole
 * frame is a terminal's screen (terminal/state.ts), the others are console output that follows it. Any frame may be lost on
 * the way; a watcher sees the gap in the numbers and asks for a whole one.
 */

const TYPE = 2;
const HEADER = 6;
/** A watcher says what has arrived after so many bytes: the service sends no more than a few of these ahead. */
const ACKNOWLEDGE = 32 << 10;
/** Whole screens are sent, and asked for, this often at most, ms. */
const WHOLE_EVERY = 1000;
const ASK_EVERY = 2000;
/** Output is collected for so long, ms, and up to so many bytes; what is more is left out. */
const COLLECT = 50;
const MOST_COLLECTED = 48 << 10;
/** A whole screen with the lines above it as far as they fit. */
const MOST_WHOLE = 48 << 10;
/** Nobody has shown up for so long, ms: nobody watches. */
const WATCHED_FOR = 8000;

export interface RelayOptions {
  /** The terminal as it is, in at most so many bytes; called anew for each whole frame. */
  screen(mostBytes: number): Promise<Uint8Array>;
  /** Sends a frame; false: it cannot be sent now. */
  send(frame: Uint8Array<ArrayBuffer>): boolean;
}

/** The holder's side: sends nothing while nobody watches. */
export class Relay {
  private until = 0;
  private number = 0;
  private collected: Uint8Array[] = [];
  private size = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private wholeTimer: ReturnType<typeof setTimeout> | undefined;
  private lastWhole = -WHOLE_EVERY;
  private drawing = false;

  constructor(private readonly options: RelayOptions) {}

  get active(): boolean {
    return Date.now() < this.until;
  }

  /** Somebody watches; `fresh`: and needs a whole screen. */
  watched(fresh: boolean): void {
    const began = !this.active;
    this.until = Date.now() + WATCHED_FOR;
    if (began || fresh) this.whole();
    // Shows a watcher that has lost the last frame that it did.
    else if (!this.drawing && !this.timer) this.send(false, []);
  }

  /** The terminal was written to, or (without bytes) has become another: a new size, a new screen. */
  output(bytes?: Uint8Array): void {
    if (!this.active) return;
    if (!bytes) return this.whole();
    this.size += bytes.length;
    // Too much to show: it is left out, and the next frame's number tells.
    if (this.size <= MOST_COLLECTED) this.collected.push(bytes);
    this.timer ??= setTimeout(() => this.flush(), COLLECT);
  }

  close(): void {
    this.until = 0;
    clearTimeout(this.timer);
    clearTimeout(this.wholeTimer);
  }

  private flush(): void {
    this.timer = undefined;
    if (this.drawing) return; // after the screen that is being drawn
    const collected = this.collected;
    const tooMuch = this.size > MOST_COLLECTED;
    this.collected = [];
    this.size = 0;
    if (tooMuch) this.number++;
    else if (collected.length > 0) this.send(false, collected);
  }

  private whole(): void {
    const wait = this.lastWhole + WHOLE_EVERY - performance.now();
    this.wholeTimer ??= setTimeout(() => void this.drawWhole(), Math.max(0, wait));
  }

  private async drawWhole(): Promise<void> {
    this.wholeTimer = undefined;
    this.lastWhole = performance.now();
    if (!this.active) return;
    // What the terminal was given before is in its screen; what comes now follows it.
    this.collected = [];
    this.size = 0;
    this.drawing = true;
    const screen = await this.options.screen(MOST_WHOLE).catch(() => undefined);
    this.drawing = false;
    if (screen && screen.length <= MOST_WHOLE) this.send(true, [screen]);
    this.flush();
  }

  private send(whole: boolean, parts: Uint8Array[]): void {
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    const frame = new Uint8Array(HEADER + length);
    frame[0] = TYPE;
    new DataView(frame.buffer).setUint32(1, this.number++ >>> 0);
    frame[5] = whole ? 1 : 0;
    let at = HEADER;
    for (const part of parts) {
      frame.set(part, at);
      at += part.length;
    }
    this.options.send(frame);
  }
}

export interface WatcherOptions {
  /** A whole screen, or what follows what was shown before. */
  show(bytes: Uint8Array, whole: boolean): void;
  /** Asks the service for a whole screen. */
  askWhole(): void;
  /** Tells the service how many bytes have arrived. */
  acknowledge(bytes: number): void;
}

/** The watcher's side. */
export class Watcher {
  private next: number | undefined;
  private arrived = 0;
  private lastAsked = performance.now();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly options: WatcherOptions) {
    this.ask();
  }

  receive(frame: Uint8Array): void {
    this.arrived += frame.length;
    if (this.arrived >= ACKNOWLEDGE) {
      this.options.acknowledge(this.arrived);
      this.arrived = 0;
    }
    if (frame.length < HEADER || frame[0] !== TYPE) return;
    const number = new DataView(frame.buffer, frame.byteOffset).getUint32(1);
    const whole = frame[5] === 1;
    const bytes = frame.subarray(HEADER);
    if (whole || number === this.next) {
      this.next = (number + 1) >>> 0;
      this.options.show(bytes, whole);
    } else {
      this.next = undefined;
      this.ask();
    }
  }

  close(): void {
    clearTimeout(this.timer);
  }

  private ask(): void {
    const wait = this.lastAsked + ASK_EVERY - performance.now();
    this.timer ??= setTimeout(
      () => {
        this.timer = undefined;
        if (this.next !== undefined) return;
        this.lastAsked = performance.now();
        this.options.askWhole();
        this.ask(); // the answer may be lost, too
      },
      Math.max(0, wait),
    );
  }
}
