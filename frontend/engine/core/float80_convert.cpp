/// 80-bit numbers from and to singles, doubles, integers and packed decimals.
#include "float80.h"

/// `fraction` bits below the hidden one, exponent field of `bias`.
static Float80 widen(u64 bits, u32 fraction, i32 bias, bool& denormal) {
  const u32 size = fraction == 23 ? 32 : 64;
  const bool sign = bits >> (size - 1) & 1;
  const i32 field = static_cast<i32>(bits >> fraction & (2 * static_cast<u32>(bias) + 1));
  const u64 significand = bits << (63 - fraction) & (kTop - 1);
  if (field == 2 * bias + 1) return make80(sign, 0x7fff, kTop | significand);
  if (field != 0) return make80(sign, static_cast<u32>(field - bias + 16383), kTop | significand);
  if (significand == 0) return zero80(sign);
  denormal = true;
  const Exact exact = normalised(sign, 1 - bias, significand, 0);
  return make80(sign, static_cast<u32>(exact.exponent + 16383), exact.high);
}
Float80 from_single(u32 bits, bool& denormal) { return widen(bits, 23, 127, denormal); }
Float80 from_double(u64 bits, bool& denormal) { return widen(bits, 52, 1023, denormal); }

Float80 from_integer(i64 value) {
  const Exact exact = normalised(value < 0, 63, value < 0 ? 0 - static_cast<u64>(value) : static_cast<u64>(value), 0);
  return exact.high == 0 ? zero80(false) : make80(exact.sign, static_cast<u32>(exact.exponent + 16383), exact.high);
}

static u64 narrow(const Float80& a, u32 fraction, const Precision& precision, FloatState& state) {
  const u64 sign = u64{is_negative(a)} << (fraction == 23 ? 31 : 63);
  const u64 infinity = static_cast<u64>(2 * precision.highest + 1) << fraction;
  const Class80 c = class_of(a);
  if (c == Class80::Unsupported) {
    state.exceptions |= INVALID_OPERATION;
    return u64{1} << (fraction == 23 ? 31 : 63) | infinity | u64{1} << (fraction - 1);
  }
  if (c == Class80::Zero) return sign;
  if (c == Class80::Infinity) return sign | infinity;
  if (is_nan(c)) {
    if (c == Class80::SignalingNan) state.exceptions |= INVALID_OPERATION;
    return sign | infinity | u64{1} << (fraction - 1) | (a.significand & (kTop - 1)) >> (63 - fraction);
  }
  u8 exceptions = 0;
  const Rounded r = round_number(unpack80(a), precision, state.rounding, state.unmasked, exceptions);
  state.exceptions |= exceptions;
  state.up = r.up;
  if (!(r.significand & kTop)) return sign | r.significand >> (63 - fraction);
  return sign | static_cast<u64>(r.exponent + precision.highest) << fraction | (r.significand & (kTop - 1)) >> (63 - fraction);
}
u32 to_single(const Float80& a, FloatState& state) { return static_cast<u32>(narrow(a, 23, kSingle, state)); }
u64 to_double(const Float80& a, FloatState& state) { return narrow(a, 52, kDouble, state); }

i64 to_integer(const Float80& a, u32 size, Rounding rounding, FloatState& state) {
  const u64 most = u64{1} << (8 * size - 1);
  const Class80 c = class_of(a);
  u64 magnitude = 0;
  bool inexact = false, up = false;
  const bool number = c == Class80::Zero || c == Class80::Normal || c == Class80::Denormal;
  if (!number || !round_integer(unpack80(a), rounding, magnitude, inexact, up) || magnitude > most - !is_negative(a)) {
    state.exceptions |= INVALID_OPERATION;
    return static_cast<i64>(0 - most);
  }
  if (inexact) state.exceptions |= INEXACT_RESULT;
  state.up = up;
  return static_cast<i64>(is_negative(a) ? 0 - magnitude : magnitude);
}

Float80 from_decimal(const u8* bytes) {
  u64 value = 0;
  for (int i = 8; i >= 0; i--) value = value * 100 + (bytes[i] >> 4) * 10u + (bytes[i] & 15);
  const Exact exact = normalised(bytes[9] >> 7, 63, value, 0);
  return value == 0 ? zero80(exact.sign) : make80(exact.sign, static_cast<u32>(exact.exponent + 16383), exact.high);
}

void to_decimal(const Float80& a, FloatState& state, u8* bytes) {
  constexpr u64 limit = 1'000'000'000'000'000'000;
  const Class80 c = class_of(a);
  u64 magnitude = 0;
  bool inexact = false, up = false;
  const bool number = c == Class80::Zero || c == Class80::Normal || c == Class80::Denormal;
  if (!number || !round_integer(unpack80(a), state.rounding, magnitude, inexact, up) || magnitude >= limit) {
    state.exceptions |= INVALID_OPERATION;
    for (u32 i = 0; i < 10; i++) bytes[i] = i < 7 ? 0 : i == 7 ? 0xc0 : 0xff;
    return;
  }
  if (inexact) state.exceptions |= INEXACT_RESULT;
  state.up = up;
  for (u32 i = 0; i < 9; i++, magnitude /= 100) bytes[i] = static_cast<u8>(magnitude / 10 % 10 << 4 | magnitude % 10);
  bytes[9] = is_negative(a) ? 0x80 : 0;
}
