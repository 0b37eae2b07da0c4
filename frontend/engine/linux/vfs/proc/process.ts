/** /proc/PID and /proc/PID/task/TID. */

import { E, Errno } from "../../errno.ts";
import { EpollFile } from "../../io/events/epoll.ts";
import type { ThreadGroup } from "../../process.ts";
import type { Thread } from "../../task.ts";
import type { ByteString, OpenFile } from "../../types.ts";
import { contextOf, type Walker } from "../context.ts";
import { Dentry } from "../dentry.ts";
import { Descriptors } from "../descriptors.ts";
import { FsInode } from "../inode.ts";
import { describe, type Location } from "../mounts.ts";
import { mountInfoText, mountsText } from "./mounts.ts";
import { netTexts } from "./net.ts";
import {
  fixed,
  type Listing,
  placeOfFile,
  ProcDirectory,
  ProcLink,
  type ProcSource,
  ProcText,
} from "./nodes.ts";
import * as texts from "./texts.ts";

const O_CLOEXEC = 0o2000000;

export function processDirectory(fs: ProcSource, process: ThreadGroup): ProcDirectory {
  const path = `/${process.pid}`;
  const tasks: Listing = {
    names: () => process.threads.map((thread) => String(thread.tid)),
    find: (name) => {
      const thread = process.threads.find((each) => String(each.tid) === name);
      return thread === undefined
        ? undefined
        : threadDirectory(fs, process, () => thread, `${path}/task/${name}`);
    },
  };
  return threadDirectory(fs, process, () => process.leader, path, tasks);
}

function threadDirectory(
  fs: ProcSource,
  process: ThreadGroup,
  of: () => Thread | undefined,
  path: ByteString,
  tasks?: Listing,
): ProcDirectory {
  const owner = { uid: process.credentials.euid, gid: process.credentials.egid };
  const text =
    (name: ByteString, make: () => ByteString, mode = 0o444) =>
    (): ProcText =>
      new ProcText(fs, `${path}/${name}`, make, owner, mode);
  /** Open files stay with the memory that the thread had then. */
  const ofMemory =
    (name: ByteString, make: () => ByteString, mode = 0o444) =>
    (): ProcText =>
      new ProcText(fs, `${path}/${name}`, make, owner, mode, undefined, () => of()?.maps);
  const settable = (name: ByteString, make: () => ByteString, take: (value: ByteString) => void) => () =>
    new ProcText(fs, `${path}/${name}`, make, owner, 0o644, (_task, value) => take(value));
  const link = (name: ByteString, place: () => Location | undefined) => (): ProcLink => {
    const show = (walker: Walker | undefined): ByteString => {
      const there = place();
      if (there === undefined) throw new Errno(E.NOENT);
      return describe(there, contextOf(walker ?? process).root);
    };
    return new ProcLink(fs, `${path}/${name}`, show, owner, place);
  };
  const listing = fixed({
    auxv: ofMemory("auxv", () => latin1(of()?.maps.auxv ?? new Uint8Array(0)), 0o400),
    cgroup: text("cgroup", () => "0::/\n"),
    cmdline: text("cmdline", () => {
      const maps = of()?.maps;
      return texts.memoryText(of(), maps?.argStart ?? 0, maps?.argEnd ?? 0);
    }),
    comm: settable(
      "comm",
      () => `${of()?.name ?? process.name}\n`,
      (value) => {
        const thread = of();
        if (thread !== undefined) thread.name = value.replace(/\n$/, "").slice(0, 15);
      },
    ),
    cwd: link("cwd", () => contextOf(process).cwd),
    environ: ofMemory(
      "environ",
      () => {
        const maps = of()?.maps;
        return texts.memoryText(of(), maps?.envStart ?? 0, maps?.envEnd ?? 0);
      },
      0o400,
    ),
    exe: () => executableLink(fs, `${path}/exe`, process, of),
    fd: () => new ProcDirectory(fs, `${path}/fd`, descriptorLinks(fs, `${path}/fd`, process), owner, 0o500),
    fdinfo: () =>
      new ProcDirectory(fs, `${path}/fdinfo`, descriptorTexts(fs, `${path}/fdinfo`, process), owner, 0o555),
    gid_map: text("gid_map", () => "         0          0 4294967295\n"),
    io: text(
      "io",
      () =>
        "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n",
      0o400,
    ),
    limits: text("limits", () => texts.limitsText(process)),
    loginuid: text("loginuid", () => "4294967295"),
    maps: ofMemory("maps", () => texts.mapsText(of(), false)),
    mountinfo: text("mountinfo", () => mountInfoText(process)),
    mounts: text("mounts", () => mountsText(process)),
    net: () => new ProcDirectory(fs, `${path}/net`, netListing(fs, `${path}/net`, process), undefined, 0o555),
    oom_adj: settable(
      "oom_adj",
      () => "0\n",
      () => {},
    ),
    oom_score: text("oom_score", () => "0\n"),
    oom_score_adj: settable(
      "oom_score_adj",
      () => "0\n",
      () => {},
    ),
    personality: text("personality", () => `${process.personality.toString(16).padStart(8, "0")}\n`, 0o400),
    root: link("root", () => contextOf(process).root),
    setgroups: text("setgroups", () => "allow\n"),
    smaps: ofMemory("smaps", () => texts.mapsText(of(), true)),
    stat: text("stat", () => texts.statText(process, of(), tasks === undefined)),
    statm: text("statm", () => texts.statmText(of())),
    status: text("status", () => texts.statusText(process, of())),
    task: () => (tasks === undefined ? undefined : new ProcDirectory(fs, `${path}/task`, tasks, owner)),
    uid_map: text("uid_map", () => "         0          0 4294967295\n"),
    wchan: text("wchan", () => "0"),
  });
  return new ProcDirectory(fs, path, listing, owner);
}

function netListing(fs: ProcSource, path: ByteString, process: ThreadGroup): Listing {
  const nodes = Object.entries(netTexts(process.kernel)).map(
    ([name, make]) => [name, (): ProcText => new ProcText(fs, `${path}/${name}`, make)] as const,
  );
  return fixed(Object.fromEntries(nodes));
}

function latin1(bytes: Uint8Array): ByteString {
  return String.fromCharCode(...bytes);
}

function executableLink(
  fs: ProcSource,
  path: ByteString,
  process: ThreadGroup,
  of: () => Thread | undefined,
): ProcLink {
  const name = (): ByteString => {
    const maps = of()?.maps;
    if (maps?.executable === undefined) throw new Errno(E.NOENT);
    return maps.executableName;
  };
  return new ProcLink(fs, path, name, undefined, () => {
    const inode = of()?.maps.executable;
    if (!(inode instanceof FsInode)) throw new Errno(E.NOENT);
    return { mount: contextOf(process).root.mount, dentry: new Dentry(inode, undefined, name()) };
  });
}

function descriptorsOf(process: ThreadGroup): Descriptors | undefined {
  return process.files instanceof Descriptors && !process.zombie ? process.files : undefined;
}

function fileAt(process: ThreadGroup, name: ByteString): OpenFile | undefined {
  return /^(0|[1-9]\d*)$/.test(name) ? descriptorsOf(process)?.find(Number(name)) : undefined;
}

function names(process: ThreadGroup): ByteString[] {
  return [...(descriptorsOf(process)?.numbers() ?? [])].map(String);
}

function descriptorLinks(fs: ProcSource, path: ByteString, process: ThreadGroup): Listing {
  const owner = { uid: process.credentials.euid, gid: process.credentials.egid };
  return {
    names: () => names(process),
    find: (name) => {
      const file = fileAt(process, name);
      if (file === undefined) return undefined;
      const place = (): Location => placeOfFile(fs, `${path}/${name}`, file, contextOf(process).root);
      const access = file.flags & 3;
      const mode = access === 0 ? 0o500 : access === 1 ? 0o300 : 0o700;
      return new ProcLink(fs, `${path}/${name}`, () => file.name, owner, place, mode, 64);
    },
  };
}

/** What an epoll instance watches. */
function watchedBy(file: OpenFile): ByteString {
  return file instanceof EpollFile ? [...file.describe()].map((line) => `${line}\n`).join("") : "";
}

function descriptorTexts(fs: ProcSource, path: ByteString, process: ThreadGroup): Listing {
  return {
    names: () => names(process),
    find: (name) => {
      const file = fileAt(process, name);
      if (file === undefined) return undefined;
      const make = (): ByteString => {
        const closing = descriptorsOf(process)?.descriptor(Number(name)).closeOnExec ? O_CLOEXEC : 0;
        const flags = (file.flags | closing).toString(8).padStart(7, "0");
        return `pos:\t${file.offset}\nflags:\t0${flags}\nmnt_id:\t20\nino:\t${file.inode.ino}\n${watchedBy(file)}`;
      };
      return new ProcText(fs, `${path}/${name}`, make);
    },
  };
}
