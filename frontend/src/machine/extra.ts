/** The page's own bytes (the terminal's screen) in the last blocks of a memory device: u32 magic, u32 length, then the bytes. */

import { BLOCK, EXTRA_BLOCKS, type BlockRun, type SparseBlocks } from "./machine";

const MAGIC = 0x58455657; // "WVEX"
const HEADER = 8;

/** Number of the first of these blocks in a memory of so many blocks. */
export function extraStart(memoryBlocks: number): number {
  return memoryBlocks - EXTRA_BLOCKS;
}

/** The blocks behind the captured ones; bytes that do not fit are left out as a whole. */
export function withExtra(
  memory: SparseBlocks,
  memoryBlocks: number,
  extra: Uint8Array | undefined,
): SparseBlocks {
  if (!extra || extra.length === 0 || HEADER + extra.length > EXTRA_BLOCKS * BLOCK) return memory;
  const count = Math.ceil((HEADER + extra.length) / BLOCK);
  const numbers = new Uint32Array(memory.numbers.length + count);
  numbers.set(memory.numbers);
  for (let i = 0; i < count; i++) numbers[memory.numbers.length + i] = extraStart(memoryBlocks) + i;
  const data = new Uint8Array(memory.data.length + count * BLOCK);
  data.set(memory.data);
  const header = new DataView(data.buffer, memory.data.length);
  header.setUint32(0, MAGIC, true);
  header.setUint32(4, extra.length, true);
  data.set(extra, memory.data.length + HEADER);
  return { numbers, data };
}

/** Parts the machine's blocks from the page's bytes. */
export function splitExtra(
  runs: BlockRun[],
  memoryBlocks: number,
): { machine: BlockRun[]; extra: Uint8Array | undefined } {
  const start = extraStart(memoryBlocks);
  const area = new Uint8Array(EXTRA_BLOCKS * BLOCK);
  const machine: BlockRun[] = [];
  for (const { first, data } of runs) {
    const before = Math.max(0, Math.min(data.length, (start - first) * BLOCK));
    if (before > 0) machine.push({ first, data: data.subarray(0, before) });
    if (before < data.length) area.set(data.subarray(before), (Math.max(first, start) - start) * BLOCK);
  }
  const header = new DataView(area.buffer);
  const length = header.getUint32(4, true);
  const present = header.getUint32(0, true) === MAGIC && HEADER + length <= area.length;
  return { machine, extra: present ? area.slice(HEADER, HEADER + length) : undefined };
}
