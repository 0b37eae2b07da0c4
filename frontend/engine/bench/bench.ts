/**
 * `npm --prefix frontend run bench:node [-- --rounds N]`: the eight loops and real programs, natively and in this engine under Node, one after
 * the other in each round. Figures are the medians of the rounds' ratios (engine / native, lower is better): machines are noisy.
 *
 * The loops are compiled with ziglang for x86-64-v1; real programs are the host's, seen through `--root /`.
 */

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const RUNNER = join(HERE, "..", "headless", "main.ts");
const LOOPS = ["sieve", "sha256", "qsort", "matmul", "strlen", "copy", "chase", "hash"];
const TIMES = 60;
/** Name and shell command; its time includes the start of the program, in the engine that of the engine too. */
const PROGRAMS: [string, string][] = [
  ["true (start)", "true"],
  ["bash loop", "for ((i = 0; i < 100000; i++)); do :; done"],
  ["gcc -O2 hello.c", "gcc -O2 -o hello hello.c"],
  ["python3 loop", "/usr/bin/python3 -c 'print(sum(i * i for i in range(1000000)))'"],
  ["gzip 8 MB", "head -c 8000000 numbers | gzip | wc -c"],
  ["sha256sum 8 MB", "sha256sum numbers"],
  ["sort", "sort -R --random-source=numbers numbers | sort -n | tail -1"],
];

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

function compileLoops(folder: string): string {
  const program = join(folder, "loops");
  const arguments_ = [
    "-m",
    "ziglang",
    "cc",
    "-target",
    "x86_64-linux-musl",
    "-mcpu=x86_64",
    "-O2",
    "-static",
  ];
  const all = ["run", "python", ...arguments_, join(HERE, "eight-loops.c"), "-o", program];
  execFileSync("uv", all, { cwd: join(HERE, "..", "..", ".."), stdio: ["ignore", "ignore", "inherit"] });
  return program;
}

interface Timed {
  output: string;
  milliseconds: number;
}

function timed(command: string, argv: string[], folder: string): Timed {
  const start = performance.now();
  const done = spawnSync(command, argv, { cwd: folder, encoding: "utf8" });
  if (done.status !== 0) throw new Error(`${command} ${argv.join(" ")}: ${done.stderr}`);
  return { output: done.stdout, milliseconds: performance.now() - start };
}

function inEngine(argv: string[], folder: string): Timed {
  return timed(process.execPath, [RUNNER, "--root", "/", "--cwd", folder, "--", ...argv], folder);
}

function nanoseconds(run: Timed): number {
  return Number(run.output.trim().split(" ")[2]);
}

function row(name: string, native: number[], ours: number[]): void {
  const ratio = median(ours.map((value, i) => value / native[i]!));
  const times = `${median(native).toFixed(1).padStart(9)} ms ${median(ours).toFixed(1).padStart(9)} ms`;
  process.stdout.write(`${name.padEnd(18)}${times} ${ratio.toFixed(2).padStart(7)}x\n`);
}

const rounds = Number(process.argv[process.argv.indexOf("--rounds") + 1] ?? 3) || 3;
const folder = mkdtempSync(join(tmpdir(), "webvm-bench-"));
try {
  const loops = compileLoops(folder);
  writeFileSync(join(folder, "hello.c"), '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n');
  const numbers = Array.from({ length: 1_200_000 }, (_, i) => String((i * 7919) % 1_000_003));
  writeFileSync(join(folder, "numbers"), `${numbers.join("\n")}\n`);
  process.stdout.write(`${"".padEnd(18)}${"native".padStart(12)} ${"engine".padStart(12)}   ratio\n`);
  for (const name of LOOPS) {
    const native: number[] = [];
    const ours: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      const host = timed(loops, [name, String(TIMES)], folder);
      const guest = inEngine([loops, name, String(TIMES)], folder);
      const sums = [host, guest].map((run) => run.output.split(" ")[1]);
      if (sums[0] !== sums[1]) throw new Error(`${name}: ${sums.join(" and ")}`);
      native.push(nanoseconds(host) / 1e6);
      ours.push(nanoseconds(guest) / 1e6);
    }
    row(name, native, ours);
  }
  for (const [name, command] of PROGRAMS) {
    const native: number[] = [];
    const ours: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      native.push(timed("bash", ["-c", command], folder).milliseconds);
      ours.push(inEngine(["bash", "-c", command], folder).milliseconds);
    }
    row(name, native, ours);
  }
} finally {
  rmSync(folder, { recursive: true });
}
