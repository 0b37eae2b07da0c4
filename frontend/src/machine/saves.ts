/** The saves of a running machine, and the rounds that send ahead for them: what is new against the parent snapshot, packed. */

import { packDelta, type Delta, type Rest } from "../disk/delta";
import { KnownBlocks } from "../disk/known";
import type { RemoteDisk } from "../disk/remote-disk";
import { MOST_BLOCKS, SentAhead } from "./ahead";
import type { Devices } from "./devices";
import { withExtra } from "./extra";
import { MachineError, type Machine } from "./machine";
import type { RoundSummary, SaveSummary } from "./messages";
import { parentMatcher } from "./parent-memory";
import { compressFrame } from "./zstd";

/** Work beside a running guest: so long at once, and a rest as long as a nested time-out takes, ms. */
const WORK_FOR = 4;
const REST_FOR = 4;

interface Save {
  summary: SaveSummary;
  disk: Delta;
  memory: Delta;
}

export interface SavesOptions {
  machine: Machine;
  disk: RemoteDisk;
  devices: Devices;
  /** The page's bytes for a save; see `SaveOptions` of client.ts. */
  askExtra(): Promise<Uint8Array | undefined>;
  /** The guest runs, and wants the thread. */
  isRunning(): boolean;
}

export class Saves {
  private readonly ahead: SentAhead;
  private save: Save | undefined;
  private saving = false;
  private last = 0;

  constructor(private readonly options: SavesOptions) {
    this.ahead = new SentAhead(options.devices.source, options.devices.known);
  }

  /** Captures the machine and works out what is new against the parent snapshot. A save that was neither committed nor discarded is dropped. */
  async prepare(askExtra: boolean): Promise<SaveSummary> {
    const { machine, devices } = this.options;
    const { source, known, trees } = devices;
    if (this.saving) throw new MachineError("save_in_progress", "A save is being prepared already.");
    this.saving = true;
    this.save = undefined;
    try {
      const started = performance.now();
      devices.learn();
      const parent = await parentMatcher(trees.memory, source, this.rests());
      let extra: Promise<Uint8Array | undefined> | undefined;
      const capture = await machine.capture({
        matches: parent.matches,
        frozen: () => {
          // Without it the snapshot is whole all the same.
          if (askExtra) extra = this.options.askExtra().catch(() => undefined);
        },
      });
      const memory = withExtra(capture.memory, trees.memory.blocks, await extra);
      const local = (digest: string): Promise<Uint8Array | undefined> => source.local(digest);
      // What this save packs for the disk is likely to be in the guest's page cache too.
      const mine = new Map<string, Uint8Array>();
      const blocks = new KnownBlocks(async (digest) => mine.get(digest) ?? source.local(digest), known);
      const options = {
        known: blocks,
        local,
        isPublic: (digest: string) => devices.isPublic(digest),
        isAhead: (digest: string) => this.ahead.chunk(digest) !== undefined,
        aheadBlocks: this.ahead.blocks,
        rest: this.rests(),
      };
      const diskDelta = await packDelta(trees.disk, { written: capture.disk }, options);
      for (const [digest, raw] of diskDelta.chunks) {
        mine.set(digest, raw);
        if (!diskDelta.nodes.has(digest)) blocks.add(digest, raw);
      }
      const memoryDelta = await packDelta(
        trees.memory,
        { written: memory, cleared: parent.cleared(capture.matched, memory.numbers) },
        { ...options, beside: diskDelta.sent },
      );
      const summary: SaveSummary = {
        id: ++this.last,
        parentSnapshot: devices.snapshot,
        diskRoot: diskDelta.root,
        memoryRoot: memoryDelta.root,
        chunks: listed(
          new Map([
            ...this.ahead.among([...diskDelta.named, ...memoryDelta.named]),
            ...diskDelta.chunks,
            ...memoryDelta.chunks,
          ]),
        ),
        pausedMs: capture.pausedMs,
        preparedMs: performance.now() - started,
        dirtyBlocks: diskDelta.changedBlocks,
        changedPages: memoryDelta.changedBlocks,
        packedBytes: diskDelta.packedBytes + memoryDelta.packedBytes,
        reusedBytes: diskDelta.reusedBytes + memoryDelta.reusedBytes,
        thumbnail: capture.thumbnail,
      };
      this.save = { summary, disk: diskDelta, memory: memoryDelta };
      return summary;
    } finally {
      this.saving = false;
    }
  }

  async frame(id: number, digest: string): Promise<Uint8Array> {
    const save = this.saved(id);
    const { source, known } = this.options.devices;
    const raw = save.disk.chunks.get(digest) ?? save.memory.chunks.get(digest) ?? this.ahead.chunk(digest);
    // The service may lack one of the parent, too, that is at hand here.
    const found = raw ?? (await source.local(digest));
    if (!found) {
      // The next save packs its blocks anew.
      known.forget(digest);
      throw new MachineError("chunk_gone", "The service has lost a part of this save. Save again.");
    }
    return compressFrame(found);
  }

  /** Looks for what has changed, beside the running guest, and packs it to be sent ahead; undefined when that is little. */
  async prepareRound(): Promise<RoundSummary | undefined> {
    const { machine, disk, devices } = this.options;
    const { source, trees } = devices;
    if (this.saving) throw new MachineError("save_in_progress", "A save is being prepared already.");
    this.saving = true;
    try {
      const rest = this.rests();
      const parent = await parentMatcher(trees.memory, source, rest);
      const memory = await machine.survey(parent.matches, MOST_BLOCKS);
      const id = ++this.last;
      const chunks = await this.ahead.pack(id, { disk: disk.written(), memory }, rest);
      return chunks && { id, chunks: listed(chunks) };
    } finally {
      this.saving = false;
    }
  }

  async roundFrame(digest: string): Promise<Uint8Array> {
    const raw = this.ahead.chunk(digest);
    if (!raw) throw new MachineError("save_gone", "This round is over.");
    return compressFrame(raw);
  }

  discardRound(id: number, stored: readonly string[]): void {
    this.ahead.end(id, stored);
  }

  /** The save is the snapshot `snapshot` now, and the parent of the next one. */
  committed(id: number, snapshot: string): void {
    const { disk: diskDelta, memory: memoryDelta } = this.saved(id);
    const { disk, devices } = this.options;
    const { source, known, locator, trees } = devices;
    this.ahead.committed(new Set([...diskDelta.named, ...memoryDelta.named]), {
      disk: diskDelta.written,
      memory: memoryDelta.written,
    });
    for (const delta of [diskDelta, memoryDelta]) {
      for (const [digest, raw] of delta.chunks) {
        source.put(digest, raw);
        if (!delta.nodes.has(digest)) known.add(digest, raw);
      }
    }
    trees.disk = trees.disk.successor(diskDelta.root, diskDelta.nodes);
    trees.memory = trees.memory.successor(memoryDelta.root, memoryDelta.nodes);
    disk.rebase(trees.disk);
    devices.snapshot = snapshot;
    locator.rebase({ disk: diskDelta.touchedLeaves, memory: memoryDelta.touchedLeaves });
    this.save = undefined;
  }

  discard(id: number, stored: readonly string[]): void {
    if (this.save?.summary.id !== id) return;
    const { disk, memory } = this.save;
    this.save = undefined;
    for (const delta of [disk, memory]) {
      const data = [...delta.chunks].filter(([digest]) => !delta.nodes.has(digest));
      this.ahead.add(stored, new Map(data));
    }
  }

  /** Long work lets the guest run in between, as long as it runs. */
  private rests(): Rest {
    let until = performance.now() + WORK_FOR;
    return async () => {
      if (performance.now() < until || !this.options.isRunning()) return;
      await new Promise((resolve) => setTimeout(resolve, REST_FOR));
      until = performance.now() + WORK_FOR;
    };
  }

  private saved(id: number): Save {
    if (this.save?.summary.id !== id)
      throw new MachineError("save_gone", "This save has been dropped; save again.");
    return this.save;
  }
}

function listed(chunks: ReadonlyMap<string, Uint8Array>): { digest: string; rawSize: number }[] {
  return [...chunks].map(([digest, raw]) => ({ digest, rawSize: raw.length }));
}
