/** Chunks as they are stored: one zstd frame with the content size in its header. */

import type { Zstd } from "@hpcc-js/wasm-zstd";

/** Of a save's chunks about 5% less than level 3 makes of them, and a third less of databases, for a few more milliseconds each. */
const LEVEL = 7;

let loading: Promise<Zstd> | undefined;

/** Loads the encoder, which no machine needs before its first save; what failed is tried again by the next call. */
export async function loadEncoder(): Promise<Zstd> {
  loading ??= import("@hpcc-js/wasm-zstd").then(({ Zstd }) => Zstd.load());
  loading.catch(() => (loading = undefined));
  return loading;
}

export async function compressFrame(raw: Uint8Array, level = LEVEL): Promise<Uint8Array> {
  return (await loadEncoder()).compress(raw, level);
}
