/** A machine's disk and memory as the service has them: where their chunks are, and which of their blocks are known. */

import type { ChunkCache } from "../disk/cache";
import { LEAF_BLOCKS } from "../disk/index-node";
import { KnownBlocks } from "../disk/known";
import { Locator, type Device } from "../disk/locator";
import type { Fetch } from "../disk/retry";
import { ChunkSource } from "../disk/source";
import { IndexTree } from "../disk/tree";
import { withCookies } from "./arriving";
import type { DeviceDescriptor, LocateAnswer, LocateRequest, OpenDescriptor } from "./client";
import { STATE_BLOCKS } from "./machine";

/** Chunks kept in memory: room for a parent's memory, which every save is compared with, and for what programs read. */
const MEMORY_BYTES = 192 << 20;

export interface DevicesOptions {
  descriptor: OpenDescriptor;
  /** Null: the machine boots, its memory is empty. */
  memory: DeviceDescriptor | null;
  cache: ChunkCache | undefined;
  fetch: Fetch;
  locate(request: LocateRequest): Promise<LocateAnswer>;
}

export class Devices {
  readonly source: ChunkSource;
  readonly locator: Locator;
  readonly known: KnownBlocks;
  readonly trees: Record<Device, IndexTree>;
  /** The snapshot that the trees are of; null: none yet. */
  snapshot: string | null;
  /** Chunks that were seen to be public: free to name, and nobody's to fold. */
  private readonly publicChunks = new Set<string>();
  /** Chunks whose blocks are not known yet; undefined once all are, and new ones become known at once. */
  private unknown: { digest: string; raw: Uint8Array }[] | undefined = [];

  constructor({ descriptor, memory, cache, fetch, locate }: DevicesOptions) {
    this.snapshot = descriptor.snapshot?.id ?? null;
    const devices: Record<Device, DeviceDescriptor> = {
      disk: descriptor.disk,
      memory: memory ?? { root: "", blocks: memoryBlocks(descriptor), public: true },
    };
    const leafCount = (device: Device): number => Math.ceil(devices[device].blocks / LEAF_BLOCKS);
    const locator = new Locator({
      baseUrl: descriptor.chunk_base_url,
      locate: (device, leaves) => locate({ snapshot: this.snapshot, device, leaves }),
      publicDevices: (["disk", "memory"] as const).filter((device) => devices[device].public),
      leafCounts: { disk: leafCount("disk"), memory: leafCount("memory") },
    });
    const known: KnownBlocks = new KnownBlocks((digest) => source.local(digest));
    const source: ChunkSource = new ChunkSource({
      locator,
      fetch: descriptor.chunk_cookies ? withCookies(fetch, descriptor) : fetch,
      cache,
      memoryBytes: MEMORY_BYTES,
      onChunk: (digest, raw, isPublic) => {
        if (isPublic) this.publicChunks.add(digest);
        // What a fork reads is another tenant's: a save may name it at its own place only.
        else if (!descriptor.vm || !locator.isOwn(digest, descriptor.vm.tenant)) return;
        if (this.unknown) this.unknown.push({ digest, raw });
        else known.add(digest, raw);
      },
    });
    const tree = (device: Device): IndexTree => {
      const load = async (digest: string, leaf: number): Promise<Uint8Array> =>
        (await locator.node(digest, { device, leaf })) ?? source.get(digest, "index", { device, leaf });
      return new IndexTree(devices[device].root, devices[device].blocks, load);
    };
    this.source = source;
    this.locator = locator;
    this.known = known;
    this.trees = { disk: tree("disk"), memory: tree("memory") };
  }

  isPublic(digest: string): boolean {
    return this.publicChunks.has(digest);
  }

  /** Looks at all chunks that came so far: a save can name their blocks. */
  learn(): void {
    for (const { digest, raw } of this.unknown?.splice(0) ?? []) this.known.add(digest, raw);
  }

  /** What the start has put off, in small steps: the guest runs in this thread. */
  async settle(): Promise<void> {
    // First of all: a page that is closed soon is to find its chunks the next time.
    await this.source.releaseWrites();
    while (this.unknown?.length) {
      for (const { digest, raw } of this.unknown.splice(0, 8)) this.known.add(digest, raw);
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    this.unknown = undefined;
  }
}

function memoryBlocks({ machine }: OpenDescriptor): number {
  return machine.memory_mib * 256 + STATE_BLOCKS;
}
