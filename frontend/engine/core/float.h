/// Binary floating point by integers: exact results, then rounded once. SSE's slow path and all of x87 use it.
#pragma once
#include "abi.h"

enum Rounding : u8 { kToNearest, kDown, kUp, kToZero };  // RC of MXCSR and of the x87 control word

/// Bits of MXCSR and of the x87 status word.
enum Exceptions : u8 {
  INVALID_OPERATION = 1,
  DENORMAL_OPERAND = 2,
  DIVIDE_BY_ZERO = 4,
  OVERFLOW_RESULT = 8,
  UNDERFLOW_RESULT = 16,
  INEXACT_RESULT = 32,
};

/// A finite number that is not 0: (high + low / 2^64) * 2^(exponent - 63), bit 63 of high set. The last bit of low may stand for any rest below it.
/// high 0: the number is 0.
struct Exact {
  bool sign;
  i32 exponent;
  u64 high, low;
};

struct Precision {
  u32 bits;             // of the significand
  i32 lowest, highest;  // exponents of normal numbers
};
constexpr Precision kSingle{24, -126, 127};
constexpr Precision kDouble{53, -1022, 1023};
constexpr Precision kExtended{64, -16382, 16383};

struct Wide {
  u64 high, low;
};

#define FLOAT_INLINE inline __attribute__((always_inline))

FLOAT_INLINE Wide multiply_wide(u64 a, u64 b) {
#ifdef __wasm__
  const u64 al = static_cast<u32>(a), ah = a >> 32, bl = static_cast<u32>(b), bh = b >> 32;
  const u64 low = al * bl, middle = ah * bl + (low >> 32), other = al * bh + static_cast<u32>(middle);
  return {ah * bh + (middle >> 32) + (other >> 32), other << 32 | static_cast<u32>(low)};
#else
  const u128 product = static_cast<u128>(a) * b;
  return {static_cast<u64>(product >> 64), static_cast<u64>(product)};
#endif
}

/// To the right by any count; bits that fall out are noted in the last.
FLOAT_INLINE Wide shift_right_noting(Wide v, u32 count) {
  if (count == 0) return v;
  if (count < 64) return {v.high >> count, v.high << (64 - count) | v.low >> count | ((v.low << (64 - count)) != 0)};
  if (count == 64) return {0, v.high | (v.low != 0)};
  if (count < 128) return {0, v.high >> (count - 64) | ((v.high << (128 - count) | v.low) != 0)};
  return {0, (v.high | v.low) != 0};
}
FLOAT_INLINE Wide shift_left(Wide v, u32 count) {
  if (count == 0) return v;
  if (count < 64) return {v.high << count | v.low >> (64 - count), v.low << count};
  return {v.low << (count - 64), 0};
}

/// (high:low) / divisor for high < divisor, bit 63 of divisor set.
u64 divide_wide(u64 high, u64 low, u64 divisor, u64& rest);

/// With bit 63 of high set; {.., 0, 0} when the significand is 0.
Exact normalised(bool sign, i32 exponent, u64 high, u64 low);

/// Operands are exact numbers that are not 0 and have low = 0, except for `add`, which takes any.
Exact add(Exact a, Exact b);
Exact multiply(const Exact& a, const Exact& b);
Exact divide(const Exact& a, const Exact& b);
Exact square_root(const Exact& a);
/// Magnitudes: negative, 0, positive.
int compare_magnitudes(const Exact& a, const Exact& b);

/// A rounded number. significand without bit 63: denormal, exponent is the lowest. Infinity: exponent highest + 1, significand 2^63.
struct Rounded {
  u64 significand;
  i32 exponent;
  bool up;  // away from zero
};
/// `unmasked`: exceptions that are not masked: an overflow or underflow among them leaves the exponent as it is (the caller biases it).
Rounded round_number(const Exact&, const Precision&, Rounding, u8 unmasked, u8& exceptions);

/// To an integer below 2^64 in magnitude; false: it does not fit.
bool round_integer(const Exact&, Rounding, u64& magnitude, bool& inexact, bool& up);
