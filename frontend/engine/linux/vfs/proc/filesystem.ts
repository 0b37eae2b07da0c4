/** procfs and a small sysfs. */

import type { LinuxKernel } from "../../kernel.ts";
import type { ByteString, Process, Time } from "../../types.ts";
import { S_IFDIR, S_IFREG } from "../constants.ts";
import type { Walker } from "../context.ts";
import type { StatFs } from "../inode.ts";
import { MemoryDirectory } from "../memory-directory.ts";
import { MemoryFileSystem } from "../memory-fs.ts";
import { KERNEL_FLAGS, mountAt } from "../root.ts";
import type { Vfs } from "../vfs.ts";
import { ProcDirectory, ProcLink, type ProcSource } from "./nodes.ts";
import { processDirectory } from "./process.ts";
import { systemListing } from "./system.ts";

const PROC_MAGIC = 0x9fa0;

export class ProcFileSystem implements ProcSource {
  readonly type = "proc";
  readonly dev: number;
  readonly readOnly = false;
  readonly volatile = true;
  readonly root: ProcDirectory;
  readonly now: () => Time;

  constructor(vfs: Vfs, kernel: LinuxKernel) {
    this.dev = vfs.anonymousDevice();
    this.now = vfs.now;
    const system = systemListing(this, kernel);
    const pid = (walker: Walker | undefined): string =>
      String((walker as Partial<Process> | undefined)?.pid ?? 1);
    const links: Record<ByteString, ProcLink> = {
      mounts: new ProcLink(this, "/mounts", () => "self/mounts"),
      net: new ProcLink(this, "/net", () => "self/net"),
      self: new ProcLink(this, "/self", pid),
      "thread-self": new ProcLink(this, "/thread-self", (walker) => `${pid(walker)}/task/${pid(walker)}`),
    };
    this.root = new ProcDirectory(this, "/", {
      names: () => [
        ...system.names(),
        ...Object.keys(links),
        ...[...kernel.processes()].map((process) => String(process.pid)),
      ],
      find: (name) => {
        if (/^[1-9]\d*$/.test(name)) {
          // A thread's number leads to its process though it is not listed.
          const process = kernel.process(Number(name)) ?? kernel.threads.get(Number(name))?.process;
          return process === undefined ? undefined : processDirectory(this, process);
        }
        return Object.hasOwn(links, name) ? links[name] : system.find(name);
      },
    });
  }

  /** FNV-1a over the path, twice: 52 bits. */
  number(path: ByteString): number {
    let a = 0x811c9dc5;
    let b = 0x01000193;
    for (let i = 0; i < path.length; i += 1) {
      a = Math.imul(a ^ path.charCodeAt(i), 0x01000193);
      b = Math.imul(b ^ path.charCodeAt(i), 0x85ebca6b);
    }
    return (a >>> 0) * 2 ** 20 + (b >>> 12) + 1;
  }

  statfs(): StatFs {
    const none = { blocks: 0, free: 0, available: 0, files: 0, freeFiles: 0 };
    return { type: PROC_MAGIC, blockSize: 4096, ...none, nameLength: 255 };
  }

  sync(): void {}
}

const SYS_FILES: readonly (readonly [ByteString, ByteString])[] = [
  ["devices/system/cpu/online", "0\n"],
  ["devices/system/cpu/possible", "0\n"],
  ["devices/system/cpu/present", "0\n"],
  ["devices/system/cpu/kernel_max", "0\n"],
  ["devices/system/cpu/cpu0/topology/core_id", "0\n"],
  ["devices/system/cpu/cpu0/topology/physical_package_id", "0\n"],
  ["devices/system/cpu/cpu0/topology/thread_siblings", "1\n"],
  ["devices/system/node/online", "0\n"],
  ["devices/system/cpu/cpu0/topology/core_siblings", "1\n"],
  ["devices/system/node/possible", "0\n"],
  ["devices/system/node/node0/cpulist", "0\n"],
  ["devices/system/node/node0/cpumap", "1\n"],
  ["kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"],
  ["kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n"],
  ["class/net/lo/addr_len", "6\n"],
  ["class/net/lo/address", "00:00:00:00:00:00\n"],
  ["class/net/lo/broadcast", "00:00:00:00:00:00\n"],
  ["class/net/lo/carrier", "1\n"],
  ["class/net/lo/flags", "0x9\n"],
  ["class/net/lo/ifindex", "1\n"],
  ["class/net/lo/iflink", "1\n"],
  ["class/net/lo/mtu", "65536\n"],
  ["class/net/lo/operstate", "unknown\n"],
  ["class/net/lo/tx_queue_len", "1000\n"],
  ["class/net/lo/type", "772\n"],
  ["class/power_supply/.keep", ""],
  ["block/.keep", ""],
  ["fs/cgroup/.keep", ""],
  ["module/.keep", ""],
];

/** What programs look for in sysfs, as plain files. */
function makeSysFs(vfs: Vfs, kernel: LinuxKernel): MemoryFileSystem {
  const fs = new MemoryFileSystem(vfs, { type: "sysfs", mode: 0o555 });
  const owner = { uid: 0, gid: 0 };
  const kib = kernel.pages.most * 4;
  const memory = `Node 0 MemTotal:  ${kib} kB\nNode 0 MemFree:   ${kib} kB\n`;
  for (const [path, content] of [...SYS_FILES, ["devices/system/node/node0/meminfo", memory] as const]) {
    const names = path.split("/");
    const last = names.pop()!;
    let at: MemoryDirectory = fs.root;
    for (const name of names) {
      at = (at.lookup(name) ?? at.create(name, { ...owner, mode: S_IFDIR | 0o755 })) as MemoryDirectory;
    }
    if (last === ".keep") continue;
    const file = at.create(last, { ...owner, mode: S_IFREG | 0o444 });
    file.write(
      0,
      Uint8Array.from(content, (c) => c.charCodeAt(0)),
    );
  }
  return fs;
}

/** /proc and /sys of a machine whose kernel is there. */
export function mountKernelFiles(vfs: Vfs, kernel: LinuxKernel): void {
  mountAt(vfs, "proc", "proc", KERNEL_FLAGS, new ProcFileSystem(vfs, kernel));
  mountAt(vfs, "sys", "sysfs", KERNEL_FLAGS, makeSysFs(vfs, kernel));
}
