import { describe, expect, it } from "vitest";
import { Random } from "../testing/random";
import { fromHex, toHex } from "./digest";
import { BadIndex } from "./errors";
import { decodeNode, encodeNode, mergeExtents, rootLevel, type Extent, type IndexNode } from "./index-node";

const digest = (n: number): string => n.toString(16).padStart(2, "0").repeat(32);

function randomLeaf(random: Random): IndexNode {
  const extents: Extent[] = [];
  for (let first = random.below(8); first < 1024;) {
    const offset = random.below(64);
    const count = Math.min(1 + random.below(64 - offset), 1024 - first);
    extents.push({ first, count, digest: digest(random.below(6)), offset });
    first += count + random.below(3) * random.below(90);
  }
  return { level: 0, extents: mergeLegal(extents) };
}

/** Merging may make a run longer than a chunk only when offsets allow it, so this mirrors what a packer produces. */
function mergeLegal(extents: Extent[]): Extent[] {
  return mergeExtents(extents).filter((extent) => extent.offset + extent.count <= 64);
}

describe("index nodes", () => {
  it("test_it_works: the bytes are those of docs/design/formats.md", () => {
    const raw = encodeNode({
      level: 0,
      extents: [
        { first: 3, count: 2, digest: digest(0xaa), offset: 7 },
        { first: 9, count: 1, digest: digest(0xbb), offset: 0 },
      ],
    });
    expect(toHex(raw)).toBe(
      `57564e31${"00"}${"00"}${"0200"}${"02000000"}${digest(0xaa)}${digest(0xbb)}` +
        `0300020000000700${"0900010001000000"}`,
    );
  });

  it("decodes what it encodes, for any leaf and any interior node", () => {
    const random = new Random(1);
    for (let round = 0; round < 200; round++) {
      const leaf = randomLeaf(random);
      expect(decodeNode(encodeNode(leaf))).toEqual(leaf);
      const slots = Array.from({ length: 256 }, (_, slot) => slot).filter(() => random.below(3) === 0);
      if (slots.length === 0) continue;
      const interior = {
        level: 1 + random.below(2),
        children: slots.map((slot) => ({ slot, digest: digest(random.below(9)) })),
      };
      expect(decodeNode(encodeNode(interior))).toEqual(interior);
    }
  });

  it("has one form only: any other bytes that decode encode to themselves", () => {
    const random = new Random(2);
    let refused = 0;
    for (let round = 0; round < 3000; round++) {
      const raw = encodeNode(randomLeaf(random));
      const header = 12 + 32 * (raw[6]! | (raw[7]! << 8));
      // Mostly into the entries, where every bit means something.
      const at =
        random.below(4) === 0 ? random.below(raw.length) : header + random.below(raw.length - header);
      raw[at] = raw[at]! ^ (1 << random.below(8));
      try {
        expect(toHex(encodeNode(decodeNode(raw)))).toBe(toHex(raw));
      } catch (error) {
        expect(error).toBeInstanceOf(BadIndex);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(500);
  });

  const entry = (first: number, count: number, ref: number, offset: number): string =>
    [first, count, ref, offset].map((n) => toHex(Uint8Array.of(n & 255, n >> 8))).join("");
  const leaf = (refs: string[], entries: string[]): Uint8Array =>
    fromHex(
      `57564e310000${toHex(Uint8Array.of(refs.length, 0))}${toHex(Uint8Array.of(entries.length, 0, 0, 0))}${refs.join("")}${entries.join("")}`,
    );
  const cases: [string, Uint8Array][] = [
    ["nothing", new Uint8Array(0)],
    ["no entries", leaf([], [])],
    ["an unused ref", leaf([digest(1), digest(2)], [entry(0, 1, 0, 0), entry(5, 1, 0, 0)])],
    ["refs out of order", leaf([digest(1), digest(2)], [entry(0, 1, 1, 0), entry(5, 1, 0, 0)])],
    ["a ref twice", leaf([digest(1), digest(1)], [entry(0, 1, 0, 0), entry(5, 1, 1, 0)])],
    ["a count of zero", leaf([digest(1)], [entry(0, 0, 0, 0)])],
    ["overlapping extents", leaf([digest(1)], [entry(0, 4, 0, 0), entry(3, 1, 0, 9)])],
    ["runs that should be one", leaf([digest(1)], [entry(0, 2, 0, 0), entry(2, 2, 0, 2)])],
    ["more blocks than a leaf has", leaf([digest(1)], [entry(1000, 25, 0, 0)])],
    ["more blocks than a chunk has", leaf([digest(1)], [entry(0, 2, 0, 63)])],
    ["bytes behind the end", new Uint8Array([...leaf([digest(1)], [entry(0, 1, 0, 0)]), 0])],
  ];
  it.each(cases)("refuses %s", (_, raw) => expect(() => decodeNode(raw)).toThrow(BadIndex));

  it("knows how high a tree is", () => {
    expect([1, 1024, 1025, 262144, 262145].map(rootLevel)).toEqual([0, 0, 1, 1, 2]);
  });
});
