/** The worker that the page starts: a session behind messages. */

// First of all: it prepares the worker for v86, which looks around when it is loaded.
import "./pc/environment";
import { openBrowserCache } from "../disk/browser-cache";
import type { LocateAnswer } from "./client";
import { errorFrom, plainError, type Calls, type Notices, type ToPage, type ToWorker } from "./messages";
import type { MachineKind } from "./machine";
import { loadEmulator } from "./emulators";
import { Session } from "./session";
import { compileEmulator } from "./wasm";

const scope = globalThis as unknown as {
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  postMessage(message: ToPage, transfer?: Transferable[]): void;
};

const locating = new Map<
  number,
  { resolve: (answer: LocateAnswer) => void; reject: (error: Error) => void }
>();
let lastLocate = 0;
/** There is one save at a time, so one such question at most. */
let giveExtra: ((bytes: Uint8Array | undefined) => void) | undefined;

let giveWasm!: (given: { kind: MachineKind; module: Promise<WebAssembly.Module> }) => void;
const wasm = new Promise<{ kind: MachineKind; module: Promise<WebAssembly.Module> }>(
  (resolve) => (giveWasm = resolve),
);
const cache = openBrowserCache();

const session = new Session({
  fetch: (url, init) => fetch(url, init),
  openCache: () => cache,
  compileWasm: async (kind) => {
    const given = await wasm;
    // The page began before it knew what its machine is.
    return given.kind === kind ? given.module : compileEmulator(kind);
  },
  locate: (request) =>
    new Promise((resolve, reject) => {
      const id = ++lastLocate;
      locating.set(id, { resolve, reject });
      scope.postMessage({ type: "locate", id, request });
    }),
  askExtra: () =>
    new Promise((resolve) => {
      giveExtra = resolve;
      scope.postMessage({ type: "extra" });
    }),
  emit: (name, ...values) => {
    const buffers = values.flatMap((value) => buffersOf(value));
    scope.postMessage({ type: "event", name, values }, buffers);
  },
});

scope.onmessage = ({ data }) => {
  switch (data.type) {
    case "call":
      void answer(data.id, data.name, data.args);
      return;
    case "notice":
      (session[data.name] as (...args: unknown[]) => void).apply(
        session,
        data.args as Parameters<Notices[keyof Notices]>,
      );
      return;
    case "extra":
      giveExtra?.(data.bytes);
      return;
    case "kind":
      // A failure is heard when the session starts.
      loadEmulator(data.kind).catch(() => undefined);
      return;
    case "wasm":
      giveWasm({ kind: data.kind, module: moduleFrom(data) });
      return;
    case "located": {
      const waiting = locating.get(data.id);
      locating.delete(data.id);
      if ("error" in data) waiting?.reject(errorFrom(data.error));
      else waiting?.resolve(data.answer);
    }
  }
};

function moduleFrom(data: Extract<ToWorker, { type: "wasm" }>): Promise<WebAssembly.Module> {
  if ("module" in data) return Promise.resolve(data.module);
  const failed = Promise.reject(errorFrom(data.error));
  // Its failure is heard by who asks for it.
  failed.catch(() => undefined);
  return failed;
}

async function answer(id: number, name: keyof Calls, args: unknown[]): Promise<void> {
  try {
    const result = await (session[name] as (...args: unknown[]) => unknown).apply(session, args);
    scope.postMessage({ type: "answer", id, result }, buffersOf(result));
  } catch (error) {
    scope.postMessage({ type: "answer", id, error: plainError(error) });
  }
}

/** Buffers that the receiver gets and this side needs no more. */
function buffersOf(value: unknown): Transferable[] {
  if (value instanceof Uint8Array) return [value.buffer as ArrayBuffer];
  const pixels = (value as { pixels?: unknown } | null | undefined)?.pixels;
  return pixels instanceof Uint8Array ? [pixels.buffer as ArrayBuffer] : [];
}
