#include "float80.h"

FloatState::FloatState(u16 control)
    : rounding(static_cast<Rounding>(control >> 10 & 3)), unmasked(static_cast<u8>(~control & 0x3f)) {
  const u32 precision = control >> 8 & 3;
  bits = precision == 0 ? 24 : precision == 2 ? 53 : 64;
}

Exact unpack80(const Float80& a) {
  const i32 field = a.sign_exponent & 0x7fff;
  return normalised(is_negative(a), (field ? field : 1) - 16383, a.significand, 0);
}

Float80 round80(const Exact& exact, u32 bits, FloatState& state) {
  if (exact.high == 0) return zero80(exact.sign);
  u8 exceptions = 0;
  Rounded r = round_number(exact, {bits, -16382, 16383}, state.rounding, state.unmasked, exceptions);
  // an exponent that does not fit is given with 24576 less or more
  if (exceptions & state.unmasked & OVERFLOW_RESULT) r.exponent -= 24576;
  if (exceptions & state.unmasked & UNDERFLOW_RESULT) r.exponent += 24576;
  state.exceptions |= exceptions;
  state.up = r.up;
  if (!(r.significand & kTop)) return make80(exact.sign, 0, r.significand);
  const i32 field = r.exponent + 16383;
  if (field == 0x7fff && !(exceptions & state.unmasked & OVERFLOW_RESULT)) return infinity80(exact.sign);
  if (field >= 0x7fff || field <= 0) {  // not even with that
    state.exceptions |= INEXACT_RESULT;
    state.up = field > 0;
    return field > 0 ? infinity80(exact.sign) : zero80(exact.sign);
  }
  return make80(exact.sign, static_cast<u32>(field), r.significand);
}

bool special_operand(const Float80& a, FloatState& state, Float80& result) {
  const Class80 c = class_of(a);
  if (c == Class80::Unsupported) return result = state.invalid(), true;
  if (c == Class80::Denormal) state.exceptions |= DENORMAL_OPERAND;
  if (!is_nan(c)) return false;
  if (c == Class80::SignalingNan) state.exceptions |= INVALID_OPERATION;
  result = quieted(a);
  return true;
}

/// Of two NaNs the quiet one, else the one with the larger significand, else the positive one.
static Float80 choose_nan(const Float80& a, Class80 of_a, const Float80& b, Class80 of_b) {
  if (!is_nan(of_a)) return quieted(b);
  if (!is_nan(of_b)) return quieted(a);
  if (of_a != of_b) return of_a == Class80::QuietNan ? a : b;
  if (a.significand != b.significand) return quieted(a.significand > b.significand ? a : b);
  return quieted(a.sign_exponent < b.sign_exponent ? a : b);
}

bool special_operands(const Float80& a, const Float80& b, FloatState& state, Float80& result) {
  const Class80 of_a = class_of(a), of_b = class_of(b);
  if (of_a == Class80::Unsupported || of_b == Class80::Unsupported) return result = state.invalid(), true;
  if (is_nan(of_a) || is_nan(of_b)) {
    if (of_a == Class80::SignalingNan || of_b == Class80::SignalingNan) state.exceptions |= INVALID_OPERATION;
    result = choose_nan(a, of_a, b, of_b);
    return true;
  }
  if (of_a == Class80::Denormal || of_b == Class80::Denormal) state.exceptions |= DENORMAL_OPERAND;
  return false;
}

static bool is_zero(const Float80& a) { return class_of(a) == Class80::Zero; }
static bool is_infinite(const Float80& a) { return class_of(a) == Class80::Infinity; }

static Float80 sum80(const Float80& a, const Float80& b, FloatState& state) {
  if (is_infinite(a)) return is_infinite(b) && is_negative(a) != is_negative(b) ? state.invalid() : a;
  if (is_infinite(b)) return b;
  Exact exact = add(unpack80(a), unpack80(b));
  if (exact.high == 0) exact.sign = is_zero(a) && is_zero(b) && is_negative(a) == is_negative(b) ? is_negative(a) : state.rounding == kDown;
  return round80(exact, state.bits, state);
}

Float80 add80(const Float80& a, const Float80& b, FloatState& state) {
  Float80 result;
  return special_operands(a, b, state, result) ? result : sum80(a, b, state);
}

Float80 subtract80(const Float80& a, const Float80& b, FloatState& state) {
  Float80 result;
  if (special_operands(a, b, state, result)) return result;
  return sum80(a, {b.significand, static_cast<u16>(b.sign_exponent ^ 0x8000)}, state);
}

Float80 multiply80(const Float80& a, const Float80& b, FloatState& state) {
  Float80 result;
  if (special_operands(a, b, state, result)) return result;
  const bool sign = is_negative(a) != is_negative(b);
  const bool zero = is_zero(a) || is_zero(b);
  if (is_infinite(a) || is_infinite(b)) return zero ? state.invalid() : infinity80(sign);
  return zero ? zero80(sign) : round80(multiply(unpack80(a), unpack80(b)), state.bits, state);
}

Float80 divide80(const Float80& a, const Float80& b, FloatState& state) {
  Float80 result;
  if (special_operands(a, b, state, result)) return result;
  const bool sign = is_negative(a) != is_negative(b);
  if (is_infinite(a)) return is_infinite(b) ? state.invalid() : infinity80(sign);
  if (is_infinite(b)) return zero80(sign);
  if (is_zero(b)) {
    if (is_zero(a)) return state.invalid();
    state.exceptions = DIVIDE_BY_ZERO;
    return infinity80(sign);
  }
  return is_zero(a) ? zero80(sign) : round80(divide(unpack80(a), unpack80(b)), state.bits, state);
}

Float80 square_root80(const Float80& a, FloatState& state) {
  Float80 result;
  if (is_negative(a) && class_of(a) == Class80::Denormal) return state.invalid();
  if (special_operand(a, state, result)) return result;
  if (is_zero(a)) return a;
  if (is_negative(a)) return state.invalid();
  return is_infinite(a) ? a : round80(square_root(unpack80(a)), state.bits, state);
}

Float80 round_to_whole80(const Float80& a, FloatState& state) {
  Float80 result;
  if (special_operand(a, state, result)) return result;
  const i32 exponent = (a.sign_exponent & 0x7fff) - 16383;
  if (is_zero(a) || exponent >= 63) return a;
  u64 magnitude;
  bool inexact;
  round_integer(unpack80(a), state.rounding, magnitude, inexact, state.up);
  if (inexact) state.exceptions |= INEXACT_RESULT;
  const Exact whole = normalised(is_negative(a), 63, magnitude, 0);
  return magnitude == 0 ? zero80(is_negative(a)) : make80(whole.sign, static_cast<u32>(whole.exponent + 16383), whole.high);
}

Float80 scale80(const Float80& a, const Float80& b, FloatState& state) {
  Float80 result;
  if (special_operands(a, b, state, result)) return result;
  if (is_infinite(b)) {
    if (is_negative(b)) return is_infinite(a) ? state.invalid() : zero80(is_negative(a));
    return is_zero(a) ? state.invalid() : infinity80(is_negative(a));
  }
  if (is_zero(a) || is_infinite(a)) return a;
  u64 magnitude;
  bool inexact, up;
  const Exact scale = unpack80(b);
  // every exponent beyond this overflows or underflows, unmasked ones too
  constexpr u64 most = 0x10000;
  if (!round_integer(scale, kToZero, magnitude, inexact, up) || magnitude > most) magnitude = most;
  Exact exact = unpack80(a);
  exact.exponent += is_negative(b) ? -static_cast<i32>(magnitude) : static_cast<i32>(magnitude);
  return round80(exact, 64, state);
}

Float80 remainder80(const Float80& a, const Float80& b, bool nearest, FloatState& state, u64& quotient, bool& partial) {
  quotient = 0;
  partial = false;
  Float80 result;
  if (special_operands(a, b, state, result)) return result;
  if (is_infinite(a) || is_zero(b)) {
    state.exceptions = 0;
    return state.invalid();
  }
  if (is_zero(a)) return a;
  const Exact x = unpack80(a);
  if (is_infinite(b)) return round80(x, 64, state);
  const Exact y = unpack80(b);
  const i32 difference = x.exponent - y.exponent;
  if (difference < -1) return round80(x, 64, state);

  // the whole quotient, or one of fewer bits of a number 2^k as big
  u32 steps = static_cast<u32>(difference < 0 ? 0 : difference);
  i32 exponent = y.exponent;
  if (difference >= 64) {
    partial = true;
    steps = 32 + static_cast<u32>(difference) % 32;
    exponent += difference - static_cast<i32>(steps);
  }
  u64 rest = x.high;
  bool carry = false;
  if (difference >= 0) {
    for (u32 i = 0;; i++) {
      quotient <<= 1;
      if (carry || rest >= y.high) {
        rest -= y.high;
        quotient |= 1;
      }
      if (i == steps) break;
      carry = rest >> 63;
      rest <<= 1;
    }
  } else {
    exponent = x.exponent;
  }
  bool sign = x.sign;
  if (nearest && !partial) {
    // compares twice the rest with the divisor, which may be 2^-1 of the rest's unit
    const bool small = difference < 0;
    const u64 twice = rest << 1;
    const bool more = small ? rest > y.high : rest >> 63 || twice > y.high;
    const bool same = small ? rest == y.high : !(rest >> 63) && twice == y.high;
    if (more || (same && quotient & 1)) {
      quotient++;
      sign = !sign;
      const Exact left = add({false, 0, y.high, 0}, [&] {
        Exact value = normalised(true, small ? -1 : 0, rest, 0);
        return value;
      }());
      return round80({sign, left.exponent + y.exponent, left.high, left.low}, 64, state);
    }
  }
  if (rest == 0) return zero80(x.sign);
  return round80(normalised(sign, exponent, rest, 0), 64, state);
}

Float80 extract80(const Float80& a, FloatState& state, Float80& significand) {
  Float80 result;
  if (special_operand(a, state, result)) return significand = result;
  significand = a;
  if (is_infinite(a)) return infinity80(false);
  if (is_zero(a)) {
    state.exceptions |= DIVIDE_BY_ZERO;
    return infinity80(true);
  }
  const Exact exact = unpack80(a);
  significand = make80(exact.sign, 16383, exact.high);
  return from_integer(exact.exponent);
}

Order compare80(const Float80& a, const Float80& b, bool quiet, FloatState& state) {
  const Class80 of_a = class_of(a), of_b = class_of(b);
  if (of_a == Class80::Unsupported || of_b == Class80::Unsupported || is_nan(of_a) || is_nan(of_b)) {
    const auto invalid = [&](Class80 c) { return c == Class80::Unsupported || c == Class80::SignalingNan || (!quiet && is_nan(c)); };
    if (invalid(of_a) || invalid(of_b)) state.exceptions |= INVALID_OPERATION;
    return Order::Unordered;
  }
  if (of_a == Class80::Denormal || of_b == Class80::Denormal) state.exceptions |= DENORMAL_OPERAND;
  if (of_a == Class80::Zero && of_b == Class80::Zero) return Order::Equal;
  if (is_negative(a) != is_negative(b)) return is_negative(a) ? Order::Less : Order::Greater;
  const int order = compare_magnitudes(unpack80(a), unpack80(b)) * (is_negative(a) ? -1 : 1);
  return order < 0 ? Order::Less : order > 0 ? Order::Greater : Order::Equal;
}
