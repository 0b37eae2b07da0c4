/** The emulators' WebAssembly, as files of this site. */

import coreUrl from "../../dist-engine/core.wasm?url";
import v86Url from "v86/build/v86.wasm?url";
import type { MachineKind } from "./machine";

const URLS: Record<MachineKind, string> = { pc: v86Url, linux: coreUrl };

export function compileEmulator(kind: MachineKind): Promise<WebAssembly.Module> {
  return WebAssembly.compileStreaming(fetch(URLS[kind]));
}
