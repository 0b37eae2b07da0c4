/** What a machine needs before it runs: its memory and its firmware, brought with few requests. */

import type { Locator, Place } from "../disk/locator";
import type { Fetch } from "../disk/retry";
import type { ChunkSource } from "../disk/source";
import type { IndexTree } from "../disk/tree";
import type { Blob, OpenDescriptor } from "./client";
import { MachineError } from "./machine";

/** A snapshot that shares at least so many chunks with the image's memory gets them with the pack, in one request. */
const PACK_WORTH = 16;

/** Brings everything that the memory names into the source, with as few requests as may be. */
export async function loadMemory(
  source: ChunkSource,
  locator: Locator,
  tree: IndexTree,
  descriptor: OpenDescriptor,
  progress: (done: number, total: number) => void,
): Promise<void> {
  const image = descriptor.image;
  const pack = async (): Promise<void> => {
    const total = image.warm_pack_bytes;
    await source
      .loadPack(image.warm_pack, "warm_pack", (done) => progress(done, total))
      // A pack is only a faster way to chunks that can be had singly.
      .catch(() => undefined);
  };
  const leaves = Array.from({ length: tree.leafCount }, (_, leaf) => leaf);
  let packed: Promise<void> | undefined;
  if (tree.root === image.memory_root) await (packed = pack());
  else {
    // A pack that is here already costs no request: it is read while the server is asked.
    if (await source.hasPack(image.warm_pack)) packed = pack();
    await locator.prepare("memory");
  }
  const wanted = new Map<string, Place>();
  for (const leaf of leaves) {
    for (const extent of await tree.leaf(leaf))
      if (!wanted.has(extent.digest)) wanted.set(extent.digest, { device: "memory", leaf });
  }
  const shared = [...wanted].filter(([digest, place]) => locator.isPublic(digest, place));
  if (!packed && shared.length >= PACK_WORTH) packed = pack();
  await packed;
  let done = [...wanted.keys()].filter((digest) => source.peek(digest)).length;
  const arrived = (): void => progress(++done, wanted.size);
  await source.getMany(wanted, "memory", `memory-${descriptor.vm?.id ?? ""}`, arrived);
  await Promise.all([...wanted].map(([digest, place]) => source.get(digest, "memory", place)));
}

/** A blob from its chunks. Rejects with `firmware` when it does not have its size. */
export async function readWhole(source: ChunkSource, blob: Blob): Promise<Uint8Array> {
  const pieces = await Promise.all(blob.chunks.map((digest) => source.get(digest, "firmware")));
  const whole = new Uint8Array(blob.size);
  let at = 0;
  for (const piece of pieces) {
    if (at + piece.length > blob.size) break;
    whole.set(piece, at);
    at += piece.length;
  }
  if (at !== blob.size)
    throw new MachineError("firmware", "The machine's firmware is damaged: it does not have its size.");
  return whole;
}

/** Sends a CDN its cookies with private chunks, and with nothing else: public ones allow every origin, which excludes cookies. */
export function withCookies(fetch: Fetch, { chunk_base_url: base }: OpenDescriptor): Fetch {
  return (url, init) => fetch(url, url.startsWith(`${base}t/`) ? { ...init, credentials: "include" } : init);
}
