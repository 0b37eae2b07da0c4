/** What a journal says of the save it keeps: all that the commit needs, and where the frames are. */

import { Damaged } from "./sealing";

const VERSION = 1;
const DIGEST = /^[0-9a-f]{64}$/;

/** A chunk of the save, and the number under which its sealed frame of so many bytes lies in the journal. */
export interface KeptChunk {
  digest: string;
  rawSize: number;
  number: number;
  bytes: number;
}

export interface Manifest {
  vm: string;
  /** The tab's run: whoever continues for it may take its lease without waiting until that runs out. */
  session: string;
  expectedHead: string | null;
  diskRoot: string;
  memoryRoot: string;
  reusedBytes: number;
  message: string;
  thumbnail: string | null;
  idempotencyKey: string;
  /** When the machine was in this state: ms since 1970. */
  savedAt: number;
  /** In the order of the save: children before the nodes that name them. */
  chunks: KeptChunk[];
}

export function encodeManifest({ chunks, ...rest }: Manifest): Uint8Array {
  const rows = chunks.map(({ digest, rawSize, number, bytes }) => [digest, rawSize, number, bytes]);
  return new TextEncoder().encode(JSON.stringify({ version: VERSION, ...rest, chunks: rows }));
}

/** Throws `Damaged` on anything that `encodeManifest` does not make. */
export function decodeManifest(bytes: Uint8Array): Manifest {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as Record<string, unknown>;
  } catch {
    throw new Damaged("the manifest is not JSON");
  }
  if (value["version"] !== VERSION) throw new Damaged("the manifest has another layout");
  const string = (name: string): string => {
    const found = value[name];
    if (typeof found !== "string") throw new Damaged(`the manifest's ${name} is no text`);
    return found;
  };
  const optional = (name: string): string | null => (value[name] === null ? null : string(name));
  const number = (found: unknown): number => {
    if (!Number.isSafeInteger(found) || (found as number) < 0) throw new Damaged("not a number");
    return found as number;
  };
  const rows = value["chunks"];
  if (!Array.isArray(rows)) throw new Damaged("the manifest has no chunks");
  const chunks = rows.map((row: unknown): KeptChunk => {
    if (!Array.isArray(row) || !DIGEST.test(String(row[0]))) throw new Damaged("not a chunk");
    return { digest: String(row[0]), rawSize: number(row[1]), number: number(row[2]), bytes: number(row[3]) };
  });
  return {
    vm: string("vm"),
    session: string("session"),
    expectedHead: optional("expectedHead"),
    diskRoot: string("diskRoot"),
    memoryRoot: string("memoryRoot"),
    reusedBytes: number(value["reusedBytes"]),
    message: string("message"),
    thumbnail: optional("thumbnail"),
    idempotencyKey: string("idempotencyKey"),
    savedAt: number(value["savedAt"]),
    chunks,
  };
}
