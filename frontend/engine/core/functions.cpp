#include "functions.h"

namespace {

constexpr Exact kOne{false, 0, u64{1} << 63, 0};
constexpr Exact kTwo{false, 1, u64{1} << 63, 0};
constexpr Exact kPi{false, 1, 0xc90fdaa22168c234, 0xc4c6628b80dc1cd1};
constexpr Exact kHalfPi{false, 0, 0xc90fdaa22168c234, 0xc4c6628b80dc1cd1};
constexpr Exact kSixthPi{false, -1, 0x860a91c16b9b2c23, 0x2dd99707ab3d688b};
constexpr Exact kRootOfThree{false, 0, 0xddb3d742c265539d, 0x92ba16b83c5c1dc5};
constexpr Exact kTangentOfTwelfth{false, -2, 0x8930a2f4f66ab189, 0xb517a51f0e8f88ee};
constexpr Exact kLogOfTwo{false, -1, 0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af};
constexpr Exact kLog2OfE{false, 0, 0xb8aa3b295c17f0bb, 0xbe87fed0691d3e89};
constexpr u64 kRootOfTwo = 0xb504f333f9de6484;

Exact negated(Exact a) {
  a.sign = !a.sign;
  return a;
}
Exact whole(u64 value) { return normalised(false, 63, value, 0); }

/// How many terms the series need for 128 bits.
constexpr u32 kSineTerms = 17, kPowerTerms = 35, kLogarithmTerms = 27, kAngleTerms = 35;

/// 1 - x^2/(f(f+1)) * (1 - x^2/((f+2)(f+3)) * ...)
Exact alternating(const Exact& x, u32 first) {
  const Exact square = negated(product(x, x));
  Exact sum = kOne;
  for (u32 k = kSineTerms; k-- > 0;) {
    const u64 f = first + 2 * k;
    sum = add(kOne, quotient(product(square, sum), whole(f * (f + 1))));
  }
  return sum;
}

/// x + sign * x^3/3 + x^5/5 + ...
Exact odd_series(const Exact& x, bool alternates, u32 terms) {
  Exact square = product(x, x);
  square.sign = alternates;
  Exact sum{false, 0, 0, 0};
  for (u32 k = terms; k-- > 0;) sum = add(quotient(kOne, whole(2 * k + 1)), product(square, sum));
  return product(x, sum);
}

}  // namespace

Exact product(const Exact& a, const Exact& b) {
  if (a.high == 0 || b.high == 0) return {a.sign != b.sign, 0, 0, 0};
  const Wide main = multiply_wide(a.high, b.high);
  const u64 cross = multiply_wide(a.high, b.low).high, other = multiply_wide(a.low, b.high).high;
  u64 low = main.low + cross;
  u64 high = main.high + (low < cross);
  low += other;
  high += low < other;
  return normalised(a.sign != b.sign, a.exponent + b.exponent + 1, high, low);
}

Exact quotient(const Exact& a, const Exact& b) {
  if (a.high == 0) return {a.sign != b.sign, 0, 0, 0};
  // 64 bits, and 64 more of what is left
  const auto top = [](const Exact& n) { return Exact{n.sign, n.exponent, n.high, 0}; };
  Exact first = divide(top(a), top(b));
  first.low = 0;
  const Exact rest = add(a, negated(product(first, b)));
  if (rest.high == 0) return first;
  return add(first, divide(top(rest), top(b)));
}

Exact reduce_angle(const Exact& angle, u32& quarter) {
  quarter = 0;
  if (angle.exponent < -2) return angle;
  // in units of 2^-65: pi/2 is an integer
  constexpr u128 half_pi = static_cast<u128>(0x3) << 64 | 0x243f6a8885a308d3;
  u128 rest = 0;
  u32 count = 0;
  for (u32 i = 0; i < 64 + static_cast<u32>(angle.exponent + 2); i++) {
    rest = rest << 1 | (i < 64 ? angle.high >> (63 - i) & 1 : 0);
    count <<= 1;
    if (rest >= half_pi) {
      rest -= half_pi;
      count++;
    }
  }
  bool sign = angle.sign;
  if (rest > half_pi / 2) {
    rest = half_pi - rest;
    sign = !sign;
    count++;
  }
  quarter = (angle.sign ? 0 - count : count) & 3;
  return normalised(sign, 62, static_cast<u64>(rest >> 64), static_cast<u64>(rest));
}

Exact sine(const Exact& angle) { return product(angle, alternating(angle, 2)); }
Exact cosine(const Exact& angle) { return alternating(angle, 1); }

Exact power_of_two_less_one(const Exact& x) {
  const Exact t = product(x, kLogOfTwo);
  Exact sum = kOne;
  for (u32 n = kPowerTerms; n >= 2; n--) sum = add(kOne, quotient(product(t, sum), whole(n)));
  return product(t, sum);
}

Exact logarithm(const Exact& x) {
  Exact mantissa = x;
  i32 exponent = x.exponent;
  mantissa.exponent = 0;
  if (mantissa.high >= kRootOfTwo) {
    mantissa.exponent = -1;
    exponent++;
  }
  Exact result = odd_series(quotient(add(mantissa, negated(kOne)), add(mantissa, kOne)), false, kLogarithmTerms);
  if (result.high != 0) result.exponent++;
  result = product(result, kLog2OfE);
  Exact power = whole(static_cast<u64>(exponent < 0 ? -exponent : exponent));
  power.sign = exponent < 0;
  return add(power, result);
}

Exact logarithm_plus_one(const Exact& x) {
  if (x.exponent >= -1) return logarithm(add(kOne, x));
  Exact result = odd_series(quotient(x, add(kTwo, x)), false, kLogarithmTerms);
  result.exponent++;
  return product(result, kLog2OfE);
}

Exact angle_of(const Exact& y, const Exact& x) {
  Exact a = y, b = x;
  a.sign = b.sign = false;
  const bool steep = compare_magnitudes(a, b) > 0;
  Exact tangent = steep ? quotient(b, a) : quotient(a, b);
  const bool large = compare_magnitudes(tangent, kTangentOfTwelfth) > 0;
  if (large) tangent = quotient(add(product(tangent, kRootOfThree), negated(kOne)), add(tangent, kRootOfThree));
  Exact angle = odd_series(tangent, true, kAngleTerms);
  if (large) angle = add(angle, kSixthPi);
  if (steep) angle = add(kHalfPi, negated(angle));
  if (x.sign) angle = add(kPi, negated(angle));
  angle.sign = y.sign;
  return angle;
}
