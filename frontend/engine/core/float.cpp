#include "float.h"

u64 divide_wide(u64 high, u64 low, u64 divisor, u64& rest) {
#if defined(__x86_64__) && !defined(__wasm__)
  const u128 dividend = static_cast<u128>(high) << 64 | low;
  rest = static_cast<u64>(dividend % divisor);
  return static_cast<u64>(dividend / divisor);
#else
  // Knuth's algorithm D with two digits of 32 bits
  const u64 top = divisor >> 32, bottom = static_cast<u32>(divisor);
  u64 quotient = 0;
  for (u32 digit = 0; digit < 2; digit++) {
    const u64 next = digit == 0 ? low >> 32 : static_cast<u32>(low);
    u64 guess = high / top, left = high % top;
    while (guess >> 32 || guess * bottom > (left << 32 | next)) {
      guess--;
      left += top;
      if (left >> 32) break;
    }
    high = (high << 32 | next) - guess * divisor;
    quotient = quotient << 32 | guess;
  }
  rest = high;
  return quotient;
#endif
}

Exact normalised(bool sign, i32 exponent, u64 high, u64 low) {
  if (high == 0 && low == 0) return {sign, 0, 0, 0};
  const u32 count = high ? static_cast<u32>(__builtin_clzll(high)) : 64 + static_cast<u32>(__builtin_clzll(low));
  const Wide shifted = shift_left({high, low}, count);
  return {sign, exponent - static_cast<i32>(count), shifted.high, shifted.low};
}

int compare_magnitudes(const Exact& a, const Exact& b) {
  if (a.high == 0 || b.high == 0) return (a.high != 0) - (b.high != 0);
  if (a.exponent != b.exponent) return a.exponent < b.exponent ? -1 : 1;
  if (a.high != b.high) return a.high < b.high ? -1 : 1;
  return a.low < b.low ? -1 : a.low > b.low;
}

Exact add(Exact a, Exact b) {
  if (b.high == 0) return a;
  if (a.high == 0) return b;
  if (compare_magnitudes(a, b) < 0) {
    const Exact other = a;
    a = b;
    b = other;
  }
  const Wide aligned = shift_right_noting({b.high, b.low}, static_cast<u32>(a.exponent - b.exponent));
  if (a.sign == b.sign) {
    const u64 low = a.low + aligned.low;
    const u64 carry = low < a.low;
    const u64 high = a.high + aligned.high + carry;
    const bool out = carry ? high <= a.high : high < a.high;
    if (!out) return {a.sign, a.exponent, high, low};
    return {a.sign, a.exponent + 1, high >> 1 | u64{1} << 63, high << 63 | low >> 1 | (low & 1)};
  }
  const u64 low = a.low - aligned.low;
  return normalised(a.sign, a.exponent, a.high - aligned.high - (a.low < aligned.low), low);
}

Exact multiply(const Exact& a, const Exact& b) {
  const Wide product = multiply_wide(a.high, b.high);
  const bool sign = a.sign != b.sign;
  if (product.high >> 63) return {sign, a.exponent + b.exponent + 1, product.high, product.low};
  return {sign, a.exponent + b.exponent, product.high << 1 | product.low >> 63, product.low << 1};
}

Exact divide(const Exact& a, const Exact& b) {
  u64 rest;
  const bool less = a.high < b.high;
  const u64 quotient = less ? divide_wide(a.high, 0, b.high, rest) : divide_wide(a.high >> 1, a.high << 63, b.high, rest);
  u64 low = 0;
  if (rest != 0) {
    const u64 missing = b.high - rest;
    low = rest > missing ? u64{3} << 62 : rest == missing ? u64{1} << 63 : 1;
  }
  return {a.sign != b.sign, a.exponent - b.exponent - less, quotient, low};
}

Exact square_root(const Exact& a) {
  // the root of a 128-bit integer, two of its bits for each bit of the root
  const bool odd = a.exponent & 1;
  Wide left = odd ? Wide{a.high, 0} : Wide{a.high >> 1, a.high << 63};
  u64 root = 0;
  Wide rest{0, 0};
  for (u32 i = 0; i < 64; i++) {
    rest = {rest.high << 2 | rest.low >> 62, rest.low << 2 | left.high >> 62};
    left = shift_left(left, 2);
    const Wide test{root >> 62, root << 2 | 1};
    root <<= 1;
    if (rest.high > test.high || (rest.high == test.high && rest.low >= test.low)) {
      rest = {rest.high - test.high - (rest.low < test.low), rest.low - test.low};
      root |= 1;
    }
  }
  // (root + 1/2)^2 = root^2 + root + 1/4
  const bool above = rest.high != 0 || rest.low > root;
  const u64 low = above ? u64{3} << 62 : rest.low != 0 ? 1 : 0;
  return {false, (a.exponent - odd) / 2, root, low};
}

/// Whether what is cut off makes the kept part grow.
static FLOAT_INLINE bool grows(Rounding rounding, bool sign, bool odd, bool half, bool rest) {
  switch (rounding) {
    case kToNearest: return half && (rest || odd);
    case kDown: return sign && (half || rest);
    case kUp: return !sign && (half || rest);
    default: return false;
  }
}

struct Cut {
  u64 significand;  // 0 with `carry`: a power of two
  bool carry, up, inexact;
};

/// Keeps the top `bits` of high:low.
static Cut cut(u64 high, u64 low, u32 bits, bool sign, Rounding rounding) {
  bool half, rest, odd;
  u64 kept = high, unit = 1;
  if (bits == 64) {
    half = low >> 63;
    rest = low << 1 != 0;
    odd = high & 1;
  } else {
    unit = u64{1} << (64 - bits);
    kept = high & ~(unit - 1);
    half = high & unit >> 1;
    rest = (high & ((unit >> 1) - 1)) != 0 || low != 0;
    odd = high & unit;
  }
  Cut result{kept, false, false, half || rest};
  if (grows(rounding, sign, odd, half, rest)) {
    result.up = true;
    result.significand += unit;
    result.carry = result.significand < unit;
  }
  return result;
}

static Rounded round_tiny(const Exact& a, const Precision& precision, Rounding rounding, u8& exceptions) {
  const Wide shifted = shift_right_noting({a.high, a.low}, static_cast<u32>(precision.lowest - a.exponent));
  const Cut small = cut(shifted.high, shifted.low, precision.bits, a.sign, rounding);
  if (small.inexact) exceptions |= UNDERFLOW_RESULT | INEXACT_RESULT;
  return {small.significand, precision.lowest, small.up};
}

Rounded round_number(const Exact& a, const Precision& precision, Rounding rounding, u8 unmasked, u8& exceptions) {
  Cut kept = cut(a.high, a.low, precision.bits, a.sign, rounding);
  i32 exponent = a.exponent;
  if (kept.carry) {
    kept.significand = u64{1} << 63;
    exponent++;
  }
  if (exponent < precision.lowest) {
    if (!(unmasked & UNDERFLOW_RESULT)) return round_tiny(a, precision, rounding, exceptions);
    exceptions |= UNDERFLOW_RESULT;
  } else if (a.exponent < precision.lowest && !(unmasked & UNDERFLOW_RESULT)) {
    // rounded up to a normal number: not tiny, but with the denormals' fewer bits
    const u8 before = exceptions;
    const Rounded result = round_tiny(a, precision, rounding, exceptions);
    exceptions = before | (exceptions & INEXACT_RESULT) | (kept.inexact ? INEXACT_RESULT : 0);
    return result;
  }
  if (kept.inexact) exceptions |= INEXACT_RESULT;
  if (exponent > precision.highest) {
    exceptions |= OVERFLOW_RESULT;
    if (unmasked & OVERFLOW_RESULT) return {kept.significand, exponent, kept.up};
    exceptions |= INEXACT_RESULT;
    const bool infinite = rounding == kToNearest || rounding == (a.sign ? kDown : kUp);
    if (infinite) return {u64{1} << 63, precision.highest + 1, true};
    const u64 all = precision.bits == 64 ? ~u64{0} : ~((u64{1} << (64 - precision.bits)) - 1);
    return {all, precision.highest, false};
  }
  return {kept.significand, exponent, kept.up};
}

bool round_integer(const Exact& a, Rounding rounding, u64& magnitude, bool& inexact, bool& up) {
  magnitude = 0;
  inexact = up = false;
  if (a.high == 0) return true;
  if (a.exponent > 63) return false;
  const Wide shifted = shift_right_noting({a.high, a.low}, static_cast<u32>(63 - a.exponent));
  const bool half = shifted.low >> 63, rest = shifted.low << 1 != 0;
  magnitude = shifted.high;
  inexact = half || rest;
  up = grows(rounding, a.sign, magnitude & 1, half, rest);
  if (!up) return true;
  magnitude++;
  return magnitude != 0;
}
