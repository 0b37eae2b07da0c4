/** What the page and the worker say to each other. Buffers of large messages are transferred, not copied. */

import type {
  LocateAnswer,
  LocateRequest,
  MachineStats,
  OpenDescriptor,
  PreparedChunk,
  Started,
} from "./client";
import type { MachineKind } from "./machine";

/** A prepared save without its functions. */
export interface SaveSummary {
  id: number;
  parentSnapshot: string | null;
  diskRoot: string;
  memoryRoot: string;
  chunks: PreparedChunk[];
  pausedMs: number;
  preparedMs: number;
  dirtyBlocks: number;
  changedPages: number;
  packedBytes: number;
  reusedBytes: number;
  thumbnail: string | null;
}

/** A pre-copy round without its functions. */
export interface RoundSummary {
  id: number;
  chunks: PreparedChunk[];
}

/** Calls of the page: name → arguments and result. */
export interface Calls {
  start: (options: { descriptor: OpenDescriptor; coldBoot: boolean }) => Started;
  pause: () => void;
  run: () => void;
  restart: () => void;
  retryDisk: () => void;
  destroy: () => void;
  prepareSave: (askExtra: boolean) => SaveSummary;
  frame: (save: number, digest: string) => Uint8Array;
  committed: (save: number, snapshot: string) => void;
  discard: (save: number, stored: readonly string[]) => void;
  prepareRound: () => RoundSummary | undefined;
  discardRound: (round: number, stored: readonly string[]) => void;
  roundFrame: (digest: string) => Uint8Array;
  stats: () => MachineStats;
}

/** Things the page tells without waiting for an answer. */
export interface Notices {
  sendConsole: (bytes: Uint8Array, terminal?: number) => void;
  sendAgent: (line: string) => void;
  sendKey: (event: { code: string; down: boolean }) => void;
  sendMouse: (event: { dx: number; dy: number; buttons: number; wheel: number }) => void;
  watchScreen: (on: boolean) => void;
}

export interface PlainError {
  name: string;
  message: string;
  code?: string;
}

export type ToWorker =
  | { type: "call"; id: number; name: keyof Calls; args: unknown[] }
  | { type: "notice"; name: keyof Notices; args: unknown[] }
  | { type: "located"; id: number; answer: LocateAnswer }
  | { type: "located"; id: number; error: PlainError }
  | { type: "extra"; bytes: Uint8Array | undefined }
  | { type: "kind"; kind: MachineKind }
  | { type: "wasm"; kind: MachineKind; module: WebAssembly.Module }
  | { type: "wasm"; kind: MachineKind; error: PlainError };

export type ToPage =
  | { type: "answer"; id: number; result: unknown }
  | { type: "answer"; id: number; error: PlainError }
  | { type: "event"; name: string; values: unknown[] }
  | { type: "extra" }
  | { type: "locate"; id: number; request: LocateRequest };

export function plainError(error: unknown): PlainError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error) };
  const { code } = error as { code?: unknown };
  return { name: error.name, message: error.message, ...(typeof code === "string" && { code }) };
}

export function errorFrom(plain: PlainError): Error {
  const error = new Error(plain.message);
  error.name = plain.name;
  return plain.code === undefined ? error : Object.assign(error, { code: plain.code });
}
