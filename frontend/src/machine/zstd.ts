/** Chunks as they are stored: one zstd frame of level 3, with the content size in its header. */

import type { Zstd } from "@hpcc-js/wasm-zstd";

const LEVEL = 3;

let loading: Promise<Zstd> | undefined;

/** Loads the encoder, which no machine needs before its first save; what failed is tried again by the next call. */
export async function loadEncoder(): Promise<Zstd> {
  loading ??= import("@hpcc-js/wasm-zstd").then(({ Zstd }) => Zstd.load());
  loading.catch(() => (loading = undefined));
  return loading;
}

export async function compressFrame(raw: Uint8Array): Promise<Uint8Array> {
  return (await loadEncoder()).compress(raw, LEVEL);
}
