/**
 * Runs the loops of loops.c in core.wasm under Node and says how many million instructions a second of processor time:
 *
 *     gcc -O2 -mgeneral-regs-only -fno-tree-loop-distribute-patterns -static -nostdlib -o loops loops.c
 *     node mips.ts [--interpreter] loops
 */
import { readFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import * as abi from "../linux/abi.ts";
import { TranslatedFunctions } from "../linux/memory/translated.ts";

const NAMES = ["sieve", "sha256", "qsort", "fib"];
const STACK = 0x7fff_0000;
const interpreter = process.argv[2] === "--interpreter";
const program = process.argv[interpreter ? 3 : 2] ?? "loops";
const core = process.env["CORE"] ?? new URL("../../dist-engine/core.wasm", import.meta.url);
const module = await WebAssembly.compile(readFileSync(core));

interface Run {
  milliseconds: number;
  instructions: number;
  code: number;
}

/** Its segments at their addresses, in an address space of its own. */
async function start(): Promise<{ memory: WebAssembly.Memory; core: abi.CoreExports; entry: bigint }> {
  const memory = new WebAssembly.Memory({ initial: 512, maximum: 65536 });
  const tsc = () => process.hrtime.bigint();
  const functions = new TranslatedFunctions(memory);
  const translate = interpreter ? () => 0 : functions.translate;
  const env = { memory, tsc, translate, discard: functions.discard };
  const instance = await WebAssembly.instantiate(module, { env });
  const exports = instance.exports as unknown as abi.CoreExports;
  functions.attach(exports.__indirect_function_table);
  memory.grow(Math.ceil((STACK + abi.PAGE_SIZE) / 65536));
  exports.initialize();
  const elf = readFileSync(program);
  const bytes = new Uint8Array(memory.buffer);
  const headers = Number(elf.readBigUInt64LE(32));
  for (let i = 0; i < elf.readUInt16LE(56); i++) {
    const at = headers + i * elf.readUInt16LE(54);
    if (elf.readUInt32LE(at) !== 1) continue;
    const [offset, address, , fileSize, memorySize] = [8, 16, 24, 32, 40].map((o) =>
      Number(elf.readBigUInt64LE(at + o)),
    );
    bytes.set(elf.subarray(offset, offset! + fileSize!), abi.GUEST_BASE + address!);
    const first = address! >>> abi.PAGE_SHIFT;
    const last = (address! + memorySize! - 1) >>> abi.PAGE_SHIFT;
    exports.setPages(first, last - first + 1, abi.PAGE_READ | abi.PAGE_WRITABLE | abi.PAGE_EXEC);
  }
  exports.setPages((STACK >>> abi.PAGE_SHIFT) - 256, 256, abi.PAGE_READ | abi.PAGE_WRITABLE);
  return { memory, core: exports, entry: elf.readBigUInt64LE(24) };
}

async function run(which: number): Promise<Run> {
  const { memory, core, entry } = await start();
  const cpu = new DataView(memory.buffer, core.cpu());
  new DataView(memory.buffer).setBigUint64(abi.GUEST_BASE + STACK - 64, BigInt(which + 1), true);
  cpu.setBigUint64(abi.CPU_GPR + 4 * 8, BigInt(STACK - 64), true);
  cpu.setBigUint64(abi.CPU_RIP, entry, true);
  const begin = process.cpuUsage().user;
  let exit = abi.EXIT_BUDGET;
  while (exit === abi.EXIT_BUDGET) exit = core.run(1_000_000);
  const milliseconds = (process.cpuUsage().user - begin) / 1000;
  if (exit !== abi.EXIT_SYSCALL)
    throw new Error(`exit ${exit} at ${cpu.getBigUint64(abi.CPU_RIP, true).toString(16)}`);
  const instructions = Number(cpu.getBigUint64(abi.CPU_INSTRUCTIONS, true));
  return { milliseconds, instructions, code: cpu.getUint8(abi.CPU_GPR + 7 * 8) };
}

for (const [which, name] of NAMES.entries()) {
  const native = spawnSync(program, Array<string>(which).fill("x"));
  await run(which); // compiled code is there from now on
  let best = await run(which);
  for (let i = 0; i < 2; i++) {
    const again = await run(which);
    if (again.milliseconds < best.milliseconds) best = again;
  }
  const mips = best.instructions / best.milliseconds / 1000;
  const right = native.status === best.code ? "" : `  WRONG: ${best.code} instead of ${native.status}`;
  console.log(
    `${name.padEnd(8)} ${mips.toFixed(0).padStart(5)} MIPS  ${best.milliseconds.toFixed(0).padStart(5)} ms${right}`,
  );
}
