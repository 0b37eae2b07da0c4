/** /proc/mounts and mountinfo. */

import type { ByteString, Process } from "../../types.ts";
import { majorOf, minorOf } from "../constants.ts";
import { contextOf } from "../context.ts";
import * as M from "../mounts.ts";

/** Spaces and the like in octal, as the kernel writes them. */
function escape(text: ByteString): ByteString {
  return text.replace(/[ \t\n\\#]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, "0")}`);
}

function options(mount: M.Mount): ByteString {
  const words = [mount.readOnly ? "ro" : "rw"];
  const named: [number, string][] = [
    [M.MS_NOSUID, "nosuid"],
    [M.MS_NODEV, "nodev"],
    [M.MS_NOEXEC, "noexec"],
    [M.MS_NOATIME, "noatime"],
    [M.MS_RELATIME, "relatime"],
  ];
  for (const [flag, name] of named) if ((mount.flags & flag) !== 0) words.push(name);
  return words.join(",");
}

/** Mounts that the process can see, with their paths. */
function* visible(process: Process): Iterable<[M.Mount, ByteString]> {
  const { root } = contextOf(process);
  for (const mount of root.mount.vfs.mounts) {
    const path = M.pathOf({ mount, dentry: mount.root }, root);
    if (path !== undefined) yield [mount, path];
  }
}

export function mountsText(process: Process): ByteString {
  let text = "";
  for (const [mount, path] of visible(process)) {
    text += `${escape(mount.source)} ${escape(path)} ${mount.fs.type} ${options(mount)} 0 0\n`;
  }
  return text;
}

export function mountInfoText(process: Process): ByteString {
  let text = "";
  for (const [mount, path] of visible(process)) {
    const above = mount.at?.mount.id ?? 1;
    const dev = `${majorOf(mount.fs.dev)}:${minorOf(mount.fs.dev)}`;
    const root = mount.root.isRoot ? "/" : escape(`/${mount.root.name}`);
    const access = mount.fs.readOnly ? "ro" : "rw";
    text += `${mount.id} ${above} ${dev} ${root} ${escape(path)} ${options(mount)} - ${mount.fs.type} ${escape(mount.source)} ${access}\n`;
  }
  return text;
}
