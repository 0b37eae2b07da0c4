/** What a stream socket has received: bytes, with descriptors and credentials at their places. */

import { dropFile, holdFile } from "../../references.ts";
import type { OpenFile } from "../../types.ts";
import { ByteQueue } from "../bytes.ts";
import type { PeerCredentials } from "./socket.ts";

interface Segment {
  data: ByteQueue;
  rights: OpenFile[];
  credentials: PeerCredentials | undefined;
}

export interface Taken {
  bytes: Uint8Array;
  length: number;
  rights: OpenFile[];
  credentials: PeerCredentials | undefined;
}

export class Segments {
  private segments: Segment[] = [];
  /** Each segment is a record of its own (SOCK_SEQPACKET). */
  private readonly records: boolean;
  length = 0;

  constructor(records: boolean) {
    this.records = records;
  }

  get empty(): boolean {
    return this.segments.length === 0;
  }

  /** Of the first record. */
  get firstLength(): number {
    return this.records ? (this.segments[0]?.data.length ?? 0) : this.length;
  }

  push(bytes: Uint8Array, rights: OpenFile[], credentials: PeerCredentials | undefined): void {
    const last = this.segments[this.segments.length - 1];
    this.length += bytes.length;
    if (!this.records && rights.length === 0 && last !== undefined && same(last.credentials, credentials)) {
      last.data.push(bytes);
      return;
    }
    const data = new ByteQueue();
    data.push(bytes);
    this.segments.push({ data, rights, credentials });
  }

  /** Up to `size` bytes; not beyond a place where descriptors or other credentials come. */
  take(size: number, peek: boolean, splitCredentials: boolean): Taken {
    const first = this.segments[0]!;
    if (this.records) return this.takeRecord(first, size, peek);
    const parts: Uint8Array[] = [];
    let done = 0;
    let used = 0;
    const rights: OpenFile[] = [];
    for (const segment of this.segments) {
      if (used > 0 && splitCredentials && !same(segment.credentials, first.credentials)) break;
      // Descriptors come with the first bytes they were sent with, and end what one call reads.
      if (used > 0 && (segment.rights.length > 0 || rights.length > 0)) break;
      const part = new Uint8Array(Math.min(size - done, segment.data.length));
      if (peek) segment.data.peek(part);
      else segment.data.take(part);
      if (peek) rights.push(...segment.rights.map(holdFile));
      else rights.push(...segment.rights.splice(0));
      parts.push(part);
      done += part.length;
      used += 1;
      if (done === size) break;
    }
    if (!peek) {
      this.length -= done;
      while (this.segments.length > 0 && this.segments[0]!.data.length === 0) this.segments.shift();
    }
    const bytes = parts.length === 1 ? parts[0]! : joined(parts, done);
    return { bytes, length: done, rights, credentials: first.credentials };
  }

  private takeRecord(first: Segment, size: number, peek: boolean): Taken {
    const bytes = new Uint8Array(Math.min(size, first.data.length));
    first.data.peek(bytes);
    const { length } = first.data;
    const rights = peek ? first.rights.map(holdFile) : first.rights;
    if (!peek) {
      this.segments.shift();
      this.length -= length;
    }
    return { bytes, length, rights, credentials: first.credentials };
  }

  clear(): void {
    for (const { rights } of this.segments.splice(0)) rights.forEach(dropFile);
    this.length = 0;
  }
}

function same(a: PeerCredentials | undefined, b: PeerCredentials | undefined): boolean {
  return a?.pid === b?.pid && a?.uid === b?.uid && a?.gid === b?.gid;
}

function joined(parts: readonly Uint8Array[], length: number): Uint8Array {
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
