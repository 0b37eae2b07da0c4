/** What /proc says of a process, in the kernel's formats (proc(5)). */

import { capabilitiesOf } from "../../capabilities.ts";
import { PAGE_SIZE } from "../../abi.ts";
import { PROT_EXEC, PROT_READ, PROT_WRITE } from "../../memory/areas.ts";
import type { ThreadGroup } from "../../process.ts";
import type { Thread } from "../../task.ts";
import type { ByteString } from "../../types.ts";
import { majorOf, minorOf } from "../constants.ts";

/** USER_HZ: 10 ms. */
const TICK = 1e7;

export function stateOf(process: ThreadGroup, thread: Thread | undefined): string {
  if (process.zombie || thread === undefined) return "Z";
  if (process.stopSignal !== 0) return "T";
  if (thread.state === "runnable") return "R";
  return thread.interruptible ? "S" : "D";
}

function addressesOf(thread: Thread | undefined): { virtual: number; resident: number } {
  if (thread === undefined) return { virtual: 0, resident: 0 };
  const { maps } = thread;
  return { virtual: maps.areas.total(), resident: maps.resident() };
}

function sigset(process: ThreadGroup, ignored: boolean): bigint {
  let set = 0n;
  for (let signal = 1; signal <= 64; signal += 1) {
    const { handler } = process.action(signal);
    if (ignored ? handler === 1 : handler > 1) set |= 1n << BigInt(signal - 1);
  }
  return set;
}

function hex(set: bigint): string {
  return set.toString(16).padStart(16, "0");
}

function nameOf(process: ThreadGroup, thread: Thread | undefined): ByteString {
  return thread?.name ?? process.name;
}

export function statText(process: ThreadGroup, thread: Thread | undefined, alone: boolean): ByteString {
  const { virtual, resident } = addressesOf(thread);
  const { usage, childrenUsage } = process;
  const maps = thread?.maps;
  const terminal = process.session.terminal;
  const ticks = (ns: number): number => Math.floor(ns / TICK);
  const user = alone && thread !== undefined ? thread.cpuTime : usage.user;
  const signals = [
    Number(BigInt.asUintN(31, thread?.pending.set ?? 0n)),
    Number(BigInt.asUintN(31, thread?.mask ?? 0n)),
    Number(BigInt.asUintN(31, sigset(process, true))),
    Number(BigInt.asUintN(31, sigset(process, false))),
  ];
  const fields = [
    process.parent?.pid ?? 0,
    process.pgid,
    process.sid,
    terminal?.device ?? 0,
    terminal === undefined ? -1 : process.pgid,
    0x400000,
    usage.minorFaults,
    childrenUsage.minorFaults,
    0,
    0,
    ticks(user),
    ticks(usage.system),
    ticks(childrenUsage.user),
    ticks(childrenUsage.system),
    20 + process.nice,
    process.nice,
    process.threads.length,
    0,
    ticks(thread?.startTime ?? process.startTime),
    virtual,
    resident,
    "18446744073709551615",
    maps?.codeStart ?? 0,
    maps?.codeEnd ?? 0,
    maps?.stackStart ?? 0,
    0,
    0,
    ...signals,
    0,
    0,
    0,
    17,
    0,
    0,
    0,
    0,
    0,
    0,
    maps?.dataStart ?? 0,
    maps?.dataEnd ?? 0,
    maps?.brkStart ?? 0,
    maps?.argStart ?? 0,
    maps?.argEnd ?? 0,
    maps?.envStart ?? 0,
    maps?.envEnd ?? 0,
    process.exitStatus ?? 0,
  ];
  const id = thread?.tid ?? process.pid;
  return `${id} (${nameOf(process, thread)}) ${stateOf(process, thread)} ${fields.join(" ")}\n`;
}

const STATES: Record<string, string> = {
  R: "R (running)",
  S: "S (sleeping)",
  D: "D (disk sleep)",
  T: "T (stopped)",
  Z: "Z (zombie)",
};

export function statusText(process: ThreadGroup, thread: Thread | undefined): ByteString {
  const { credentials: c } = process;
  const { virtual, resident } = addressesOf(thread);
  const kib = (bytes: number): string => `${String(Math.ceil(bytes / 1024)).padStart(8)} kB`;
  const maps = thread?.maps;
  const capabilities = capabilitiesOf(c);
  const set = (bits: bigint): string => bits.toString(16).padStart(16, "0");
  const memory =
    maps === undefined
      ? []
      : [
          `VmPeak:\t${kib(maps.peakBytes)}`,
          `VmSize:\t${kib(virtual)}`,
          `VmLck:\t${kib(0)}`,
          `VmPin:\t${kib(0)}`,
          `VmHWM:\t${kib(Math.max(process.usage.peakMemory * 1024, resident * PAGE_SIZE))}`,
          `VmRSS:\t${kib(resident * PAGE_SIZE)}`,
          `RssAnon:\t${kib(resident * PAGE_SIZE)}`,
          `RssFile:\t${kib(0)}`,
          `RssShmem:\t${kib(0)}`,
          `VmData:\t${kib(maps.brk - maps.brkStart)}`,
          `VmStk:\t${kib(132 * 1024)}`,
          `VmExe:\t${kib(maps.codeEnd - maps.codeStart)}`,
          `VmLib:\t${kib(0)}`,
          `VmPTE:\t${kib(resident * 8)}`,
          `VmSwap:\t${kib(0)}`,
        ];
  return (
    [
      `Name:\t${nameOf(process, thread).replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`,
      `Umask:\t${process.fs.umask.toString(8).padStart(4, "0")}`,
      `State:\t${STATES[stateOf(process, thread)]}`,
      `Tgid:\t${process.pid}`,
      "Ngid:\t0",
      `Pid:\t${thread?.tid ?? process.pid}`,
      `PPid:\t${process.parent?.pid ?? 0}`,
      "TracerPid:\t0",
      `Uid:\t${c.uid}\t${c.euid}\t${c.suid}\t${c.fsuid}`,
      `Gid:\t${c.gid}\t${c.egid}\t${c.sgid}\t${c.fsgid}`,
      "FDSize:\t256",
      `Groups:\t${c.groups.map((gid) => `${gid} `).join("")}`,
      `NStgid:\t${process.pid}`,
      `NSpid:\t${thread?.tid ?? process.pid}`,
      `NSpgid:\t${process.pgid}`,
      `NSsid:\t${process.sid}`,
      ...memory,
      "CoreDumping:\t0",
      "THP_enabled:\t0",
      `Threads:\t${process.threads.length}`,
      "SigQ:\t0/4096",
      `SigPnd:\t${hex(thread?.pending.set ?? 0n)}`,
      `ShdPnd:\t${hex(process.pending.set)}`,
      `SigBlk:\t${hex(thread?.mask ?? 0n)}`,
      `SigIgn:\t${hex(sigset(process, true))}`,
      `SigCgt:\t${hex(sigset(process, false))}`,
      `CapInh:\t${set(capabilities.inheritable)}`,
      `CapPrm:\t${set(capabilities.permitted)}`,
      `CapEff:\t${set(capabilities.effective)}`,
      `CapBnd:\t${set(capabilities.bounding)}`,
      `CapAmb:\t${set(capabilities.ambient)}`,
      `NoNewPrivs:\t${process.noNewPrivileges ? 1 : 0}`,
      "Seccomp:\t0",
      "Seccomp_filters:\t0",
      "Speculation_Store_Bypass:\tnot vulnerable",
      "SpeculationIndirectBranch:\tnot affected",
      "Cpus_allowed:\t1",
      "Cpus_allowed_list:\t0",
      "Mems_allowed:\t1",
      "Mems_allowed_list:\t0",
      `voluntary_ctxt_switches:\t${process.usage.voluntarySwitches}`,
      `nonvoluntary_ctxt_switches:\t${process.usage.involuntarySwitches}`,
    ].join("\n") + "\n"
  );
}

export function statmText(thread: Thread | undefined): ByteString {
  const { virtual, resident } = addressesOf(thread);
  const maps = thread?.maps;
  const code = maps === undefined ? 0 : Math.ceil((maps.codeEnd - maps.codeStart) / PAGE_SIZE);
  const data = maps === undefined ? 0 : Math.ceil((maps.brk - maps.brkStart) / PAGE_SIZE);
  return `${virtual / PAGE_SIZE} ${resident} 0 ${code} 0 ${data} 0\n`;
}

/** `detailed`: smaps. */
export function mapsText(thread: Thread | undefined, detailed: boolean): ByteString {
  const lines: string[] = [];
  for (const area of thread?.maps.areas.list ?? []) {
    const flags =
      ((area.prot & PROT_READ) !== 0 ? "r" : "-") +
      ((area.prot & PROT_WRITE) !== 0 ? "w" : "-") +
      ((area.prot & PROT_EXEC) !== 0 ? "x" : "-") +
      (area.shared ? "s" : "p");
    const stat = area.backing?.stat();
    const number = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");
    const dev =
      stat === undefined ? "00:00" : `${number(majorOf(stat.dev), 2)}:${number(minorOf(stat.dev), 2)}`;
    const offset = number(area.backing === undefined ? 0 : area.offset, 8);
    const head = `${number(area.start, 8)}-${number(area.end, 8)} ${flags} ${offset} ${dev} ${stat?.ino ?? 0} `;
    lines.push(area.name === "" ? head : head.padEnd(73) + area.name);
    if (!detailed || thread === undefined) continue;
    const size = (area.end - area.start) / 1024;
    const resident = thread.maps.resident(area.start, area.end) * 4;
    const rows: [string, number][] = [
      ["Size", size],
      ["KernelPageSize", 4],
      ["MMUPageSize", 4],
      ["Rss", resident],
      ["Pss", resident],
      ["Shared_Clean", 0],
      ["Shared_Dirty", 0],
      ["Private_Clean", 0],
      ["Private_Dirty", resident],
      ["Referenced", resident],
      ["Anonymous", area.backing === undefined ? resident : 0],
      ["Swap", 0],
      ["Locked", 0],
    ];
    for (const [name, value] of rows) lines.push(`${`${name}:`.padEnd(16)}${String(value).padStart(8)} kB`);
  }
  return lines.map((line) => `${line}\n`).join("");
}

const LIMITS: readonly (readonly [string, string])[] = [
  ["Max cpu time", "seconds"],
  ["Max file size", "bytes"],
  ["Max data size", "bytes"],
  ["Max stack size", "bytes"],
  ["Max core file size", "bytes"],
  ["Max resident set", "bytes"],
  ["Max processes", "processes"],
  ["Max open files", "files"],
  ["Max locked memory", "bytes"],
  ["Max address space", "bytes"],
  ["Max file locks", "locks"],
  ["Max pending signals", "signals"],
  ["Max msgqueue size", "bytes"],
  ["Max nice priority", ""],
  ["Max realtime priority", ""],
  ["Max realtime timeout", "us"],
];

export function limitsText(process: ThreadGroup): ByteString {
  const value = (limit: number | undefined): string =>
    limit === undefined || limit === Infinity ? "unlimited" : String(limit);
  const row = (a: string, b: string, c: string, d: string): string =>
    `${a.padEnd(25)} ${b.padEnd(20)} ${c.padEnd(20)} ${d.padEnd(10)}\n`;
  return (
    row("Limit", "Soft Limit", "Hard Limit", "Units") +
    LIMITS.map(([name, unit], i) =>
      row(name, value(process.limits[i]?.soft), value(process.limits[i]?.hard), unit),
    ).join("")
  );
}

/** Bytes of the process's memory as they are; pages that are not there are left out. */
export function memoryText(thread: Thread | undefined, start: number, end: number): ByteString {
  if (thread === undefined || end <= start) return "";
  const bytes = thread.memory.readable(start, end - start);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return text;
}
