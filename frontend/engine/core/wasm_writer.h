/// Writes WebAssembly's binary format (webassembly.github.io/spec/core/binary) into a buffer of fixed size.
#pragma once
#include "abi.h"

namespace wasm {

enum Type : u8 { I32 = 0x7f, I64 = 0x7e, F32 = 0x7d, F64 = 0x7c, V128 = 0x7b, NOTHING = 0x40 };

enum Op : u8 {
  UNREACHABLE = 0x00,
  BLOCK = 0x02,
  LOOP = 0x03,
  IF = 0x04,
  ELSE = 0x05,
  END = 0x0b,
  BR = 0x0c,
  BR_IF = 0x0d,
  RETURN = 0x0f,
  CALL_INDIRECT = 0x11,
  DROP = 0x1a,
  SELECT = 0x1b,
  LOCAL_GET = 0x20,
  LOCAL_SET = 0x21,
  LOCAL_TEE = 0x22,
  I32_LOAD = 0x28,
  I64_LOAD = 0x29,
  F32_LOAD = 0x2a,
  F64_LOAD = 0x2b,
  I32_LOAD8_U = 0x2d,
  I64_LOAD8_S = 0x30,
  I64_LOAD8_U = 0x31,
  I64_LOAD16_S = 0x32,
  I64_LOAD16_U = 0x33,
  I64_LOAD32_S = 0x34,
  I64_LOAD32_U = 0x35,
  I32_STORE = 0x36,
  I64_STORE = 0x37,
  F64_STORE = 0x39,
  I64_STORE8 = 0x3c,
  I64_STORE16 = 0x3d,
  I64_STORE32 = 0x3e,
  I32_CONST = 0x41,
  I64_CONST = 0x42,
  I32_EQZ = 0x45,
  I32_EQ = 0x46,
  I32_NE = 0x47,
  I32_LT_S = 0x48,
  I32_LT_U = 0x49,
  I32_GT_S = 0x4a,
  I32_GE_U = 0x4f,
  I64_EQZ = 0x50,
  I64_EQ = 0x51,
  I64_NE = 0x52,
  I64_LT_S = 0x53,
  I64_LT_U = 0x54,
  I64_GT_S = 0x55,
  I64_GT_U = 0x56,
  I64_LE_S = 0x57,
  I64_LE_U = 0x58,
  I64_GE_S = 0x59,
  I64_GE_U = 0x5a,
  I32_ADD = 0x6a,
  I32_SUB = 0x6b,
  I32_MUL = 0x6c,
  I32_AND = 0x71,
  I32_OR = 0x72,
  I32_XOR = 0x73,
  I32_SHL = 0x74,
  I32_SHR_U = 0x76,
  I32_ROTL = 0x77,
  I32_ROTR = 0x78,
  I64_CLZ = 0x79,
  I64_CTZ = 0x7a,
  I64_POPCNT = 0x7b,
  I64_ADD = 0x7c,
  I64_SUB = 0x7d,
  I64_MUL = 0x7e,
  I64_DIV_S = 0x7f,
  I64_DIV_U = 0x80,
  I64_REM_S = 0x81,
  I64_REM_U = 0x82,
  I64_AND = 0x83,
  I64_OR = 0x84,
  I64_XOR = 0x85,
  I64_SHL = 0x86,
  I64_SHR_S = 0x87,
  I64_SHR_U = 0x88,
  I64_ROTL = 0x89,
  I64_ROTR = 0x8a,
  I32_WRAP_I64 = 0xa7,
  I64_EXTEND_I32_S = 0xac,
  I64_EXTEND_I32_U = 0xad,
  I32_REINTERPRET_F32 = 0xbc,
  I64_REINTERPRET_F64 = 0xbd,
  F32_REINTERPRET_I32 = 0xbe,
  F64_REINTERPRET_I64 = 0xbf,
  F32_EQ = 0x5b,
  F32_NE = 0x5c,
  F32_LT = 0x5d,
  F64_EQ = 0x61,
  F64_NE = 0x62,
  F64_LT = 0x63,
  F32_ABS = 0x8b,
  F32_SQRT = 0x91,
  F64_ABS = 0x99,
  F64_SQRT = 0x9f,
  I32_TRUNC_F32_S = 0xa8,
  I32_TRUNC_F64_S = 0xaa,
  I64_TRUNC_F32_S = 0xae,
  I64_TRUNC_F64_S = 0xb0,
  F32_CONVERT_I32_S = 0xb2,
  F32_CONVERT_I64_S = 0xb4,
  F32_DEMOTE_F64 = 0xb6,
  F64_CONVERT_I32_S = 0xb7,
  F64_CONVERT_I64_S = 0xb9,
  F64_PROMOTE_F32 = 0xbb,
  I64_EXTEND8_S = 0xc2,
  I64_EXTEND16_S = 0xc3,
  I64_EXTEND32_S = 0xc4,
};

/// Bytes behind 0xfd (SIMD).
enum Simd : u16 {
  V128_LOAD = 0,
  V128_STORE = 11,
  V128_CONST = 12,
  I8X16_SHUFFLE = 13,
  I8X16_SWIZZLE = 14,
  I64X2_SPLAT = 18,
  F32X4_SPLAT = 19,
  F64X2_SPLAT = 20,
  I32X4_EXTRACT_LANE = 27,
  I32X4_REPLACE_LANE = 28,
  I64X2_EXTRACT_LANE = 29,
  I64X2_REPLACE_LANE = 30,
  F32X4_EXTRACT_LANE = 31,
  F32X4_REPLACE_LANE = 32,
  F64X2_EXTRACT_LANE = 33,
  F64X2_REPLACE_LANE = 34,
  V128_NOT = 77,
  V128_AND = 78,
  V128_ANDNOT = 79,
  V128_OR = 80,
  V128_XOR = 81,
  V128_LOAD32_ZERO = 92,
  V128_LOAD64_ZERO = 93,
  I8X16_BITMASK = 100,
  I32X4_BITMASK = 164,
  I64X2_BITMASK = 196,
  I64X2_MUL = 213,
};

/// `overflowed` once the buffer was too small; everything after that is lost, and the caller gives up.
class Writer {
 public:
  Writer(u8* into, u32 capacity) : bytes_(into), capacity_(capacity) {}

  u32 size() const { return size_; }
  bool overflowed() const { return overflowed_; }
  const u8* data() const { return bytes_; }
  void restart() { size_ = 0; }

  void byte(u8 value) {
    if (size_ < capacity_) {
      bytes_[size_++] = value;
    } else {
      overflowed_ = true;
    }
  }
  void raw(const u8* from, u32 count) {
    for (u32 i = 0; i < count; ++i) byte(from[i]);
  }
  /// LEB128, unsigned.
  void number(u64 value) {
    while (value >= 0x80) {
      byte(u8(value) | 0x80);
      value >>= 7;
    }
    byte(u8(value));
  }
  /// LEB128, signed.
  void signed_number(i64 value) {
    for (;;) {
      const u8 low = value & 0x7f;
      value >>= 7;
      if ((value == 0 && !(low & 0x40)) || (value == -1 && (low & 0x40))) return byte(low);
      byte(low | 0x80);
    }
  }
  void name(const char* text) {
    u32 length = 0;
    while (text[length]) ++length;
    number(length);
    raw(reinterpret_cast<const u8*>(text), length);
  }

  void op(Op code) { byte(code); }
  void simd(Simd code) {
    byte(0xfd);
    number(code);
  }
  void get(u32 local) {
    byte(LOCAL_GET);
    number(local);
  }
  void set(u32 local) {
    byte(LOCAL_SET);
    number(local);
  }
  void tee(u32 local) {
    byte(LOCAL_TEE);
    number(local);
  }
  void constant32(u32 value) {
    byte(I32_CONST);
    signed_number(::i32(value));
  }
  void constant(u64 value) {
    byte(I64_CONST);
    signed_number(i64(value));
  }
  void constant_double(double value) {
    byte(0x44);
    raw(reinterpret_cast<const u8*>(&value), sizeof value);
  }
  void constant_single(float value) {
    byte(0x43);
    raw(reinterpret_cast<const u8*>(&value), sizeof value);
  }
  /// A load or store; alignment is a hint, and guests align nothing.
  void memory(Op code, u32 offset) {
    byte(code);
    byte(0);
    number(offset);
  }
  void memory(Simd code, u32 offset) {
    simd(code);
    byte(0);
    number(offset);
  }
  void begin(Op code, Type result = NOTHING) {
    byte(code);
    byte(result);
  }
  void end() { byte(END); }
  void branch(u32 depth) {
    byte(BR);
    number(depth);
  }
  void branch_if(u32 depth) {
    byte(BR_IF);
    number(depth);
  }

 private:
  u8* bytes_;
  u32 capacity_;
  u32 size_ = 0;
  bool overflowed_ = false;
};

}  // namespace wasm
