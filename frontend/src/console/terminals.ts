/**
 * The terminals of the console page: one per console of the machine, each made when it is first shown or printed to, and shown one at
 * a time.
 */

import { Expected } from "../sync/errors";
import { decodeScreens, encodeScreens, encodeTerminal, type SavedTerminal } from "../terminal/state";
import { ConsoleTerminal, type TerminalOptions } from "../terminal/terminal";
import { consolesOf } from "./machine-run";
import type { SessionTerminals, TerminalSize } from "./model";

export interface TerminalsOptions extends Omit<TerminalOptions, "onInput" | "onResize" | "onFlood"> {
  onInput: (bytes: Uint8Array, terminal: number) => void;
  onResize: (size: TerminalSize) => void;
  onFlood: (flooded: boolean) => void;
  /** The machine's kind and number of consoles are known. */
  onMachine: (machine: Parameters<SessionTerminals["prepare"]>[0]) => void;
  /** A saved screen, or what is watched, belongs to this terminal: show it. */
  onWanted: (terminal: number) => void;
  /** A terminal that is not shown was printed to. */
  onNews: (terminal: number) => void;
}

type Settings = Parameters<ConsoleTerminal["set"]>[0];

export class Terminals implements SessionTerminals {
  private readonly made = new Map<number, ConsoleTerminal>();
  private readonly places = new Map<number, HTMLElement>();
  private readonly flooded = new Set<number>();
  private several = false;
  private consoles = 1;
  private now = 0;

  constructor(private readonly options: TerminalsOptions) {}

  get shown(): number {
    return this.now;
  }

  /** How many there are. */
  get count(): number {
    return this.consoles;
  }

  get active(): ConsoleTerminal {
    return this.terminal(this.now);
  }

  get sizes(): TerminalSize[] {
    return [...this.made].map(([terminal, { columns, rows }]) => ({ terminal, columns, rows }));
  }

  /** One of the machine's; throws `Expected` when it has none of that number. */
  numbered(terminal: number): ConsoleTerminal {
    if (!Number.isInteger(terminal) || terminal < 0 || terminal >= this.consoles)
      throw new Expected(
        "no_such_terminal",
        `The machine's terminals are 0 to ${this.consoles - 1}: there is no ${String(terminal)}.`,
      );
    return this.terminal(terminal);
  }

  prepare(machine: Parameters<SessionTerminals["prepare"]>[0]): void {
    this.several = machine.kind === "linux";
    this.consoles = consolesOf(machine);
    for (const [number, terminal] of this.made) if (number > 0) terminal.reset();
    this.options.onMachine(machine);
  }

  /** Shows a terminal in its place on the page, which must be visible. */
  show(terminal: number, place: HTMLElement): void {
    if (this.now !== terminal) this.made.get(this.now)?.latchCtrl(false);
    this.now = terminal;
    const shown = this.terminal(terminal);
    if (this.places.has(terminal)) shown.fit();
    else {
      this.places.set(terminal, place);
      shown.mount(place);
      // Also when it happens to have this size: init starts a shell when a console is given one.
      if (terminal > 0) this.options.onResize({ terminal, columns: shown.columns, rows: shown.rows });
    }
  }

  write(bytes: Uint8Array, terminal: number): void {
    this.terminal(terminal).write(bytes);
    if (terminal !== this.now) this.options.onNews(terminal);
  }

  restore(bytes: Uint8Array, keepSize = false): readonly number[] {
    const saved = decodeScreens(bytes);
    if (!saved) return [];
    const restored = [...saved.screens].filter(([terminal]) => terminal < this.consoles);
    for (const [terminal, screen] of restored) this.terminal(terminal).restore(screen, keepSize);
    if (saved.shown < this.consoles && saved.shown !== this.now) this.options.onWanted(saved.shown);
    return restored.map(([terminal]) => terminal);
  }

  /** All of one instant; when they are too much, the others have less scrollback than the shown one, or are left out. */
  async serialize(mostBytes: number): Promise<Uint8Array> {
    if (!this.several) return encodeTerminal(await this.terminal(0).serialize(mostBytes - HEAD));
    const others = this.made.size - 1;
    const left = mostBytes - HEAD * this.made.size;
    const share = (terminal: number): number => {
      if (others <= 0) return left;
      return terminal === this.now ? left / 2 : left / 2 / others;
    };
    const drawn = [...this.made].map(async ([number, terminal]): Promise<[number, SavedTerminal]> => [
      number,
      await terminal.serialize(share(number)),
    ]);
    return encodeScreens({ shown: this.now, screens: new Map(await Promise.all(drawn)) }, mostBytes);
  }

  async serializeShown(mostBytes: number): Promise<Uint8Array> {
    const screen = await this.active.serialize(mostBytes - HEAD);
    if (!this.several) return encodeTerminal(screen);
    return encodeScreens({ shown: this.now, screens: new Map([[this.now, screen]]) }, mostBytes);
  }

  screenText(): string {
    return this.terminal(0).screenText();
  }

  fit(): void {
    if (this.places.has(this.now)) this.active.fit();
  }

  set(settings: Settings): void {
    const { fontSize, screenReader, scheme } = settings;
    if (fontSize !== undefined) this.options.fontSize = fontSize;
    if (screenReader !== undefined) this.options.screenReader = screenReader;
    if (scheme !== undefined) this.options.scheme = scheme;
    for (const terminal of this.made.values()) terminal.set(settings);
  }

  private terminal(terminal: number): ConsoleTerminal {
    let made = this.made.get(terminal);
    if (!made) {
      made = new ConsoleTerminal({
        ...this.options,
        onInput: (bytes) => this.options.onInput(bytes, terminal),
        onResize: (columns, rows) => this.options.onResize({ terminal, columns, rows }),
        onFlood: (flooded) => this.flood(terminal, flooded),
      });
      this.made.set(terminal, made);
    }
    return made;
  }

  /** The guest stands still while any of them is behind. */
  private flood(terminal: number, flooded: boolean): void {
    const before = this.flooded.size > 0;
    if (flooded) this.flooded.add(terminal);
    else this.flooded.delete(terminal);
    if (before !== this.flooded.size > 0) this.options.onFlood(!before);
  }
}

/** More than what a terminal adds to the first line of saved screens. */
const HEAD = 128;
