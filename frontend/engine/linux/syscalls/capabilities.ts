/** capget, capset, and what prctl has of capabilities. */

import {
  ALL_CAPABILITIES,
  can,
  CAP_SETPCAP,
  capabilitiesOf,
  LAST_CAPABILITY,
  withCapabilities,
} from "../capabilities.ts";
import { E, Errno } from "../errno.ts";
import type { Thread } from "../task.ts";
import type { Capabilities } from "../types.ts";
import { processBy } from "./identity.ts";

/** By version: how many words of 32 bits a set has. */
const VERSIONS = new Map([
  [0x19980330, 1],
  [0x20071026, 2],
  [0x20080522, 2],
]);
const VERSION = 0x20080522;
const SETS = ["effective", "permitted", "inheritable"] as const;

export const PR_GET_KEEPCAPS = 7;
export const PR_SET_KEEPCAPS = 8;
export const PR_CAPBSET_READ = 23;
export const PR_CAPBSET_DROP = 24;
export const PR_GET_SECUREBITS = 27;
export const PR_SET_SECUREBITS = 28;
export const PR_CAP_AMBIENT = 47;
const AMBIENT_IS_SET = 1;
const AMBIENT_RAISE = 2;
const AMBIENT_LOWER = 3;
const AMBIENT_CLEAR_ALL = 4;
/** SECURE_KEEP_CAPS: the only one that there is. */
const KEEP = 0x10;

/** Of the header; undefined: it has been told which version there is. */
function wordsOf(thread: Thread, header: number): number | undefined {
  const words = VERSIONS.get(thread.memory.getU32(header));
  if (words === undefined) thread.memory.setU32(header, VERSION);
  return words;
}

export function getCapabilities(thread: Thread, header: number, data: number): number {
  const words = wordsOf(thread, header);
  if (words === undefined) {
    if (data === 0) return 0;
    throw new Errno(E.INVAL);
  }
  const pid = thread.memory.getI32(header + 4);
  if (pid < 0) throw new Errno(E.INVAL);
  const sets = capabilitiesOf(processBy(thread, pid).credentials);
  if (data === 0) return 0;
  for (let word = 0; word < words; word += 1) {
    SETS.forEach((name, index) => {
      const bits = Number((sets[name] >> BigInt(word * 32)) & 0xffffffffn);
      thread.memory.setU32(data + word * 12 + index * 4, bits);
    });
  }
  return 0;
}

export function setCapabilities(thread: Thread, header: number, data: number): number {
  const { process, memory } = thread;
  const words = wordsOf(thread, header);
  if (words === undefined) throw new Errno(E.INVAL);
  const pid = memory.getI32(header + 4);
  if (pid !== 0 && pid !== thread.tid && pid !== process.pid) throw new Errno(E.PERM);
  const read = (index: number): bigint => {
    let bits = 0n;
    for (let word = 0; word < words; word += 1) {
      bits |= BigInt(memory.getU32(data + word * 12 + index * 4)) << BigInt(word * 32);
    }
    return bits & ALL_CAPABILITIES;
  };
  const [effective, permitted, inheritable] = [read(0), read(1), read(2)];
  const now = capabilitiesOf(process.credentials);
  const within = (some: bigint, all: bigint): boolean => (some & ~all) === 0n;
  const allowed =
    within(permitted, now.permitted) &&
    within(effective, permitted) &&
    within(inheritable, now.inheritable | now.bounding) &&
    (can(process.credentials, CAP_SETPCAP) || within(inheritable, now.inheritable | now.permitted));
  if (!allowed) throw new Errno(E.PERM);
  const ambient = now.ambient & permitted & inheritable;
  change(thread, { effective, permitted, inheritable, ambient });
  return 0;
}

function change(thread: Thread, changes: Partial<Capabilities>): void {
  const { credentials } = thread.process;
  thread.process.credentials = withCapabilities(credentials, { ...capabilitiesOf(credentials), ...changes });
}

function bitOf(capability: number): bigint {
  if (capability < 0 || capability > LAST_CAPABILITY) throw new Errno(E.INVAL);
  return 1n << BigInt(capability);
}

export function controlCapabilities(thread: Thread, option: number, a: readonly number[]): number {
  const { credentials } = thread.process;
  const now = capabilitiesOf(credentials);
  const value = a[1]!;
  switch (option) {
    case PR_GET_KEEPCAPS:
      return now.kept ? 1 : 0;
    case PR_SET_KEEPCAPS:
      if (value !== 0 && value !== 1) throw new Errno(E.INVAL);
      change(thread, { kept: value === 1 });
      return 0;
    case PR_GET_SECUREBITS:
      return now.kept ? KEEP : 0;
    case PR_SET_SECUREBITS:
      if (!can(credentials, CAP_SETPCAP) || (value & ~KEEP) !== 0) throw new Errno(E.PERM);
      change(thread, { kept: value === KEEP });
      return 0;
    case PR_CAPBSET_READ:
      return (now.bounding & bitOf(value)) === 0n ? 0 : 1;
    case PR_CAPBSET_DROP:
      if (!can(credentials, CAP_SETPCAP)) throw new Errno(E.PERM);
      change(thread, { bounding: now.bounding & ~bitOf(value) });
      return 0;
    case PR_CAP_AMBIENT:
      return controlAmbient(thread, now, value, a);
    default:
      throw new Errno(E.INVAL);
  }
}

function controlAmbient(thread: Thread, now: Capabilities, what: number, a: readonly number[]): number {
  if (what === AMBIENT_CLEAR_ALL) {
    if ((a[2] ?? 0) !== 0) throw new Errno(E.INVAL);
    change(thread, { ambient: 0n });
    return 0;
  }
  const bit = bitOf(a[2]!);
  switch (what) {
    case AMBIENT_IS_SET:
      return (now.ambient & bit) === 0n ? 0 : 1;
    case AMBIENT_RAISE:
      if ((now.permitted & now.inheritable & bit) === 0n) throw new Errno(E.PERM);
      change(thread, { ambient: now.ambient | bit });
      return 0;
    case AMBIENT_LOWER:
      change(thread, { ambient: now.ambient & ~bit });
      return 0;
    default:
      throw new Errno(E.INVAL);
  }
}
