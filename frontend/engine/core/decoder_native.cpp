/// Doors into the decoder for tests; not in the wasm module.
#include "decoder.h"

#ifndef __wasm__

#define EXPORT extern "C" __attribute__((visibility("default")))

/// `decode`, with a C name.
EXPORT int decode_one(const u8* bytes, u32 size, Insn* out) {
  return decode(bytes, size, *out);
}

/// Linear sweep up to the first byte that begins no instruction: lengths[i] is the length of the instruction at i, 0 where none begins.
/// Returns where it has stopped.
EXPORT u32 decode_sweep(const u8* bytes, u32 size, u8* lengths) {
  Insn insn;
  u32 at = 0;
  while (at < size) {
    const int length = decode(bytes + at, size - at, insn);
    if (length <= 0) break;
    lengths[at] = static_cast<u8>(length);
    at += static_cast<u32>(length);
  }
  return at;
}

#endif
