/** What a terminal is set to (termbits.h), and how user space passes it. */

import type { UserMemory } from "../../types.ts";

export const VINTR = 0;
export const VQUIT = 1;
export const VERASE = 2;
export const VKILL = 3;
export const VEOF = 4;
export const VTIME = 5;
export const VMIN = 6;
export const VSTART = 8;
export const VSTOP = 9;
export const VSUSP = 10;
export const VEOL = 11;
export const VREPRINT = 12;
export const VWERASE = 14;
export const VLNEXT = 15;
export const VEOL2 = 16;
const NCCS = 19;

export const IGNBRK = 0o1;
export const PARMRK = 0o10;
export const ISTRIP = 0o40;
export const INLCR = 0o100;
export const IGNCR = 0o200;
export const ICRNL = 0o400;
export const IUCLC = 0o1000;
export const IXON = 0o2000;
export const IXANY = 0o4000;
export const IXOFF = 0o10000;
export const IUTF8 = 0o40000;

export const OPOST = 0o1;
export const OLCUC = 0o2;
export const ONLCR = 0o4;
export const OCRNL = 0o10;
export const ONOCR = 0o20;
export const ONLRET = 0o40;
export const TABDLY = 0o14000;
export const XTABS = 0o14000;

export const ISIG = 0o1;
export const ICANON = 0o2;
export const ECHO = 0o10;
export const ECHOE = 0o20;
export const ECHOK = 0o40;
export const ECHONL = 0o100;
export const NOFLSH = 0o200;
export const TOSTOP = 0o400;
export const ECHOCTL = 0o1000;
export const ECHOPRT = 0o2000;
export const ECHOKE = 0o4000;
export const IEXTEN = 0o100000;
export const EXTPROC = 0o200000;

const B38400 = 0o17;
const CS8 = 0o60;
const CREAD = 0o200;

export interface Termios {
  iflag: number;
  oflag: number;
  cflag: number;
  lflag: number;
  line: number;
  cc: Uint8Array;
  ispeed: number;
  ospeed: number;
}

/** What a terminal begins with (tty_std_termios). */
export function standardTermios(): Termios {
  const cc = new Uint8Array(NCCS);
  cc.set([3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22]);
  return {
    iflag: ICRNL | IXON,
    oflag: OPOST | ONLCR,
    cflag: B38400 | CS8 | CREAD,
    lflag: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
    line: 0,
    cc,
    ispeed: 38400,
    ospeed: 38400,
  };
}

/** `struct termios` (36 bytes) or, with speeds, `struct termios2` (44). */
export function readTermios(memory: UserMemory, address: number, old: Termios, speeds: boolean): Termios {
  memory.readable(address, speeds ? 44 : 36);
  return {
    iflag: memory.getU32(address),
    oflag: memory.getU32(address + 4),
    cflag: memory.getU32(address + 8),
    lflag: memory.getU32(address + 12),
    line: memory.getU8(address + 16),
    cc: memory.readable(address + 17, NCCS).slice(),
    ispeed: speeds ? memory.getU32(address + 36) : old.ispeed,
    ospeed: speeds ? memory.getU32(address + 40) : old.ospeed,
  };
}

export function writeTermios(memory: UserMemory, address: number, termios: Termios, speeds: boolean): void {
  memory.writable(address, speeds ? 44 : 36);
  memory.setU32(address, termios.iflag);
  memory.setU32(address + 4, termios.oflag);
  memory.setU32(address + 8, termios.cflag);
  memory.setU32(address + 12, termios.lflag);
  memory.setU8(address + 16, termios.line);
  memory.writable(address + 17, NCCS).set(termios.cc);
  if (!speeds) return;
  memory.setU32(address + 36, termios.ispeed);
  memory.setU32(address + 40, termios.ospeed);
}

/** The old `struct termio` of System V: 16-bit flags and eight characters. */
export function readTermio(memory: UserMemory, address: number, old: Termios): Termios {
  const flag = (offset: number, before: number): number =>
    ((before & 0xffff0000) | memory.getU16(address + offset)) >>> 0;
  const cc = old.cc.slice();
  cc.set(memory.readable(address + 9, 8));
  return {
    ...old,
    iflag: flag(0, old.iflag),
    oflag: flag(2, old.oflag),
    cflag: flag(4, old.cflag),
    lflag: flag(6, old.lflag),
    line: memory.getU8(address + 8),
    cc,
  };
}

export function writeTermio(memory: UserMemory, address: number, termios: Termios): void {
  memory.writable(address, 18);
  [termios.iflag, termios.oflag, termios.cflag, termios.lflag].forEach((flag, i) =>
    memory.setU16(address + 2 * i, flag & 0xffff),
  );
  memory.setU8(address + 8, termios.line);
  memory.writable(address + 9, 8).set(termios.cc.subarray(0, 8));
}
