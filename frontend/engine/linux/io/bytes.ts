/** A queue of bytes in pieces: what pipes, terminals and sockets hold on its way. */

const PIECE = 4096;

export class ByteQueue {
  /** Pieces; the last one may have room behind `end`. */
  private pieces: Uint8Array[] = [];
  /** First byte in the first piece that is still here. */
  private start = 0;
  /** Bytes used of the last piece. */
  private end = 0;
  private count = 0;

  get length(): number {
    return this.count;
  }

  /** Appends a copy. */
  push(bytes: Uint8Array): void {
    let from = bytes;
    if (from.length === 0) return;
    this.count += from.length;
    const last = this.pieces[this.pieces.length - 1];
    if (last !== undefined && this.end < last.length) {
      const part = from.subarray(0, last.length - this.end);
      last.set(part, this.end);
      this.end += part.length;
      from = from.subarray(part.length);
      if (from.length === 0) return;
    }
    const piece = new Uint8Array(Math.max(PIECE, from.length));
    piece.set(from);
    this.pieces.push(piece);
    this.end = from.length;
  }

  /** Takes up to `into.length` bytes; how many. */
  take(into: Uint8Array): number {
    const count = this.peek(into);
    this.skip(count);
    return count;
  }

  /** Copies bytes from `offset` on without taking them; how many. */
  peek(into: Uint8Array, offset = 0): number {
    let skip = offset;
    let done = 0;
    for (let i = 0; i < this.pieces.length && done < into.length; i += 1) {
      const piece = this.view(i);
      if (skip >= piece.length) {
        skip -= piece.length;
        continue;
      }
      const part = piece.subarray(skip, skip + into.length - done);
      into.set(part, done);
      done += part.length;
      skip = 0;
    }
    return done;
  }

  skip(count: number): void {
    let left = Math.min(count, this.count);
    this.count -= left;
    while (left > 0) {
      const size = this.view(0).length;
      if (left < size) {
        this.start += left;
        return;
      }
      left -= size;
      this.pieces.shift();
      this.start = 0;
    }
    if (this.count === 0) this.clear();
  }

  clear(): void {
    this.pieces = [];
    this.start = 0;
    this.end = 0;
    this.count = 0;
  }

  /** All of it, taken. */
  takeAll(): Uint8Array {
    const all = new Uint8Array(this.count);
    this.take(all);
    return all;
  }

  private view(index: number): Uint8Array {
    const piece = this.pieces[index]!;
    const last = index === this.pieces.length - 1;
    return piece.subarray(index === 0 ? this.start : 0, last ? this.end : piece.length);
  }
}
