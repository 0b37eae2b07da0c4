/** Capabilities (capabilities(7)): what root may do, in parts. Files look at the user alone. */

import type { Capabilities, Credentials } from "./types.ts";

export const CAP_KILL = 5;
export const CAP_SETGID = 6;
export const CAP_SETUID = 7;
export const CAP_SETPCAP = 8;
export const CAP_NET_BIND_SERVICE = 10;
export const CAP_SYS_CHROOT = 18;
export const CAP_SYS_ADMIN = 21;
export const CAP_SYS_NICE = 23;
export const CAP_SYS_RESOURCE = 24;
/** Linux 6.1's last one. */
export const LAST_CAPABILITY = 40;
export const ALL_CAPABILITIES = (1n << 41n) - 1n;
/** Those that follow the file system user: CHOWN to FSETID, LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE. */
const OF_FILES = 0x1fn | (1n << 9n) | (1n << 27n) | (1n << 32n);

const ROOTS: Capabilities = {
  effective: ALL_CAPABILITIES,
  permitted: ALL_CAPABILITIES,
  inheritable: 0n,
  ambient: 0n,
  bounding: ALL_CAPABILITIES,
  kept: false,
};
const NONE: Capabilities = { ...ROOTS, effective: 0n, permitted: 0n };

function usual({ uid, euid, suid }: Credentials): Capabilities {
  if (euid === 0) return ROOTS;
  // Effective ones come back with the user number 0.
  return uid === 0 || suid === 0 ? { ...NONE, permitted: ALL_CAPABILITIES } : NONE;
}

/** A process's, whether it has changed them or not. */
export function capabilitiesOf(credentials: Credentials): Capabilities {
  return credentials.capabilities ?? usual(credentials);
}

export function can(credentials: Credentials, capability: number): boolean {
  if (credentials.capabilities === undefined) return credentials.euid === 0;
  return ((credentials.capabilities.effective >> BigInt(capability)) & 1n) !== 0n;
}

/** What is as users have it by themselves is not written down. */
export function withCapabilities(credentials: Credentials, next: Capabilities): Credentials {
  const own = usual(credentials);
  const isUsual =
    next.effective === own.effective &&
    next.permitted === own.permitted &&
    next.inheritable === 0n &&
    next.ambient === 0n &&
    next.bounding === ALL_CAPABILITIES &&
    !next.kept;
  return { ...credentials, capabilities: isUsual ? undefined : next };
}

function hasRoot({ uid, euid, suid }: Credentials): boolean {
  return uid === 0 || euid === 0 || suid === 0;
}

/** What a change of users does to them. */
export function afterUserChange(before: Credentials, after: Credentials): Credentials {
  const next = { ...capabilitiesOf(before) };
  if (hasRoot(before) && !hasRoot(after)) {
    if (!next.kept) next.permitted = next.effective = 0n;
    next.ambient = 0n;
  }
  if (before.euid === 0 && after.euid !== 0) next.effective = 0n;
  if (before.euid !== 0 && after.euid === 0) next.effective = next.permitted;
  return withCapabilities(after, next);
}

/** setfsuid. */
export function afterFileUserChange(before: Credentials, after: Credentials): Credentials {
  const next = { ...capabilitiesOf(before) };
  if (before.fsuid === 0 && after.fsuid !== 0) next.effective &= ~OF_FILES;
  if (before.fsuid !== 0 && after.fsuid === 0) next.effective |= next.permitted & OF_FILES;
  return withCapabilities(after, next);
}

/** execve: root gets all that the bounding set allows, others keep what is ambient. */
export function afterExecve(before: Credentials, after: Credentials): Credentials {
  const old = capabilitiesOf(before);
  const isRoot = after.uid === 0 || after.euid === 0;
  const changesUser = after.euid !== before.euid || after.egid !== before.egid;
  const ambient = changesUser ? 0n : old.ambient;
  const permitted = isRoot ? old.inheritable | old.bounding : ambient;
  const effective = after.euid === 0 ? permitted : ambient;
  return withCapabilities(after, { ...old, permitted, effective, ambient, kept: false });
}
