/** Reading ELF files for x86-64: header and program headers (System V ABI). */

import { PAGE_SIZE } from "../abi.ts";
import { E, Errno } from "../errno.ts";
import type { Backing } from "../memory/areas.ts";
import type { ByteString } from "../types.ts";

export const PT_LOAD = 1;
const PT_INTERP = 3;
const PT_PHDR = 6;
export const PT_GNU_STACK = 0x6474e551;
export const PF_X = 1;
export const PF_W = 2;
export const PF_R = 4;
const ET_EXEC = 2;
const ET_DYN = 3;
const EM_X86_64 = 62;
const HEADER_SIZE = 64;
const PROGRAM_HEADER_SIZE = 56;
/** As the kernel: the table must be smaller than this. */
const TABLE_AT_MOST = 65536;

export interface Segment {
  type: number;
  flags: number;
  offset: number;
  address: number;
  fileSize: number;
  memorySize: number;
}

export interface Elf {
  /** Loaded wherever there is room (ET_DYN). */
  relocatable: boolean;
  entry: number;
  headerCount: number;
  /** Where the program headers lie before the load bias is added. */
  headersAt: number;
  segments: Segment[];
  /** PT_INTERP's path. */
  interpreter: ByteString | undefined;
  executableStack: boolean;
}

/** Bytes of a file through its pages; fewer at its end. Throws `Block` while they are on their way. */
export function readBacking(file: Backing, offset: number, length: number): Uint8Array {
  const end = Math.min(offset + length, file.stat().size);
  const bytes = new Uint8Array(Math.max(0, end - offset));
  for (let at = offset; at < end;) {
    const inPage = at % PAGE_SIZE;
    const here = Math.min(PAGE_SIZE - inPage, end - at);
    bytes.set(file.page(Math.floor(at / PAGE_SIZE)).subarray(inPage, inPage + here), at - offset);
    at += here;
  }
  return bytes;
}

function text(bytes: Uint8Array): ByteString {
  const end = bytes.indexOf(0);
  return String.fromCharCode(...(end < 0 ? bytes : bytes.subarray(0, end)));
}

/** A 64-bit field; what does not fit into an address space here is refused. */
function word(view: DataView, offset: number): number {
  const value = Number(view.getBigUint64(offset, true));
  if (value > Number.MAX_SAFE_INTEGER) throw new Errno(E.NOEXEC);
  return value;
}

export function isElf(head: Uint8Array): boolean {
  return head[0] === 0x7f && head[1] === 0x45 && head[2] === 0x4c && head[3] === 0x46;
}

/** ENOEXEC for what is no x86-64 program. */
export function readElf(file: Backing): Elf {
  const head = readBacking(file, 0, HEADER_SIZE);
  if (head.length < HEADER_SIZE || !isElf(head)) throw new Errno(E.NOEXEC);
  const view = new DataView(head.buffer);
  const type = view.getUint16(16, true);
  const is64 = head[4] === 2 && head[5] === 1 && view.getUint16(18, true) === EM_X86_64;
  if (!is64 || (type !== ET_EXEC && type !== ET_DYN)) throw new Errno(E.NOEXEC);
  const count = view.getUint16(56, true);
  const tableAt = word(view, 32);
  const tableSize = count * PROGRAM_HEADER_SIZE;
  if (view.getUint16(54, true) !== PROGRAM_HEADER_SIZE || count === 0 || tableSize > TABLE_AT_MOST) {
    throw new Errno(E.NOEXEC);
  }
  const table = readBacking(file, tableAt, tableSize);
  if (table.length < tableSize) throw new Errno(E.NOEXEC);
  const elf: Elf = {
    relocatable: type === ET_DYN,
    entry: word(view, 24),
    headerCount: count,
    headersAt: 0,
    segments: [],
    interpreter: undefined,
    executableStack: false,
  };
  const rows = new DataView(table.buffer);
  for (let row = 0; row < tableSize; row += PROGRAM_HEADER_SIZE) {
    const segment: Segment = {
      type: rows.getUint32(row, true),
      flags: rows.getUint32(row + 4, true),
      offset: word(rows, row + 8),
      address: word(rows, row + 16),
      fileSize: word(rows, row + 32),
      memorySize: word(rows, row + 40),
    };
    if (segment.type === PT_LOAD) {
      if (segment.fileSize > segment.memorySize) throw new Errno(E.NOEXEC);
      if ((segment.address - segment.offset) % PAGE_SIZE !== 0) throw new Errno(E.NOEXEC);
      elf.segments.push(segment);
      if (tableAt >= segment.offset && tableAt < segment.offset + segment.fileSize && elf.headersAt === 0) {
        elf.headersAt = tableAt - segment.offset + segment.address;
      }
    } else if (segment.type === PT_INTERP) {
      if (segment.fileSize < 2 || segment.fileSize > 4096) throw new Errno(E.NOEXEC);
      elf.interpreter = text(readBacking(file, segment.offset, segment.fileSize));
    } else if (segment.type === PT_PHDR) {
      elf.headersAt = segment.address;
    } else if (segment.type === PT_GNU_STACK) {
      elf.executableStack = (segment.flags & PF_X) !== 0;
    }
  }
  if (elf.segments.length === 0) throw new Errno(E.NOEXEC);
  return elf;
}
