/** A chunk store and server in memory, as hostile as a test wants it. */

import { packDelta } from "../disk/delta";
import { sha256 } from "../disk/digest";
import { decodeNode, isLeaf } from "../disk/index-node";
import { IndexTree } from "../disk/tree";
import { BLOCK, type SparseBlocks } from "../machine/machine";

export type Answer = Response | "silence" | "unreachable";

export class ChunkServer {
  readonly chunks = new Map<string, Uint8Array>();
  readonly requests: {
    digest: string;
    url: string;
    cache: RequestCache | undefined;
    credentials: RequestCredentials | undefined;
  }[] = [];
  /** Answers instead of the server; undefined lets it answer. `times`: how often this digest was asked for before. */
  interfere: (digest: string, times: number, cache: RequestCache | undefined) => Answer | undefined = () =>
    undefined;
  /** Chunks that are only at a signed URL; the signature that is good now. */
  readonly private = new Set<string>();
  signature = 1;
  /** Packs of private chunks, by leaf. */
  readonly packs = new Map<number, string>();
  locates = 0;
  bundles = 0;
  bundling: "served" | "refused" | "cut" = "served";
  /** What a bundle has in a chunk's place. */
  spoil: (digest: string, raw: Uint8Array) => Uint8Array | undefined = (_, raw) => raw;

  async put(raw: Uint8Array): Promise<string> {
    const digest = await sha256(raw);
    this.chunks.set(digest, raw);
    return digest;
  }

  fetch = async (url: string, init: RequestInit): Promise<Response> => {
    if (init.method === "POST") return this.bundle(String(init.body).split("\n"));
    const digest = /[0-9a-f]{64}/.exec(url)?.[0] ?? "";
    const times = this.requests.filter((request) => request.digest === digest).length;
    this.requests.push({ digest, url, cache: init.cache, credentials: init.credentials });
    const answer = this.interfere(digest, times, init.cache);
    if (answer === "unreachable") throw new TypeError("fetch failed");
    if (answer === "silence") {
      return new Promise((_, reject) =>
        init.signal?.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError"))),
      );
    }
    if (answer) return answer;
    const raw = this.chunks.get(digest);
    if (!raw || this.private.has(digest) !== url.includes("/t/")) return new Response("no", { status: 404 });
    if (url.includes("/t/") && !url.endsWith(`s=${this.signature}`))
      return new Response("no", { status: 403 });
    return new Response(raw.slice());
  };

  private bundle(lines: string[]): Response {
    if (this.bundling === "refused") return new Response("no", { status: 405 });
    this.bundles++;
    const parts = lines.flatMap((line) => {
      const digest = /[0-9a-f]{64}/.exec(line)?.[0] ?? "";
      const signed = line.startsWith("t/") && line.endsWith(`s=${this.signature}`);
      const readable = this.private.has(digest) ? signed : line === `pub/${digest}`;
      const raw = readable ? this.chunks.get(digest) : undefined;
      const sent = (raw && this.spoil(digest, raw)) ?? new Uint8Array(0);
      return [new Uint8Array(Uint32Array.of(sent.length).buffer), sent];
    });
    const body = new Uint8Array(Buffer.concat(parts));
    return new Response(this.bundling === "cut" ? body.slice(0, body.length / 2) : body);
  }

  /** What `POST /vms/{id}/locate` answers for a device with this root. */
  async locate(
    root: string,
    blocks: number,
    leaves: number[],
  ): Promise<{
    nodes: Record<string, string>;
    urls: Record<string, string>;
    packs: Record<string, string>;
    expires_in: number;
  }> {
    this.locates++;
    const nodes: Record<string, string> = {};
    const urls: Record<string, string> = {};
    const tree = new IndexTree(root, blocks, async (digest) => {
      const raw = this.chunk(digest);
      nodes[digest] = btoa(String.fromCharCode(...raw));
      return raw;
    });
    for (const leaf of leaves) {
      for (const { digest } of await tree.leaf(leaf)) {
        if (this.private.has(digest)) urls[digest] = `/chunks/t/home/${digest}?s=${this.signature}`;
      }
    }
    const packs: Record<string, string> = {};
    for (const leaf of leaves) {
      const pack = this.packs.get(leaf);
      if (pack) packs[leaf] = `/chunks/t/home/${pack}?s=${this.signature}`;
    }
    return { nodes, urls, packs, expires_in: 300 };
  }

  chunk(digest: string): Uint8Array {
    const raw = this.chunks.get(digest);
    if (!raw) throw new Error(`the server has no chunk ${digest}`);
    return raw;
  }

  tree(root: string, blocks: number): IndexTree {
    return new IndexTree(root, blocks, async (digest) => this.chunk(digest));
  }

  /** Stores a device with these blocks and returns its root. */
  async putDevice(blocks: number, written: SparseBlocks): Promise<string> {
    const delta = await packDelta(this.tree("", blocks), { written });
    for (const [digest, raw] of delta.chunks) this.chunks.set(digest, raw);
    return delta.root;
  }

  /** Reads a block the plain way. */
  async readBlock(root: string, blocks: number, block: number): Promise<Uint8Array> {
    for (const extent of await this.tree(root, blocks).leaf(Math.floor(block / 1024))) {
      const inLeaf = block % 1024;
      if (inLeaf < extent.first || inLeaf >= extent.first + extent.count) continue;
      const at = (extent.offset + inLeaf - extent.first) * BLOCK;
      return this.chunk(extent.digest).subarray(at, at + BLOCK);
    }
    return new Uint8Array(BLOCK);
  }

  /** The "WVP1" form of these chunks. */
  async putPack(digests: string[]): Promise<string> {
    const header = new DataView(new ArrayBuffer(8 + 36 * digests.length));
    header.setUint32(0, 0x31505657, true);
    header.setUint32(4, digests.length, true);
    digests.forEach((digest, i) => {
      for (let byte = 0; byte < 32; byte++) {
        header.setUint8(8 + 36 * i + byte, parseInt(digest.slice(2 * byte, 2 * byte + 2), 16));
      }
      header.setUint32(8 + 36 * i + 32, this.chunk(digest).length, true);
    });
    const parts = [new Uint8Array(header.buffer), ...digests.map((digest) => this.chunk(digest))];
    return this.put(new Uint8Array(Buffer.concat(parts)));
  }

  /** Every digest that is reached from a root. */
  reach(root: string): Set<string> {
    const seen = new Set<string>();
    const walk = (digest: string): void => {
      if (digest === "" || seen.has(digest)) return;
      seen.add(digest);
      const node = decodeNode(this.chunk(digest));
      if (isLeaf(node)) for (const extent of node.extents) seen.add(extent.digest);
      else for (const child of node.children) walk(child.digest);
    };
    walk(root);
    return seen;
  }
}

/** Blocks whose numbers and bytes are given; sorted. */
export function sparse(blocks: ReadonlyMap<number, Uint8Array>): SparseBlocks {
  const numbers = Uint32Array.from(blocks.keys()).sort();
  const data = new Uint8Array(numbers.length * BLOCK);
  numbers.forEach((block, i) => data.set(blocks.get(block)!, i * BLOCK));
  return { numbers, data };
}
