/** Mapping an ELF file's segments. */

import { GUEST_END, PAGE_SIZE } from "../abi.ts";
import { E, Errno } from "../errno.ts";
import { type Backing, pageDown, pageUp, PROT_EXEC, PROT_READ, PROT_WRITE } from "../memory/areas.ts";
import type { Maps } from "../memory/maps.ts";
import type { ByteString } from "../types.ts";
import { type Elf, PF_R, PF_W, PF_X, type Segment } from "./elf.ts";

export interface Loaded {
  bias: number;
  entry: number;
  /** Guest address of the program headers. */
  headers: number;
  /** End of the last segment, not rounded. */
  end: number;
  codeStart: number;
  codeEnd: number;
  dataStart: number;
  dataEnd: number;
}

function protection(segment: Segment): number {
  return (
    ((segment.flags & PF_R) !== 0 ? PROT_READ : 0) |
    ((segment.flags & PF_W) !== 0 ? PROT_WRITE : 0) |
    ((segment.flags & PF_X) !== 0 ? PROT_EXEC : 0)
  );
}

/** [start, end) of all segments, rounded to pages, before the bias. */
export function extent(elf: Elf): [number, number] {
  let low = Infinity;
  let high = 0;
  for (const segment of elf.segments) {
    low = Math.min(low, pageDown(segment.address));
    high = Math.max(high, pageUp(segment.address + segment.memorySize));
  }
  if (high - low > GUEST_END) throw new Errno(E.NOMEM);
  return [low, high];
}

/** Pages that `load` has to read at once: asking for them first means that it can't be kept waiting. */
export function prefetch(elf: Elf, file: Backing): void {
  for (const segment of elf.segments) {
    const end = segment.offset + segment.fileSize;
    if (segment.memorySize > segment.fileSize && segment.fileSize > 0 && end % PAGE_SIZE !== 0) {
      file.page(Math.floor(end / PAGE_SIZE));
    }
  }
}

function loadSegment(maps: Maps, segment: Segment, bias: number, file: Backing, name: ByteString): void {
  const address = segment.address + bias;
  const start = pageDown(address);
  const inPage = address - start;
  const prot = protection(segment);
  const fileEnd = address + segment.fileSize;
  const mappedEnd = segment.fileSize === 0 ? start : pageUp(fileEnd);
  if (segment.fileSize > 0) {
    maps.map(start, {
      length: mappedEnd - start,
      prot,
      shared: false,
      backing: file,
      offset: segment.offset - inPage,
      name,
    });
  }
  const end = pageUp(address + segment.memorySize);
  if (end > mappedEnd) {
    maps.map(mappedEnd, {
      length: end - mappedEnd,
      prot,
      shared: false,
      backing: undefined,
      offset: 0,
      name: "",
    });
  }
  if (segment.memorySize > segment.fileSize && segment.fileSize > 0 && fileEnd < mappedEnd) {
    // What follows in the file's last page is not the program's: it begins with zeros.
    const area = maps.areas.find(pageDown(fileEnd))!;
    maps.paging.fill(area, pageDown(fileEnd) / PAGE_SIZE);
    maps.space.raw(fileEnd, mappedEnd - fileEnd).fill(0);
    maps.space.core.wrote(fileEnd, mappedEnd - fileEnd);
  }
}

export function load(maps: Maps, elf: Elf, bias: number, file: Backing, name: ByteString): Loaded {
  const loaded: Loaded = {
    bias,
    entry: elf.entry + bias,
    headers: elf.headersAt + bias,
    end: 0,
    codeStart: Infinity,
    codeEnd: 0,
    dataStart: 0,
    dataEnd: 0,
  };
  for (const segment of elf.segments) {
    loadSegment(maps, segment, bias, file, name);
    const start = segment.address + bias;
    const fileEnd = start + segment.fileSize;
    loaded.end = Math.max(loaded.end, start + segment.memorySize);
    if ((segment.flags & PF_X) !== 0) {
      loaded.codeStart = Math.min(loaded.codeStart, start);
      loaded.codeEnd = Math.max(loaded.codeEnd, fileEnd);
    }
    loaded.dataStart = Math.max(loaded.dataStart, start);
    loaded.dataEnd = Math.max(loaded.dataEnd, fileEnd);
  }
  return loaded;
}
