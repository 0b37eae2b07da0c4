/** RAM and device state of the PC as the blocks of one memory device. */

import {
  BLOCK,
  STATE_BLOCKS,
  MachineError,
  type BlockMatcher,
  type BlockRun,
  type SparseBlocks,
} from "../machine";
import { restoreState, type MachineSize } from "./state";
import type { Cpu } from "./v86";
import { nextPageIn } from "./zero-pages";

const WORDS = BLOCK / 4;

/** What the emulator itself writes into a fresh machine's RAM (the BIOS images) lies below 1 MiB. */
const FIRMWARE_BYTES = 1 << 20;

/** Copies every block that is neither zero nor matched. The machine must stand still. */
export function captureMemory(
  cpu: Cpu,
  state: Uint8Array,
  size: MachineSize,
  matches: BlockMatcher = () => false,
): { memory: SparseBlocks; matched: Uint32Array } {
  // `mem8` is a proxy that survives growth of the wasm memory; a plain view is many times faster.
  const ram = new Int32Array(cpu.wasm_memory.buffer, cpu.mem8.byteOffset, size.ramBytes / 4);
  const areas = [
    { words: ram, first: 0 },
    { words: new Int32Array(state.buffer, state.byteOffset, state.length / 4), first: size.ramBytes / BLOCK },
  ];
  const changed: number[] = [];
  const matched: number[] = [];
  for (const block of pagesIn(cpu, 0, size.ramBytes / BLOCK)) {
    if (matches(block, ram, block * WORDS)) matched.push(block);
    else changed.push(block);
  }
  const { words, first } = areas[1]!;
  for (let block = 0, at = 0; at < words.length; block++, at += WORDS) {
    if (isZero(words, at)) continue;
    if (matches(first + block, words, at)) matched.push(first + block);
    else changed.push(first + block);
  }
  const data = new Uint8Array(changed.length * BLOCK);
  const copies = new Int32Array(data.buffer);
  changed.forEach((block, index) => {
    const area = block < areas[1]!.first ? areas[0]! : areas[1]!;
    const at = (block - area.first) * WORDS;
    copies.set(area.words.subarray(at, at + WORDS), index * WORDS);
  });
  return { memory: { numbers: Uint32Array.from(changed), data }, matched: Uint32Array.from(matched) };
}

/** A slice of a survey: blocks from `from` on, until `ms` are over or at least `most` were found. `next` is where the next begins. */
export function surveyMemory(
  cpu: Cpu,
  size: MachineSize,
  options: { matches: BlockMatcher; from: number; most: number; ms: number },
): { blocks: SparseBlocks; next: number } {
  const ram = new Int32Array(cpu.wasm_memory.buffer, cpu.mem8.byteOffset, size.ramBytes / 4);
  const end = size.ramBytes / BLOCK;
  const until = performance.now() + options.ms;
  const found: number[] = [];
  let next = options.from;
  while (next < end && found.length < options.most && performance.now() < until) {
    const from = next;
    next = Math.min(end, next + 64);
    for (const block of pagesIn(cpu, from, next)) {
      if (!options.matches(block, ram, block * WORDS)) found.push(block);
    }
  }
  const data = new Uint8Array(found.length * BLOCK);
  const words = new Int32Array(data.buffer);
  found.forEach((number, index) =>
    words.set(ram.subarray(number * WORDS, (number + 1) * WORDS), index * WORDS),
  );
  return { blocks: { numbers: Uint32Array.from(found), data }, next };
}

/** Fills a fresh machine's RAM and restores its devices. */
export function loadMemory(cpu: Cpu, memory: Iterable<BlockRun>, size: MachineSize): void {
  const ram = new Uint8Array(cpu.wasm_memory.buffer, cpu.mem8.byteOffset, size.ramBytes);
  const ramBlocks = size.ramBytes / BLOCK;
  ram.fill(0, 0, FIRMWARE_BYTES);
  const stateRuns: BlockRun[] = [];
  let stateBlocks = 0;
  for (const run of memory) {
    const end = run.first + run.data.length / BLOCK;
    if (end > ramBlocks + STATE_BLOCKS)
      throw new MachineError("memory_size", "This snapshot's memory is larger than the machine's.");
    const inRam = Math.max(0, Math.min(end, ramBlocks) - run.first) * BLOCK;
    if (inRam > 0) ram.set(run.data.subarray(0, inRam), run.first * BLOCK);
    if (end > ramBlocks) {
      stateRuns.push({ first: Math.max(0, run.first - ramBlocks), data: run.data.subarray(inRam) });
      stateBlocks = Math.max(stateBlocks, end - ramBlocks);
    }
  }
  const state = new Uint8Array(stateBlocks * BLOCK);
  for (const { first, data } of stateRuns) state.set(data, first * BLOCK);
  restoreState(cpu, state, size);
  // The processor starts with the time stamp counter that is stored here, as it does after a pause.
  cpu.store_current_tsc();
}

/** Numbers of the RAM's pages in [from, to) that are not zeros. */
function pagesIn(cpu: Cpu, from: number, to: number): number[] {
  const next = nextPageIn(cpu.wasm_memory);
  const base = cpu.mem8.byteOffset;
  const end = base + to * BLOCK;
  const found: number[] = [];
  for (let at = next(base + from * BLOCK, end); at < end; at = next(at + BLOCK, end))
    found.push((at - base) / BLOCK);
  return found;
}

function isZero(words: Int32Array, at: number): boolean {
  const end = at + WORDS;
  for (let i = at; i < end; i += 4) {
    if (words[i]! | words[i + 1]! | words[i + 2]! | words[i + 3]!) return false;
  }
  return true;
}
