/// The x87's arithmetic: 80-bit numbers with all their classes, exceptions noted in a state.
#pragma once
#include "float.h"

constexpr u64 kTop = u64{1} << 63;

enum class Class80 : u8 { Zero, Normal, Denormal, Infinity, QuietNan, SignalingNan, Unsupported };

inline Class80 class_of(const Float80& a) {
  const u32 exponent = a.sign_exponent & 0x7fff;
  if (exponent == 0) return a.significand == 0 ? Class80::Zero : Class80::Denormal;
  if (!(a.significand & kTop)) return Class80::Unsupported;
  if (exponent != 0x7fff) return Class80::Normal;
  if (a.significand == kTop) return Class80::Infinity;
  return a.significand >> 62 & 1 ? Class80::QuietNan : Class80::SignalingNan;
}
inline bool is_nan(Class80 c) { return c == Class80::QuietNan || c == Class80::SignalingNan; }
inline bool is_negative(const Float80& a) { return a.sign_exponent >> 15; }

inline Float80 make80(bool sign, u32 exponent, u64 significand) {
  return {significand, static_cast<u16>((sign ? 0x8000u : 0u) | exponent)};
}
inline Float80 zero80(bool sign) { return make80(sign, 0, 0); }
inline Float80 infinity80(bool sign) { return make80(sign, 0x7fff, kTop); }
inline Float80 default_nan80() { return make80(true, 0x7fff, u64{3} << 62); }
inline Float80 quieted(const Float80& a) { return {a.significand | u64{1} << 62, a.sign_exponent}; }

/// How to round, and what has happened.
struct FloatState {
  Rounding rounding;
  u32 bits;          // of results: 24, 53, 64
  u8 unmasked;       // exceptions
  u8 exceptions = 0;
  bool up = false;   // the result was rounded away from zero

  explicit FloatState(u16 control);
  Float80 invalid() {
    exceptions |= INVALID_OPERATION;
    return default_nan80();
  }
};

Exact unpack80(const Float80&);
/// Rounds to `bits` of significand; a 0 keeps its sign.
Float80 round80(const Exact&, u32 bits, FloatState&);

/// NaNs and unsupported operands: true with `result`. Otherwise denormals are noted.
bool special_operand(const Float80& a, FloatState&, Float80& result);
bool special_operands(const Float80& a, const Float80& b, FloatState&, Float80& result);

Float80 add80(const Float80& a, const Float80& b, FloatState&);
Float80 subtract80(const Float80& a, const Float80& b, FloatState&);
Float80 multiply80(const Float80& a, const Float80& b, FloatState&);
Float80 divide80(const Float80& a, const Float80& b, FloatState&);
Float80 square_root80(const Float80& a, FloatState&);
Float80 round_to_whole80(const Float80& a, FloatState&);
/// a * 2^trunc(b)
Float80 scale80(const Float80& a, const Float80& b, FloatState&);
/// FPREM (truncating) or FPREM1 (to nearest). `quotient`: its low bits; `partial`: a further step is needed.
Float80 remainder80(const Float80& a, const Float80& b, bool nearest, FloatState&, u64& quotient, bool& partial);
/// The exponent as a number; `significand` gets the rest.
Float80 extract80(const Float80& a, FloatState&, Float80& significand);

enum class Order : u8 { Less, Equal, Greater, Unordered };
/// `quiet`: only signaling NaNs are invalid.
Order compare80(const Float80& a, const Float80& b, bool quiet, FloatState&);

/// From and to other formats. Widening is exact and leaves NaNs as they are; `denormal` is set when the operand is one.
Float80 from_single(u32, bool& denormal);
Float80 from_double(u64, bool& denormal);
Float80 from_integer(i64);
u32 to_single(const Float80&, FloatState&);
u64 to_double(const Float80&, FloatState&);
/// To `size` bytes; what does not fit is invalid and gives the smallest.
i64 to_integer(const Float80&, u32 size, Rounding, FloatState&);
/// Packed decimal: 18 digits and a sign, ten bytes.
Float80 from_decimal(const u8* bytes);
void to_decimal(const Float80&, FloatState&, u8* bytes);
