/// Doors into the decoder for tests; not in the wasm module.
#include "decoder.h"

#ifndef __wasm__

#define EXPORT extern "C" __attribute__((visibility("default")))

/// `decode`, with a C name.
EXPORT int decode_one(const u8* bytes, u32 size, Insn* out) {
  return decode(bytes, size, *out);
}

/// Linear sweep: lengths[i] is the length of the instruction at i, 0 where none begins, 255 for a byte that begins none (the sweep
/// goes on behind it). Returns the number of instructions.
EXPORT u32 decode_sweep(const u8* bytes, u32 size, u8* lengths) {
  u32 count = 0;
  Insn insn;
  for (u32 at = 0; at < size;) {
    const int length = decode(bytes + at, size - at, insn);
    lengths[at] = length > 0 ? static_cast<u8>(length) : 255;
    if (length > 0) count++;
    at += length > 0 ? static_cast<u32>(length) : 1;
  }
  return count;
}

#endif
