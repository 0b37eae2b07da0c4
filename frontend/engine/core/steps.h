/// The operations of the interpreter's own steps, by operand width.
#pragma once
#include "flags.h"

typedef u8 Bytes16 __attribute__((vector_size(16)));

template <class T>
ALWAYS_INLINE T add(T a, T b) {
  const T result = a + b;
  note_flags<T>(KIND_ADD, result, a);
  return result;
}
template <class T>
ALWAYS_INLINE T sub(T a, T b) {
  const T result = a - b;
  note_flags<T>(KIND_SUB, result, a);
  return result;
}
template <class T>
ALWAYS_INLINE T adc(T a, T b) {
  const bool carry = flag_carry();
  const T result = a + b + carry;
  note_flags<T>(carry ? KIND_ADC : KIND_ADD, result, a);
  return result;
}
template <class T>
ALWAYS_INLINE T sbb(T a, T b) {
  const bool borrow = flag_carry();
  const T result = a - b - borrow;
  note_flags<T>(borrow ? KIND_SBB : KIND_SUB, result, a);
  return result;
}
template <class T>
ALWAYS_INLINE T bit_and(T a, T b) {
  const T result = a & b;
  note_logic<T>(result);
  return result;
}
template <class T>
ALWAYS_INLINE T bit_or(T a, T b) {
  const T result = a | b;
  note_logic<T>(result);
  return result;
}
template <class T>
ALWAYS_INLINE T bit_xor(T a, T b) {
  const T result = a ^ b;
  note_logic<T>(result);
  return result;
}
template <class T>
ALWAYS_INLINE T inc(T a) {
  const T result = a + 1;
  const u32 overflow = result == static_cast<T>(T{1} << (sizeof(T) * 8 - 1)) ? FLAG_O : 0;
  note_partial<T>(result, (flag_carry() ? FLAG_C : 0) | overflow | ((result & 15) == 0 ? FLAG_A : 0));
  return result;
}
template <class T>
ALWAYS_INLINE T dec(T a) {
  const T result = a - 1;
  const u32 overflow = a == static_cast<T>(T{1} << (sizeof(T) * 8 - 1)) ? FLAG_O : 0;
  note_partial<T>(result, (flag_carry() ? FLAG_C : 0) | overflow | ((a & 15) == 0 ? FLAG_A : 0));
  return result;
}

/// Shifts by a count that is masked and not 0, and below the width. A is clear; O is that of a shift by one, whatever the count.
template <class T>
ALWAYS_INLINE T shl(T a, u32 count) {
  constexpr u32 bits = sizeof(T) * 8;
  const T result = static_cast<T>(a << count);
  const u32 carry = static_cast<u32>(a >> (bits - count)) & 1;
  const u32 sign = static_cast<u32>(result >> (bits - 1)) & 1;
  note_partial<T>(result, carry | (carry ^ sign) << 11);
  return result;
}
template <class T>
ALWAYS_INLINE T shr(T a, u32 count) {
  constexpr u32 bits = sizeof(T) * 8;
  const T result = static_cast<T>(a >> count);
  const u32 carry = static_cast<u32>(a >> (count - 1)) & 1;
  const u32 before = static_cast<u32>(result >> (bits - 2)) & 1;  // the sign before the last step
  note_partial<T>(result, carry | before << 11);
  return result;
}
template <class T>
ALWAYS_INLINE T sar(T a, u32 count) {
  const signed_of<T> value = static_cast<signed_of<T>>(a);
  const T result = static_cast<T>(value >> count);
  note_partial<T>(result, static_cast<u32>(value >> (count - 1)) & 1);
  return result;
}
/// Rotations change C and O only.
template <class T>
ALWAYS_INLINE void note_rotation(u32 carry, u32 overflow) {
  const u32 others = arithmetic_flags() & ~(FLAG_C | FLAG_O);
  g.lazy.kind = KIND_EXPLICIT;
  g.lazy.a = others | carry | overflow << 11;
}
template <class T>
ALWAYS_INLINE T turn_left(T a, u32 count) {
  constexpr u32 bits = sizeof(T) * 8;
  return static_cast<T>(a << (count & (bits - 1)) | a >> (-count & (bits - 1)));
}
template <class T>
ALWAYS_INLINE T turn_right(T a, u32 count) {
  return turn_left<T>(a, -count);
}
template <class T>
ALWAYS_INLINE T rol(T a, u32 count) {
  constexpr u32 bits = sizeof(T) * 8;
  const T result = turn_left<T>(a, count);
  const u32 carry = result & 1;
  note_rotation<T>(carry, carry ^ (static_cast<u32>(result >> (bits - 1)) & 1));
  return result;
}
template <class T>
ALWAYS_INLINE T ror(T a, u32 count) {
  constexpr u32 bits = sizeof(T) * 8;
  const T result = turn_right<T>(a, count);
  const u32 top = static_cast<u32>(result >> (bits - 1)) & 1;
  note_rotation<T>(top, top ^ (static_cast<u32>(result >> (bits - 2)) & 1));
  return result;
}

template <class T>
ALWAYS_INLINE T imul(T a, T b) {
  if constexpr (sizeof(T) == 8) {
    i64 result;
    const bool overflow = __builtin_mul_overflow(static_cast<i64>(a), static_cast<i64>(b), &result);
    note_partial<u64>(static_cast<u64>(result), overflow ? FLAG_C | FLAG_O : 0);
    return static_cast<u64>(result);
  } else {
    const i64 wide = static_cast<i64>(static_cast<signed_of<T>>(a)) * static_cast<signed_of<T>>(b);
    const T result = static_cast<T>(wide);
    note_partial<T>(result, wide != static_cast<signed_of<T>>(result) ? FLAG_C | FLAG_O : 0);
    return result;
  }
}
