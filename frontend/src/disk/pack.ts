/** Reads a "WVP1" pack (docs/design/formats.md) as it arrives. */

import { CHUNK } from "../machine/machine";
import { toHex } from "./digest";

const MAGIC = 0x31505657; // "WVP1"
const HEADER = 8;
const ENTRY = 36;
/** A pack of more entries than this is not one of ours: 256 Ki entries would be 64 GiB. */
const MAX_ENTRIES = 1 << 18;

/** The bytes are not a pack. */
export class BadPack extends Error {
  override readonly name = "BadPack";
}

/** Yields the entries of the pack in order, each in a buffer of its own. The bytes are not verified here. */
export async function* readPack(
  stream: ReadableStream<Uint8Array>,
  onBytes: (piece: Uint8Array) => void = () => undefined,
): AsyncGenerator<{ digest: string; raw: Uint8Array }> {
  const reader = stream.getReader();
  let rest: Uint8Array = new Uint8Array(0);

  const take = async (length: number): Promise<Uint8Array> => {
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
  };

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
    await reader.cancel().catch(() => undefined);
  }
}
