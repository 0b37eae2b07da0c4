/**
 * `window.webvm`: the console for tests and for pages that embed it (docs/automation.md). Frozen, and without secrets: no
 * token, no signed URL, no link's secret can be reached from it.
 */

import type { MachineStats } from "../machine/client";
import { Expected } from "../sync/errors";
import type { PublicState, SaveReport } from "./model";
import type { Phases } from "./phases";
import type { Session } from "./session";

export interface Stats {
  /** ms since the navigation began. */
  phases: ReturnType<Phases["all"]>;
  /** Requests and bytes by kind, phases inside the worker, disk and cache; null before the machine was started. */
  machine: MachineStats | null;
  saves: SaveReport[];
  /** Bytes sent over the WebSocket. */
  socketBytes: number;
  renderer: "webgl" | "dom";
  terminal: { columns: number; rows: number };
  unsaved: boolean;
  dirtyBlocks: number;
}

export interface WebVM {
  readonly state: PublicState;
  /** The sentence that the page shows, while `state` is `error`. */
  readonly error: string | null;
  /** Resolves when the guest runs and takes input. Rejects when the machine cannot be started. */
  whenRunning(timeoutMs?: number): Promise<void>;
  /** How many terminals the machine has. */
  readonly terminals: number;
  /** Types text into a terminal: `\r` is Enter. */
  send(text: string, terminal?: number): void;
  /** What a terminal shows, with the scrollback; lines joined with `\n`, wrapped lines whole. */
  screenText(terminal?: number): string;
  /** Resolves with the text that matched. Looks at the whole `screenText`, so text that is there already matches at once. */
  waitForText(pattern: RegExp | string, timeoutMs?: number, terminal?: number): Promise<string>;
  save(options?: { message?: string }): Promise<SaveReport>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  stats(): Promise<Stats>;
}

declare global {
  interface Window {
    readonly webvm: WebVM;
  }
}

interface Terminal {
  readonly columns: number;
  readonly rows: number;
  readonly renderer: "webgl" | "dom";
  send(text: string): void;
  screenText(): string;
  waitForText(pattern: RegExp, timeoutMs: number): Promise<string>;
}

interface Terminals {
  readonly count: number;
  /** Throws `Expected` when the machine has none of that number. */
  numbered(terminal: number): Terminal;
}

const DEFAULT_MS = 30_000;
/** Longer than a lease that nobody renews lasts. */
const RUNNING_MS = 60_000;

export function makeAutomation(session: Session, terminals: Terminals, phases: Phases): WebVM {
  return Object.freeze({
    get state() {
      return session.view.state;
    },
    get error() {
      return session.view.failure?.message ?? null;
    },
    whenRunning: (timeoutMs = RUNNING_MS) => whenRunning(session, timeoutMs),
    get terminals() {
      return terminals.count;
    },
    send: (text: string, terminal = 0) => terminals.numbered(terminal).send(String(text)),
    screenText: (terminal = 0) => terminals.numbered(terminal).screenText(),
    waitForText: async (pattern: RegExp | string, timeoutMs = DEFAULT_MS, terminal = 0) =>
      terminals
        .numbered(terminal)
        .waitForText(typeof pattern === "string" ? new RegExp(pattern) : pattern, timeoutMs),
    save: (options: { message?: string } = {}) => session.save(String(options.message ?? "")),
    pause: () => session.pause(),
    resume: () => session.resume(),
    stats: async () => ({
      phases: phases.all(),
      ...(await session.stats()),
      renderer: terminals.numbered(0).renderer,
      terminal: sizeOf(terminals.numbered(0)),
      unsaved: session.view.unsaved,
      dirtyBlocks: session.view.dirtyBlocks,
    }),
  });
}

function sizeOf({ columns, rows }: Terminal): { columns: number; rows: number } {
  return { columns, rows };
}

function whenRunning(session: Session, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void): void => {
      clearTimeout(timer);
      stop();
      act();
    };
    const look = (): void => {
      const { state, lease, failure, conflict } = session.view;
      // Before the lease is known to be ours, the guest may have to stand still again, and what is typed then is lost.
      if (state === "running" && lease === "online") settle(resolve);
      else if (failure?.retry === "start") settle(() => reject(new Expected("error", failure.message)));
      // A lease that is held elsewhere may be given back, or run out.
      else if (conflict && conflict.kind !== "held")
        settle(() => reject(new Expected(conflict.kind, "The person must choose first.")));
    };
    const timer = setTimeout(() => {
      const { state } = session.view;
      settle(() => reject(new Expected("timeout", `Not running after ${timeoutMs} ms: ${state}.`)));
    }, timeoutMs);
    const stop = session.onView(look);
    look();
  });
}
