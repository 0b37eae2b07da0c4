/** What a session is made of and what it shows: the types that the session and the page's parts share. */

import type { Journal } from "../journal/journal";
import type { MachineClient } from "../machine/client";
import type { MachineState } from "../machine/machine";
import type { LeaseState, SyncOptions } from "../sync/client";
import type { Holder } from "../sync/protocol";
import type { SaveProgress } from "../sync/save";
import type { Api, Descriptor } from "./api";
import type { AutosaveView } from "./autosave";
import type { Phases } from "./phases";

/** What the automation interface calls `state`. */
export type PublicState = "loading" | "booting" | "running" | "paused" | "saving" | "error";

export interface TerminalSize {
  terminal: number;
  columns: number;
  rows: number;
}

/** The part of the terminals that a session needs. They are numbered from 0. */
export interface SessionTerminals {
  /** Which one the person sees. */
  readonly shown: number;
  /** Of those that there are by now: one is made when it is shown, or printed to. */
  readonly sizes: readonly TerminalSize[];
  /** What the machine has, before anything else of it is told. */
  prepare(machine: Descriptor["machine"]): void;
  write(bytes: Uint8Array, terminal: number): void;
  /**
   * Shows saved screens; with `keepSize` in their own size, until the next `fit`. Which terminals have theirs now: none when the bytes
   * are no saved screens.
   */
  restore(bytes: Uint8Array, keepSize?: boolean): readonly number[];
  /** All screens. */
  serialize(mostBytes: number): Promise<Uint8Array>;
  /** The one that the person sees. */
  serializeShown(mostBytes: number): Promise<Uint8Array>;
  /** Of terminal 0. */
  screenText(): string;
  /** Makes the shown one as large as its place on the page. */
  fit(): void;
}

export interface SessionOptions {
  vm: string;
  descriptorUrl: string;
  /** The open descriptor as it was when the page was made: the first start needs no request for it. */
  descriptor?: Descriptor | undefined;
  /** Absolute, `ws:` or `wss:`. */
  socketUrl: (vm: string) => string;
  /** This tab's run, see `SyncOptions.session`. */
  session: string;
  api: Api;
  terminals: SessionTerminals;
  phases: Phases;
  openSocket: SyncOptions["openSocket"];
  timing?: SyncOptions["timing"];
  every?: SyncOptions["every"];
  /** Starts loading the machine's worker; what it returns is handed to `startMachine`. */
  startWorker: () => Worker;
  startMachine: (options: {
    descriptor: Awaited<ReturnType<Api["open"]>>;
    worker: Worker;
    locate: (request: Parameters<Api["locate"]>[1]) => ReturnType<Api["locate"]>;
    /** The memory stays where it is: the machine boots from its disk. */
    coldBoot: boolean;
  }) => MachineClient;
  /** Base64 picture of what the person sees. */
  takePicture: () => Promise<string | null>;
  journal?: Journal | undefined;
}

export interface SaveReport {
  snapshot: string;
  kind: "save" | "auto";
  uploadedBytes: number;
  /** ms from the request to the acknowledged snapshot. */
  totalMs: number;
  /** ms the guest stood still, and ms until everything was ready to be sent. */
  pausedMs: number;
  preparedMs: number;
  dirtyBlocks: number;
  changedPages: number;
  packedBytes: number;
  reusedBytes: number;
  /** How often a lost connection made it start over. */
  retries: number;
}

/** Why the person must choose before the session can go on. */
export type Conflict =
  /** `asking`: they have been asked for it; `saving`: and are saving for us. */
  | ({ kind: "held"; asking: boolean; saving: boolean } & Holder)
  /** As many of the tenant's machines run as may. */
  | { kind: "full"; sessions: number; most: number }
  /** `saved`: all that was done here was saved before. */
  | { kind: "lost"; message: string; saved: boolean }
  | { kind: "head_moved" }
  | { kind: "signed_out" }
  | { kind: "not_found" };

export interface SavingView {
  phase: "preparing" | SaveProgress["phase"];
  progress: SaveProgress | undefined;
}

export interface Failure {
  message: string;
  /**
   * What may help: the failed disk reads once more, everything from the last save once more, or booting the disk of the last save, whose
   * memory cannot be resumed.
   */
  retry: "disk" | "start" | "boot";
}

/** Everything that the page shows about a session. */
export interface SessionView {
  state: PublicState;
  machine: MachineState;
  lease: LeaseState["kind"];
  saving: SavingView | undefined;
  autosave: AutosaveView;
  /** ms since 1970 when the connection was lost. */
  offlineSince: number | undefined;
  /** Somebody else has the machine, and this tab shows what they see. */
  watching: boolean;
  /** Somebody has asked for the machine: it is being saved for them. */
  handingOver: string | undefined;
  conflict: Conflict | undefined;
  failure: Failure | undefined;
  /** While the machine is loaded. Bytes of `total`; 0: not known. */
  loading: { phase: string; done: number; total: number } | undefined;
  /** The person did something that is in no snapshot yet. */
  unsaved: boolean;
  /** 4 KiB blocks of the disk that differ from the last snapshot. */
  dirtyBlocks: number;
  waitingForDisk: boolean;
  head: string | null;
}
