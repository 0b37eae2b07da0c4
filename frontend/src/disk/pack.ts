/** Many chunks in one stream: "WVP1" packs (docs/design/formats.md) and the service's bundles (docs/design/api.md), read as they arrive. */

import { CHUNK } from "../machine/machine";
import { fromHex, toHex } from "./digest";

const MAGIC = 0x31505657; // "WVP1"
const HEADER = 8;
const ENTRY = 36;
/** A pack of more entries than this is not one of ours: 256 Ki entries would be 64 GiB. */
const MAX_ENTRIES = 1 << 18;

/** The bytes are not a pack. */
export class BadPack extends Error {
  override readonly name = "BadPack";
}

interface ByteReader {
  /** The next `length` bytes, in a buffer of their own. */
  take(length: number): Promise<Uint8Array>;
  end(): Promise<void>;
}

function byteReader(stream: ReadableStream<Uint8Array>, onBytes: (piece: Uint8Array) => void): ByteReader {
  const reader = stream.getReader();
  let rest: Uint8Array = new Uint8Array(0);
  return {
    take: async (length) => {
      const taken = new Uint8Array(length);
      let done = 0;
      for (;;) {
        const piece = rest.subarray(0, length - done);
        taken.set(piece, done);
        done += piece.length;
        rest = rest.subarray(piece.length);
        if (done === length) return taken;
        const next = await reader.read();
        if (next.done) throw new BadPack("the pack is cut short");
        onBytes(next.value);
        rest = next.value;
      }
    },
    end: () => reader.cancel().catch(() => undefined),
  };
}

/** Yields the entries of the pack in order, each in a buffer of its own. The bytes are not verified here. */
export async function* readPack(
  stream: ReadableStream<Uint8Array>,
  onBytes: (piece: Uint8Array) => void = () => undefined,
): AsyncGenerator<{ digest: string; raw: Uint8Array }> {
  const { take, end } = byteReader(stream, onBytes);
  try {
    const header = new DataView((await take(HEADER)).buffer);
    const count = header.getUint32(4, true);
    if (header.getUint32(0, true) !== MAGIC || count > MAX_ENTRIES) throw new BadPack("not a pack");
    const directory = await take(count * ENTRY);
    const lengths = new DataView(directory.buffer);
    for (let i = 0; i < count; i++) {
      const at = i * ENTRY;
      const length = lengths.getUint32(at + 32, true);
      if (length > CHUNK) throw new BadPack("an entry of the pack is too large");
      yield { digest: toHex(directory.subarray(at, at + 32)), raw: await take(length) };
    }
  } finally {
    await end();
  }
}

/** The chunks as a pack, in pieces. */
export function writePack(chunks: ReadonlyMap<string, Uint8Array>): Uint8Array[] {
  const head = new Uint8Array(HEADER + chunks.size * ENTRY);
  const view = new DataView(head.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, chunks.size, true);
  let at = HEADER;
  for (const [digest, raw] of chunks) {
    head.set(fromHex(digest), at);
    view.setUint32(at + 32, raw.length, true);
    at += ENTRY;
  }
  return [head, ...chunks.values()];
}

/** Yields `count` entries of a bundle in the order they were asked for; undefined for one that the service did not give. */
export async function* readBundle(
  stream: ReadableStream<Uint8Array>,
  count: number,
  onBytes: (piece: Uint8Array) => void,
): AsyncGenerator<Uint8Array | undefined> {
  const { take, end } = byteReader(stream, onBytes);
  try {
    for (let i = 0; i < count; i++) {
      const length = new DataView((await take(4)).buffer).getUint32(0, true);
      if (length > CHUNK) throw new BadPack("an entry of the bundle is too large");
      yield length > 0 ? await take(length) : undefined;
    }
  } finally {
    await end();
  }
}
