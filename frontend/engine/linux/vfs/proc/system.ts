/** What /proc says of the machine. */

import { ioMachine } from "../../io/machine.ts";
import type { LinuxKernel } from "../../kernel.ts";
import { RELEASE, VERSION } from "../../syscalls/system.ts";
import type { ByteString, Task } from "../../types.ts";
import { systemVLimits, systemVTables } from "./system-v.ts";
import { fixed, type Listing, ProcDirectory, type ProcInode, type ProcSource, ProcText } from "./nodes.ts";

/** As CPUID tells it: x86-64-v2. */
const CPU_FLAGS =
  "fpu tsc cx8 cmov mmx fxsr sse sse2 syscall nx lm constant_tsc rep_good nopl cpuid pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm";

export function cpuInfo(): ByteString {
  const rows: [string, string][] = [
    ["processor\t", "0"],
    ["vendor_id\t", "GenuineIntel"],
    ["cpu family\t", "6"],
    ["model\t\t", "26"],
    ["model name\t", "WebVM x86-64-v2"],
    ["stepping\t", "0"],
    ["cpu MHz\t\t", "1000.000"],
    ["cache size\t", "4096 KB"],
    ["physical id\t", "0"],
    ["siblings\t", "1"],
    ["core id\t\t", "0"],
    ["cpu cores\t", "1"],
    ["fpu\t\t", "yes"],
    ["fpu_exception\t", "yes"],
    ["cpuid level\t", "7"],
    ["wp\t\t", "yes"],
    ["flags\t\t", CPU_FLAGS],
    ["bogomips\t", "2000.00"],
    ["clflush size\t", "64"],
    ["cache_alignment\t", "64"],
    ["address sizes\t", "32 bits physical, 48 bits virtual"],
  ];
  return `${rows.map(([name, value]) => `${name}: ${value}`).join("\n")}\npower management:\n\n`;
}

function memInfo(kernel: LinuxKernel): ByteString {
  const total = kernel.pages.most * 4;
  const used = kernel.pages.pages * 4;
  const free = total - used;
  const rows: [string, number][] = [
    ["MemTotal", total],
    ["MemFree", free],
    ["MemAvailable", free],
    ["Buffers", 0],
    ["Cached", 0],
    ["SwapCached", 0],
    ["Active", used],
    ["Inactive", 0],
    ["SwapTotal", 0],
    ["SwapFree", 0],
    ["Dirty", 0],
    ["Writeback", 0],
    ["AnonPages", used],
    ["Mapped", 0],
    ["Shmem", 0],
    ["Slab", 0],
    ["CommitLimit", total],
    ["Committed_AS", used],
    ["HugePages_Total", 0],
  ];
  return rows
    .map(([name, kib]) => {
      const unit = name.startsWith("HugePages") ? "" : " kB";
      return `${`${name}:`.padEnd(16)}${String(Math.floor(kib)).padStart(8)}${unit}\n`;
    })
    .join("");
}

/** Nanoseconds that all processes have run. */
function busy(kernel: LinuxKernel): number {
  let sum = 0;
  for (const process of kernel.processes()) sum += process.usage.user + process.usage.system;
  return Math.min(sum, kernel.monotonic());
}

function seconds(nanoseconds: number): string {
  return (nanoseconds / 1e9).toFixed(2);
}

function statText(kernel: LinuxKernel): ByteString {
  const ticks = (ns: number): number => Math.floor(ns / 1e7);
  const run = ticks(busy(kernel));
  const idle = Math.max(0, ticks(kernel.monotonic()) - run);
  const cpu = `${run} 0 0 ${idle} 0 0 0 0 0 0`;
  const { seconds: now, nanoseconds } = kernel.realtime();
  const booted = Math.floor(now + (nanoseconds - kernel.monotonic()) / 1e9);
  const running = [...kernel.threads.values()].filter((thread) => thread.state === "runnable").length;
  return `cpu  ${cpu}\ncpu0 ${cpu}\nintr 0\nctxt 0\nbtime ${booted}\nprocesses ${kernel.forks + 1}\nprocs_running ${Math.max(1, running)}\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n`;
}

function loadText(kernel: LinuxKernel): ByteString {
  const threads = [...kernel.threads.values()];
  const running = threads.filter((thread) => thread.state === "runnable").length;
  const last = Math.max(0, ...threads.map((thread) => thread.tid));
  const load = kernel.scheduler.load.at(kernel.monotonic()).map((average) => average.toFixed(2));
  return `${load.join(" ")} ${Math.max(1, running)}/${threads.length} ${last}\n`;
}

/** A random number as RFC 4122 writes it. */
function uuid(bytes: Uint8Array): ByteString {
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5\n");
}

function randomUuid(kernel: LinuxKernel): ByteString {
  const bytes = new Uint8Array(16);
  kernel.random(bytes);
  return uuid(bytes);
}

type Texts = { [name: ByteString]: Texts | ((task: Task) => ByteString) };

/** `sysctl`: entries may be written by root. */
function tree(
  fs: ProcSource,
  path: ByteString,
  texts: Texts,
  settings?: Map<ByteString, ByteString>,
): Listing {
  const entries: Record<ByteString, () => ProcInode> = {};
  for (const [name, entry] of Object.entries(texts)) {
    const full = `${path}/${name}`;
    if (typeof entry !== "function") {
      entries[name] = () => new ProcDirectory(fs, full, tree(fs, full, entry, settings));
    } else if (settings === undefined || full.includes("/random/")) {
      entries[name] = () => new ProcText(fs, full, entry);
    } else {
      const make = (task: Task): ByteString => settings.get(full) ?? entry(task);
      const take = (_task: Task, value: ByteString): void =>
        void settings.set(full, value.endsWith("\n") ? value : `${value}\n`);
      entries[name] = () => new ProcText(fs, full, make, undefined, 0o644, take);
    }
  }
  return fixed(entries);
}

export function systemListing(fs: ProcSource, kernel: LinuxKernel): Listing {
  const is =
    (value: number | string): (() => ByteString) =>
    () =>
      `${value}\n`;
  const sys: Texts = {
    fs: {
      "file-max": is("9223372036854775807"),
      "file-nr": is("1024\t0\t9223372036854775807"),
      nr_open: is(1048576),
      "pipe-max-size": is(1048576),
      protected_hardlinks: is(1),
      protected_symlinks: is(1),
      mqueue: {
        msg_default: is(10),
        msg_max: is(10),
        msgsize_default: is(8192),
        msgsize_max: is(8192),
        queues_max: is(256),
      },
      inotify: { max_queued_events: is(16384), max_user_instances: is(128), max_user_watches: is(65536) },
    },
    kernel: {
      cap_last_cap: is(40),
      core_pattern: is("core"),
      domainname: () => `${kernel.domainname}\n`,
      hostname: () => `${kernel.hostname}\n`,
      ngroups_max: is(65536),
      osrelease: is(RELEASE),
      ostype: is("Linux"),
      overflowgid: is(65534),
      overflowuid: is(65534),
      pid_max: is(4194304),
      printk: is("4\t4\t1\t7"),
      random: {
        boot_id: () => (kernel.bootId ||= randomUuid(kernel)),
        entropy_avail: is(256),
        poolsize: is(256),
        uuid: () => randomUuid(kernel),
      },
      randomize_va_space: is(0),
      ...systemVLimits(),
      "threads-max": is(4096),
      version: is(VERSION),
      yama: { ptrace_scope: is(1) },
    },
    net: { core: { somaxconn: is(4096) }, ipv4: { ip_local_port_range: is("32768\t60999") } },
    vm: {
      max_map_count: is(65530),
      mmap_min_addr: is(65536),
      overcommit_memory: is(0),
      overcommit_ratio: is(50),
      swappiness: is(60),
    },
  };
  const devices =
    "Character devices:\n  1 mem\n  4 tty\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n";
  const sysTree = tree(fs, "/sys", sys, kernel.settings);
  const machine = tree(fs, "", {
    cmdline: is(""),
    cpuinfo: cpuInfo,
    devices: () => devices,
    diskstats: () => "",
    filesystems: () => "nodev\tproc\nnodev\tsysfs\nnodev\ttmpfs\nnodev\tdevtmpfs\nnodev\tdevpts\n\text4\n",
    loadavg: () => loadText(kernel),
    locks: () => [...ioMachine(kernel).locks.describe()].map((line) => `${line}\n`).join(""),
    meminfo: () => memInfo(kernel),
    modules: () => "",
    partitions: () => "major minor  #blocks  name\n\n",
    stat: () => statText(kernel),
    sysvipc: systemVTables(kernel),
    swaps: () => "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
    uptime: () => `${seconds(kernel.monotonic())} ${seconds(kernel.monotonic() - busy(kernel))}\n`,
    version: () => `Linux version ${RELEASE} (webvm) ${VERSION}\n`,
    vmstat: () => "nr_free_pages 900000\npgfault 0\npgmajfault 0\n",
  });
  return {
    names: () => [...machine.names(), "sys"],
    find: (name) => (name === "sys" ? new ProcDirectory(fs, "/sys", sysTree) : machine.find(name)),
  };
}
