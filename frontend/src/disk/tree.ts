/** A device's index, loaded node by node as it is read. */

import { BadIndex } from "./errors";
import {
  FAN_OUT,
  LEAF_BLOCKS,
  decodeNode,
  isLeaf,
  rootLevel,
  type Extent,
  type IndexNode,
  type Interior,
} from "./index-node";

/** Gives the verified bytes of a node on the way to leaf number `leaf`. */
export type NodeLoader = (digest: string, leaf: number) => Promise<Uint8Array>;

export class IndexTree {
  readonly rootLevel: number;
  readonly leafCount: number;
  private readonly nodes = new Map<string, IndexNode>();

  constructor(
    /** Digest of the root, or "" for a device of zeros. */
    readonly root: string,
    readonly blocks: number,
    private readonly load: NodeLoader,
  ) {
    this.rootLevel = rootLevel(blocks);
    this.leafCount = Math.ceil(blocks / LEAF_BLOCKS);
  }

  /** Digest of the node with number `index` at `level`, or "" where all is zeros. */
  async digestAt(level: number, index: number): Promise<string> {
    if (level === this.rootLevel) return this.root;
    const parent = await this.nodeAt(level + 1, Math.floor(index / FAN_OUT));
    return parent ? childOf(parent as Interior, index % FAN_OUT) : "";
  }

  async nodeAt(level: number, index: number): Promise<IndexNode | undefined> {
    const digest = await this.digestAt(level, index);
    if (digest === "") return undefined;
    const known = this.nodes.get(digest);
    if (known && known.level === level) return known;
    const leaf = index * FAN_OUT ** level;
    const node = decodeNode(await this.load(digest, leaf));
    if (node.level !== level)
      throw new BadIndex(`an index node of level ${node.level} where one of ${level} belongs`);
    this.checkBounds(node, index);
    this.nodes.set(digest, node);
    return node;
  }

  /** The extents of a leaf; empty where all is zeros. */
  async leaf(index: number): Promise<readonly Extent[]> {
    const node = await this.nodeAt(0, index);
    return node && isLeaf(node) ? node.extents : [];
  }

  /** The same without waiting, or undefined when a node on the way has not been loaded. */
  leafNow(index: number): readonly Extent[] | undefined {
    let digest = this.root;
    for (let level = this.rootLevel; ; level--) {
      if (digest === "") return [];
      const node = this.nodes.get(digest);
      if (!node || node.level !== level) return undefined;
      if (isLeaf(node)) return node.extents;
      digest = childOf(node, Math.floor(index / FAN_OUT ** (level - 1)) % FAN_OUT);
    }
  }

  /** A tree of the same size whose new nodes are at hand; shares what this one has loaded. */
  successor(root: string, newNodes: Map<string, Uint8Array>): IndexTree {
    const tree = new IndexTree(root, this.blocks, this.load);
    for (const [digest, node] of this.nodes) tree.nodes.set(digest, node);
    for (const [digest, raw] of newNodes) tree.nodes.set(digest, decodeNode(raw));
    return tree;
  }

  private checkBounds(node: IndexNode, index: number): void {
    if (isLeaf(node)) {
      const last = node.extents.at(-1);
      if (last && index * LEAF_BLOCKS + last.first + last.count > this.blocks) {
        throw new BadIndex("a leaf reaches behind the end of its device");
      }
      return;
    }
    const last = node.children.at(-1);
    const leavesEach = FAN_OUT ** (node.level - 1);
    if (last && (index * FAN_OUT + last.slot) * leavesEach >= this.leafCount) {
      throw new BadIndex("an index node reaches behind the end of its device");
    }
  }
}

/** The extent that holds block `first` of the leaf, or undefined for zeros. */
export function findExtent(extents: readonly Extent[], first: number): Extent | undefined {
  let low = 0;
  let high = extents.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const extent = extents[middle]!;
    if (first < extent.first) high = middle;
    else if (first >= extent.first + extent.count) low = middle + 1;
    else return extent;
  }
  return undefined;
}

function childOf(node: Interior, slot: number): string {
  return node.children.find((child) => child.slot === slot)?.digest ?? "";
}
