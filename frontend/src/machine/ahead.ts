/**
 * Pre-copy rounds: what has changed is packed and sent while the guest runs, so that a save finds most of its blocks in chunks
 * that the service has already. Nothing here is a snapshot: blocks may be of different instants, and those that change again
 * are sent again.
 */

import { packBlocks, type Rest } from "../disk/delta";
import { KnownBlocks } from "../disk/known";
import type { ChunkSource } from "../disk/source";
import { BLOCK, type SparseBlocks } from "./machine";

/** A round with less than this many blocks to send is not worth its requests: the save itself has no more to do. */
const LEAST_BLOCKS = 64;
/** So many blocks of the memory are looked at in one round. */
export const MOST_BLOCKS = 16_384;
/** Raw bytes that are kept because the service has them and no snapshot names them yet. */
const MOST_BYTES = 64 << 20;

const DEVICES = ["disk", "memory"] as const;
type Device = (typeof DEVICES)[number];

export class SentAhead {
  /** Chunks of the round that is being sent. */
  private round: { id: number; chunks: Map<string, Uint8Array> } | undefined;
  /** Chunks that the service has and that no snapshot is known to name. */
  private readonly sent = new Map<string, Uint8Array>();
  private sentBytes = 0;
  /**
   * Blocks that changed for the last save. What has changed since as well is written all the time, and would have changed again by the next
   * save: that one takes it.
   */
  private busy: Readonly<Record<Device, ReadonlySet<number>>> = { disk: new Set(), memory: new Set() };

  constructor(
    private readonly source: ChunkSource,
    private readonly known: KnownBlocks,
  ) {}

  /** How many blocks went ahead since the last save that was committed. */
  get blocks(): number {
    return this.sentBytes / BLOCK;
  }

  /** Packs the blocks that no chunk is known to have and that have not changed for the last save as well. Undefined: too few. */
  async pack(
    id: number,
    devices: Readonly<Record<Device, SparseBlocks>>,
    rest: Rest,
  ): Promise<Map<string, Uint8Array> | undefined> {
    const blocks: Uint8Array[] = [];
    for (const device of DEVICES) {
      const { numbers, data } = devices[device];
      const places = await this.known.find(data, rest);
      for (const [i, place] of places.entries()) {
        if (place || this.busy[device].has(numbers[i]!)) continue;
        blocks.push(data.subarray(i * BLOCK, (i + 1) * BLOCK));
      }
    }
    if (blocks.length < LEAST_BLOCKS || this.sentBytes + blocks.length * BLOCK > MOST_BYTES) return undefined;
    const chunks = await packBlocks(blocks, rest);
    this.round = { id, chunks };
    return chunks;
  }

  /** A chunk of the round, or one that was sent ahead and that a save names. */
  chunk(digest: string): Uint8Array | undefined {
    return this.round?.chunks.get(digest) ?? this.sent.get(digest);
  }

  /** The round is over: its blocks are found in the chunks of `stored` from now on. */
  end(id: number, stored: readonly string[]): void {
    if (this.round?.id !== id) return;
    const { chunks } = this.round;
    this.round = undefined;
    this.add(stored, chunks);
  }

  /** The service has these chunks, though the save that they were for came to nothing. */
  add(stored: readonly string[], chunks: ReadonlyMap<string, Uint8Array>): void {
    for (const digest of stored) {
      const raw = chunks.get(digest);
      if (!raw || this.sent.has(digest) || this.sentBytes + raw.length > MOST_BYTES) continue;
      this.sent.set(digest, raw);
      this.sentBytes += raw.length;
      this.source.put(digest, raw);
      this.known.add(digest, raw);
    }
  }

  /** Those of `digests` that were sent ahead: a save that names them brings them along, in case they are gone. */
  among(digests: Iterable<string>): Map<string, Uint8Array> {
    const found = new Map<string, Uint8Array>();
    for (const digest of digests) {
      const raw = this.sent.get(digest);
      if (raw) found.set(digest, raw);
    }
    return found;
  }

  /** A save was committed that `wrote` these blocks: what it does not name may go at any time, and is not proposed again. */
  committed(named: ReadonlySet<string>, wrote: Readonly<Record<Device, ReadonlySet<number>>>): void {
    this.busy = wrote;
    for (const digest of this.sent.keys()) if (!named.has(digest)) this.known.forget(digest);
    this.sent.clear();
    this.sentBytes = 0;
  }
}
