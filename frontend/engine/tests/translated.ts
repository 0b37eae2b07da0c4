/**
 * Runs cases twice, by the interpreter and as translated functions, and says where the two differ. For tests/engine/test_translator.py.
 *
 * Standard input: JSON `{image, cases: [{code, state, patches}]}`, bytes as hex; a case is laid out as in tests/engine/reference/case.py.
 * Standard output: JSON `{translated, differences: [{case, what}]}`.
 */

import { readFileSync } from "node:fs";
import {
  CPU_EXIT_ACCESS,
  CPU_EXIT_ADDRESS,
  CPU_EXIT_REASON,
  CPU_RIP,
  CPU_SIZE,
  EXIT_BUDGET,
  GUEST_BASE,
  PAGE_EXEC,
  PAGE_READ,
  PAGE_SIZE,
  PAGE_WRITABLE,
  PAGE_WRITE,
  type CoreExports,
} from "../linux/abi.ts";
import { TranslatedFunctions } from "../linux/memory/translated.ts";

interface Case {
  code: string;
  state: string;
  patches: [number, string][];
}

const CODE = 0x400000;
const CODE_SIZE = 2 * PAGE_SIZE;
const DATA = 0x600000;
const DATA_SIZE = 2 * PAGE_SIZE;
const FIXED = 0x603000;
const FIXED_SIZE = PAGE_SIZE;
const HLT = 0xf4;
const BUDGET = 100;
/** Cases of one instance: each leaves a module behind. */
const CASES_OF_INSTANCE = 1000;

const [corePath] = process.argv.slice(2);
if (corePath === undefined) throw new Error("usage: translated.ts CORE.wasm < cases");
const module = new WebAssembly.Module(readFileSync(corePath));

function makeInstance(): { core: CoreExports; bytes: Uint8Array; functions: TranslatedFunctions } {
  const memory = new WebAssembly.Memory({ initial: (GUEST_BASE + 0x800000) / 65536, maximum: 65536 });
  const functions = new TranslatedFunctions(memory);
  const instance = new WebAssembly.Instance(module, {
    env: { memory, tsc: () => 0n, translate: functions.translate, discard: functions.discard },
  });
  const core = instance.exports as unknown as CoreExports;
  functions.attach(core.__indirect_function_table);
  core.initialize();
  return { core, bytes: new Uint8Array(memory.buffer), functions };
}

let machine = makeInstance();
let translated = 0;

function runCase(
  test: Case,
  image: Uint8Array,
  translate: boolean,
): { exit: number; cpu: Uint8Array; data: Uint8Array } {
  const { core, bytes } = machine;
  core.flush();
  core.setPages(CODE / PAGE_SIZE, CODE_SIZE / PAGE_SIZE, PAGE_READ | PAGE_EXEC);
  core.setPages(DATA / PAGE_SIZE, DATA_SIZE / PAGE_SIZE, PAGE_READ | PAGE_WRITABLE);
  core.setPages(FIXED / PAGE_SIZE, FIXED_SIZE / PAGE_SIZE, PAGE_READ);
  const at = (address: number): number => GUEST_BASE + address;
  const state = Buffer.from(test.state, "hex");
  const rip = Number(state.readBigUInt64LE(CPU_RIP));
  bytes.fill(HLT, at(CODE), at(CODE) + CODE_SIZE);
  bytes.set(Buffer.from(test.code, "hex"), at(rip));
  bytes.set(image.subarray(0, DATA_SIZE), at(DATA));
  bytes.set(image.subarray(DATA_SIZE), at(FIXED));
  for (const [offset, patch] of test.patches) bytes.set(Buffer.from(patch, "hex"), at(DATA) + offset);
  // Written once, so that translated stores are direct ones.
  core.wrote(DATA, DATA_SIZE);
  for (let page = DATA / PAGE_SIZE; page < (DATA + DATA_SIZE) / PAGE_SIZE; page += 1)
    bytes[core.pages() + page]! |= PAGE_WRITE;
  const cpu = core.cpu();
  bytes.set(state, cpu);
  if (translate && core.translate(rip)) translated += 1;
  let exit = EXIT_BUDGET;
  for (let turn = 0; turn < 3 && exit === EXIT_BUDGET; turn += 1) exit = core.run(BUDGET);
  return {
    exit,
    cpu: bytes.slice(cpu, cpu + CPU_SIZE),
    data: bytes.slice(at(DATA), at(DATA) + DATA_SIZE),
  };
}

function hex(bytes: Uint8Array, from: number, length: number): string {
  return Buffer.from(bytes.subarray(from, from + length).toReversed()).toString("hex");
}

/** Offsets of `Cpu` that the two may differ in: what an exit does not set. */
function isCompared(offset: number, exit: number): boolean {
  if (offset >= CPU_EXIT_REASON && offset < CPU_EXIT_REASON + 4) return false;
  const faulted = exit === 3;
  if (offset >= CPU_EXIT_ADDRESS && offset < CPU_EXIT_ACCESS + 8) return faulted;
  return true;
}

const { image, cases } = JSON.parse(readFileSync(0, "utf8")) as { image: string; cases: Case[] };
const imageBytes = Buffer.from(image, "hex");
const differences: { case: number; what: string[] }[] = [];
cases.forEach((test, number) => {
  if (number % CASES_OF_INSTANCE === CASES_OF_INSTANCE - 1) machine = makeInstance();
  const plain = runCase(test, imageBytes, false);
  const fast = runCase(test, imageBytes, true);
  const what: string[] = [];
  if (plain.exit !== fast.exit) what.push(`exit ${plain.exit} and ${fast.exit}`);
  for (let offset = 0; offset < CPU_SIZE; offset += 8) {
    if (!isCompared(offset, plain.exit)) continue;
    const [a, b] = [hex(plain.cpu, offset, 8), hex(fast.cpu, offset, 8)];
    if (a !== b) what.push(`Cpu+${offset}: ${a} and ${b}`);
  }
  for (let offset = 0; offset < DATA_SIZE; offset += 8) {
    const [a, b] = [hex(plain.data, offset, 8), hex(fast.data, offset, 8)];
    if (a !== b) what.push(`data+${offset.toString(16)}: ${a} and ${b}`);
  }
  if (what.length > 0) differences.push({ case: number, what });
});
process.stdout.write(JSON.stringify({ translated, differences }));
