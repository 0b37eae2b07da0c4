/** What a program finds on its stack: arguments, environment, auxiliary vector (System V ABI, 3.4.1). */

import type { Maps } from "../memory/maps.ts";
import type { ByteString } from "../types.ts";

const AT_PHDR = 3;
const AT_PHENT = 4;
const AT_PHNUM = 5;
const AT_PAGESZ = 6;
const AT_BASE = 7;
const AT_FLAGS = 8;
const AT_ENTRY = 9;
const AT_UID = 11;
const AT_EUID = 12;
const AT_GID = 13;
const AT_EGID = 14;
const AT_PLATFORM = 15;
const AT_HWCAP = 16;
const AT_CLKTCK = 17;
const AT_SECURE = 23;
const AT_RANDOM = 25;
const AT_HWCAP2 = 26;
const AT_EXECFN = 31;
const AT_MINSIGSTKSZ = 51;

/** CPUID leaf 1's EDX: what the core implements (fpu, tsc, cx8, cmov, mmx, fxsr, sse, sse2). */
const HWCAP = 0x0780_8111;

export interface StackContents {
  path: ByteString;
  arguments: readonly ByteString[];
  environment: readonly ByteString[];
  random: Uint8Array;
  headers: number;
  headerCount: number;
  entry: number;
  /** Load bias of the interpreter; 0 without one. */
  base: number;
  uid: number;
  euid: number;
  gid: number;
  egid: number;
  secure: boolean;
}

/** Bytes that strings and pointers need: for limits. */
export function stackSize(strings: readonly ByteString[]): number {
  let size = 0;
  for (const string of strings) size += string.length + 1 + 8;
  return size;
}

/** Writes it below `top` into a fresh stack whose pages are writable; returns the stack pointer. */
export function buildStack(
  maps: Maps,
  top: number,
  contents: StackContents,
  put: (address: number, length: number) => Uint8Array,
): number {
  let at = top - 8;
  const string = (value: ByteString): number => {
    at -= value.length + 1;
    const bytes = put(at, value.length + 1);
    for (let index = 0; index < value.length; index += 1) bytes[index] = value.charCodeAt(index);
    bytes[value.length] = 0;
    return at;
  };
  const path = string(contents.path);
  maps.envEnd = path;
  const environment = contents.environment.map(() => 0);
  for (let index = environment.length - 1; index >= 0; index -= 1) {
    environment[index] = string(contents.environment[index]!);
  }
  maps.envStart = at;
  maps.argEnd = at;
  const pointers = contents.arguments.map(() => 0);
  for (let index = pointers.length - 1; index >= 0; index -= 1) {
    pointers[index] = string(contents.arguments[index]!);
  }
  maps.argStart = at;
  at = Math.floor(at / 16) * 16;
  const platform = string("x86_64");
  at -= 16;
  const random = at;
  put(random, 16).set(contents.random);
  const auxv: [number, number][] = [
    [AT_HWCAP, HWCAP],
    [AT_PAGESZ, 4096],
    [AT_CLKTCK, 100],
    [AT_PHDR, contents.headers],
    [AT_PHENT, 56],
    [AT_PHNUM, contents.headerCount],
    [AT_BASE, contents.base],
    [AT_FLAGS, 0],
    [AT_ENTRY, contents.entry],
    [AT_UID, contents.uid],
    [AT_EUID, contents.euid],
    [AT_GID, contents.gid],
    [AT_EGID, contents.egid],
    [AT_SECURE, contents.secure ? 1 : 0],
    [AT_RANDOM, random],
    [AT_HWCAP2, 0],
    [AT_EXECFN, path],
    [AT_PLATFORM, platform],
    [AT_MINSIGSTKSZ, 1440],
    [0, 0],
  ];
  const words = [
    pointers.length,
    ...pointers,
    0,
    ...environment,
    0,
    ...auxv.flatMap(([type, value]) => [type, value]),
  ];
  const sp = Math.floor((at - words.length * 8) / 16) * 16;
  const bytes = put(sp, words.length * 8);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  words.forEach((value, index) => view.setBigUint64(index * 8, BigInt(value), true));
  maps.auxv = bytes.slice((words.length - auxv.length * 2) * 8);
  maps.stackStart = sp;
  return sp;
}
