/// Singles and doubles under MXCSR: classes of numbers, exceptions, rounding.
#pragma once
#include "float.h"
#include "simd.h"

constexpr u32 kMxcsrDaz = 0x40, kMxcsrMasks = 0x1f80, kMxcsrRounding = 0x6000, kMxcsrFlush = 0x8000;

/// A format by its bits: u32 or u64.
template <class B>
struct Ieee;
template <>
struct Ieee<u32> {
  using Float = float;
  using Signed = i32;
  static constexpr u32 fraction = 23;
  static constexpr i32 bias = 127;
  static constexpr Precision precision = kSingle;
};
template <>
struct Ieee<u64> {
  using Float = double;
  using Signed = i64;
  static constexpr u32 fraction = 52;
  static constexpr i32 bias = 1023;
  static constexpr Precision precision = kDouble;
};

template <class B> constexpr B kSign = B{1} << (8 * sizeof(B) - 1);
template <class B> constexpr B kQuiet = B{1} << (Ieee<B>::fraction - 1);
template <class B> constexpr B kInfinity = B{2 * Ieee<B>::bias + 1} << Ieee<B>::fraction;
template <class B> constexpr B kDefaultNan = kSign<B> | kInfinity<B> | kQuiet<B>;

template <class B> ALWAYS_INLINE typename Ieee<B>::Float as_float(B bits) { return __builtin_bit_cast(typename Ieee<B>::Float, bits); }
ALWAYS_INLINE u32 as_bits(float value) { return __builtin_bit_cast(u32, value); }
ALWAYS_INLINE u64 as_bits(double value) { return __builtin_bit_cast(u64, value); }

template <class B> ALWAYS_INLINE bool is_nan(B a) { return static_cast<B>(a << 1) > static_cast<B>(kInfinity<B> << 1); }
template <class B> ALWAYS_INLINE bool is_signaling(B a) { return is_nan(a) && !(a & kQuiet<B>); }
template <class B> ALWAYS_INLINE bool is_infinite(B a) { return static_cast<B>(a << 1) == static_cast<B>(kInfinity<B> << 1); }
template <class B> ALWAYS_INLINE bool is_zero(B a) { return static_cast<B>(a << 1) == 0; }
template <class B> ALWAYS_INLINE bool is_denormal(B a) {
  return static_cast<B>((a & ~kSign<B>) - 1) < (B{1} << Ieee<B>::fraction) - 1;
}
/// Finite, and so big that nothing has underflowed.
template <class B> ALWAYS_INLINE bool is_ordinary(B a) {
  return static_cast<B>((a & ~kSign<B>) - (B{2} << Ieee<B>::fraction)) < kInfinity<B> - (B{2} << Ieee<B>::fraction);
}

template <class B>
Exact unpack(B a) {
  constexpr u32 shift = 63 - Ieee<B>::fraction;
  const bool sign = (a & kSign<B>) != 0;
  const u64 fraction = a & ((B{1} << Ieee<B>::fraction) - 1);
  const i32 field = static_cast<i32>((a & ~kSign<B>) >> Ieee<B>::fraction);
  if (field == 0) return normalised(sign, 1 - Ieee<B>::bias, fraction << shift, 0);
  return {sign, field - Ieee<B>::bias, u64{1} << 63 | fraction << shift, 0};
}

/// The exceptions of one instruction, by MXCSR.
struct SseState {
  u32 mxcsr;
  u8 before = 0;  // found in the operands
  u8 after = 0;   // found in results

  explicit SseState(const Cpu& cpu) : mxcsr(cpu.mxcsr) {}

  Rounding rounding() const { return static_cast<Rounding>(mxcsr >> 13 & 3); }
  u8 unmasked() const { return static_cast<u8>(~mxcsr >> 7 & 0x3f); }
  /// To nearest with nothing unmasked: the processor's own arithmetic serves.
  bool plain() const { return (mxcsr & (kMxcsrRounding | kMxcsrMasks)) == kMxcsrMasks; }
  /// ... and an inexact result need not be noted.
  bool inexact_known() const { return mxcsr & INEXACT_RESULT; }

  /// An operand that is not NaN: denormals are noted, or taken for 0.
  template <class B>
  B operand(B a) {
    if (!is_denormal(a)) return a;
    if (mxcsr & kMxcsrDaz) return a & kSign<B>;
    before |= DENORMAL_OPERAND;
    return a;
  }
  template <class B>
  B invalid() {
    before |= INVALID_OPERATION;
    return kDefaultNan<B>;
  }
  /// One of them is NaN.
  template <class B>
  B propagate(B a, B b) {
    if (is_signaling(a) || is_signaling(b)) before |= INVALID_OPERATION;
    return (is_nan(a) ? a : b) | kQuiet<B>;
  }
  template <class B>
  B round(const Exact& exact) {
    const B sign = exact.sign ? kSign<B> : 0;
    if (exact.high == 0) return sign;
    u8 exceptions = 0;
    const Rounded r = round_number(exact, Ieee<B>::precision, rounding(), unmasked(), exceptions);
    const bool tiny = !(r.significand >> 63) || exceptions & UNDERFLOW_RESULT;
    if (tiny && mxcsr & kMxcsrFlush && !(unmasked() & UNDERFLOW_RESULT)) {
      after |= UNDERFLOW_RESULT | INEXACT_RESULT;
      return sign;
    }
    after |= exceptions;
    const B fraction = static_cast<B>(r.significand << 1 >> (64 - Ieee<B>::fraction));
    if (!(r.significand >> 63)) return sign | static_cast<B>(r.significand >> (63 - Ieee<B>::fraction));
    return sign | static_cast<B>(static_cast<B>(r.exponent + Ieee<B>::bias) << Ieee<B>::fraction) | fraction;
  }

  /// Notes the exceptions; false: one is not masked.
  ALWAYS_INLINE bool finish(Cpu& cpu) {
    if (LIKELY((before | after) == 0)) return true;
    return note(cpu);
  }
  bool note(Cpu& cpu) {
    if (before & unmasked()) after = 0;
    cpu.mxcsr |= before | after;
    return !((before | after) & unmasked()) || raise(cpu, EXIT_SIMD_ERROR);
  }
};

template <class B> ALWAYS_INLINE B lane(const Xmm& a, u32 i) { return peek<B>(a.b + i * sizeof(B)); }
template <class B> ALWAYS_INLINE void set_lane(Xmm& a, u32 i, B value) { poke<B>(a.b + i * sizeof(B), value); }

/// Arithmetic of one lane; defined for u32 and u64 in sse_arithmetic.cpp.
enum class Arithmetic : u8 { Add, Subtract, Multiply, Divide };
template <Arithmetic operation, class B> B slow_arithmetic(B a, B b, SseState&);

/// Whether a * b, which is ordinary, is exact: enough trailing zeros. May say no for an exact one.
template <class B>
ALWAYS_INLINE bool exact_product(B a, B b) {
  if constexpr (sizeof(B) == 4) {
    const double product = static_cast<double>(as_float(a)) * static_cast<double>(as_float(b));
    return static_cast<double>(static_cast<float>(product)) == product;
  } else {
    const u64 hidden = u64{1} << 52;
    return __builtin_ctzll(a | hidden) + __builtin_ctzll(b | hidden) >= 53;
  }
}

template <class F>
ALWAYS_INLINE F native_root(F value) {
#ifdef __clang__
  return __builtin_elementwise_sqrt(value);
#else
  return sizeof(F) == 4 ? static_cast<F>(__builtin_sqrtf(static_cast<float>(value))) : static_cast<F>(__builtin_sqrt(static_cast<double>(value)));
#endif
}

template <Arithmetic operation, class B>
ALWAYS_INLINE B calculate(B a, B b, SseState& state) {
  if (LIKELY(state.plain()) && LIKELY(!is_denormal(a)) && LIKELY(!is_denormal(b))) {
    const auto x = as_float(a), y = as_float(b);
    typename Ieee<B>::Float r;
    if constexpr (operation == Arithmetic::Add) r = x + y;
    if constexpr (operation == Arithmetic::Subtract) r = x - y;
    if constexpr (operation == Arithmetic::Multiply) r = x * y;
    if constexpr (operation == Arithmetic::Divide) r = x / y;
    const B bits = as_bits(r);
    constexpr bool sum = operation == Arithmetic::Add || operation == Arithmetic::Subtract;
    if (LIKELY(is_ordinary(bits)) || (sum && is_zero(bits))) {
      if (LIKELY(state.inexact_known())) return bits;
      if constexpr (sum) {
        const auto other = operation == Arithmetic::Add ? y : -y;
        const auto part = r - x;
        if ((x - (r - part)) + (other - part) == 0) return bits;
      } else if constexpr (operation == Arithmetic::Multiply) {
        if (exact_product(a, b)) return bits;
      } else {
        if (exact_product(bits, b) && r * y == x) return bits;
      }
    }
  }
  return slow_arithmetic<operation, B>(a, b, state);
}
