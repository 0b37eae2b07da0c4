/** Chunks as they are stored: one zstd frame of level 3, with the content size in its header. */

import { Zstd } from "@hpcc-js/wasm-zstd";

const LEVEL = 3;

let loading: Promise<Zstd> | undefined;

export async function compressFrame(raw: Uint8Array): Promise<Uint8Array> {
  loading ??= Zstd.load();
  return (await loading).compress(raw, LEVEL);
}
