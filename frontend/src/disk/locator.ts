/** Where chunks are: public ones by name, private ones by asking the server with a leaf that names them. */

import { sha256 } from "./digest";

export type Device = "disk" | "memory";

/** A leaf of a device that names a chunk: what the server wants to hear before it gives out a private chunk's URL. */
export interface Place {
  device: Device;
  leaf: number;
}

/** Mirrors `POST /vms/{id}/locate` (docs/design/api.md). */
export type Locate = (
  device: Device,
  leaves: number[],
) => Promise<{
  nodes: Record<string, string>;
  urls: Record<string, string>;
  packs?: Record<string, string>;
  expires_in?: number;
}>;

/** Leaves asked for at once: the one that is needed and those behind it, which a reader is likely to want next. */
const BATCH = 8;
/** The server's limit of leaves in one request. */
const MAX_LEAVES = 64;

/** The requests that ask for all leaves of a device. */
export function wholeDevice(leafCount: number): number[][] {
  const leaves = Array.from({ length: leafCount }, (_, leaf) => leaf);
  return Array.from({ length: Math.ceil(leafCount / MAX_LEAVES) }, (_, i) =>
    leaves.slice(i * MAX_LEAVES, (i + 1) * MAX_LEAVES),
  );
}
/** A browser opens six connections to a host over HTTP/1.1; more requests would only wait there, without order. */
const CONNECTIONS = 6;
/**
 * Requests at once over HTTP/2, where they share a connection: enough that a far CDN's delay is not waited for again and again
 * (docs/design/delivery.md has the figures), few enough that what is urgent is not behind many.
 */
const STREAMS = 24;
/** URLs are renewed before they end, ms; and assumed to be good for this long when the server does not say. */
const MARGIN = 10_000;
const DEFAULT_LIFE = 60_000;

export interface LocatorOptions {
  baseUrl: string;
  locate: Locate;
  /** The devices of which nothing is private. */
  publicDevices: Device[];
  leafCounts: Record<Device, number>;
  now?: () => number;
}

export class Locator {
  /** Per device whose tree was the image's: the leaves that saves have replaced since. The other devices are private throughout. */
  private readonly replaced = new Map<Device, Set<number>>();
  private readonly now: () => number;
  private readonly urls = new Map<string, { url: string; expires: number }>();
  /** Packs of leaves' private chunks. */
  private readonly packs = new Map<string, { url: string; expires: number }>();
  private readonly nodes = new Map<string, Uint8Array>();
  /** Leaves that the server has been asked for, and until when its answer is good. */
  private readonly located = new Map<string, number>();
  private readonly asking = new Map<string, Promise<void>>();

  constructor(private readonly options: LocatorOptions) {
    this.now = options.now ?? Date.now;
    for (const device of options.publicDevices) this.replaced.set(device, new Set());
  }

  publicUrl(digest: string): string {
    return `${this.options.baseUrl}pub/${digest}`;
  }

  /** How many requests at once make sense. A CDN speaks HTTP/2 to whoever comes over TLS; this service itself may not. */
  get concurrent(): number {
    return /^https:/.test(this.options.baseUrl) ? STREAMS : CONNECTIONS;
  }

  /** Where many chunks are had at once, and what their URLs begin with; undefined where another host serves the chunks. */
  get bundles(): { url: string; prefix: string } | undefined {
    const { baseUrl } = this.options;
    return /^\/(?!\/)/.test(baseUrl) ? { url: `${baseUrl}bundle`, prefix: baseUrl } : undefined;
  }

  /** Where the chunk is. `place` is missing for what is always public (packs, firmware). */
  async url(digest: string, place?: Place): Promise<string> {
    if (!place || this.isPublicLeaf(place)) return this.publicUrl(digest);
    const known = this.urls.get(digest);
    if (known && known.expires > this.now()) return known.url;
    await this.ask(place);
    // The server names every private chunk of the leaf; a chunk without a URL is public.
    return this.urls.get(digest)?.url ?? this.publicUrl(digest);
  }

  /** Where most of the leaf's private chunks are in one object, as far as the server has told. */
  pack(place: Place): string | undefined {
    const known = this.packs.get(key(place));
    return known && known.expires > this.now() ? known.url : undefined;
  }

  /** Whether everybody may read the chunk; false when that is not known. */
  isPublic(digest: string, place?: Place): boolean {
    if (!place || this.isPublicLeaf(place)) return true;
    return this.located.has(key(place)) && !this.urls.has(digest);
  }

  /** Whether the chunk was found among the tenant's own, so that a save of the tenant may name it anywhere. */
  isOwn(digest: string, tenant: string): boolean {
    return this.urls.get(digest)?.url.includes(`/t/${tenant}/`) ?? false;
  }

  /** Forgets an URL that did not work, so that the next `url` asks the server again. */
  forget(digest: string, place?: Place): void {
    this.urls.delete(digest);
    if (place) this.located.delete(key(place));
  }

  /** A save has replaced leaves: their chunks are to be asked for, and under the new snapshot. */
  rebase(replaced: Record<Device, Iterable<number>>): void {
    for (const device of ["disk", "memory"] as const) {
      for (const leaf of replaced[device]) {
        this.replaced.get(device)?.add(leaf);
        this.located.delete(key({ device, leaf }));
        this.packs.delete(key({ device, leaf }));
      }
    }
  }

  /** The node's bytes if it came with an answer of the server; undefined for a device whose nodes are read as chunks. */
  async node(digest: string, place: Place): Promise<Uint8Array | undefined> {
    if (this.isPublicLeaf(place)) return undefined;
    if (!this.nodes.has(digest)) await this.ask(place);
    return this.nodes.get(digest);
  }

  /** Asks for the nodes and URLs of all leaves with few requests. */
  async prepare(device: Device): Promise<void> {
    if (this.replaced.has(device)) return;
    const requests = wholeDevice(this.options.leafCounts[device]);
    await Promise.all(requests.map((leaves) => this.request(device, leaves)));
  }

  private isPublicLeaf({ device, leaf }: Place): boolean {
    return this.replaced.get(device)?.has(leaf) === false;
  }

  private async ask(place: Place): Promise<void> {
    const id = key(place);
    if ((this.located.get(id) ?? 0) > this.now()) return;
    let asking = this.asking.get(id);
    if (!asking) {
      const end = Math.min(place.leaf + BATCH, this.options.leafCounts[place.device]);
      const leaves = Array.from({ length: Math.max(1, end - place.leaf) }, (_, i) => place.leaf + i);
      asking = this.request(place.device, leaves).finally(() => this.asking.delete(id));
      this.asking.set(id, asking);
    }
    await asking;
  }

  private async request(device: Device, leaves: number[]): Promise<void> {
    const answer = await this.options.locate(device, leaves);
    for (const [digest, text] of Object.entries(answer.nodes)) {
      if (this.nodes.has(digest)) continue;
      const raw = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
      if ((await sha256(raw)) === digest) this.nodes.set(digest, raw);
    }
    const life = answer.expires_in === undefined ? DEFAULT_LIFE : answer.expires_in * 1000;
    const expires = this.now() + Math.max(life / 2, life - MARGIN);
    for (const [digest, url] of Object.entries(answer.urls)) this.urls.set(digest, { url, expires });
    for (const leaf of leaves) {
      this.located.set(key({ device, leaf }), expires);
      const url = answer.packs?.[leaf];
      if (url) this.packs.set(key({ device, leaf }), { url, expires });
    }
  }
}

function key(place: Place): string {
  return `${place.device}:${place.leaf}`;
}
