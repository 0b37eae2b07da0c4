/// Conversions between singles, doubles and integers (XMM, MMX and general registers), and rounding to whole numbers.
#include "sse_float.h"

namespace {

/// To an integer; what does not fit, and NaN, gives the smallest one.
template <class I, class B>
I to_integer(B a, Rounding rounding, SseState& state) {
  constexpr I indefinite = static_cast<I>(I{1} << (8 * sizeof(I) - 1));
  if (is_nan(a) || is_infinite(a)) return state.invalid<B>(), indefinite;
  if (is_denormal(a) && state.mxcsr & kMxcsrDaz) return 0;
  u64 magnitude;
  bool inexact, up;
  const bool negative = (a & kSign<B>) != 0;
  constexpr u64 most = static_cast<u64>(indefinite) & (~u64{0} >> (64 - 8 * sizeof(I)));
  if (!round_integer(unpack(a), rounding, magnitude, inexact, up) || magnitude > most - !negative) return state.invalid<B>(), indefinite;
  if (inexact) state.after |= INEXACT_RESULT;
  return static_cast<I>(negative ? 0 - magnitude : magnitude);
}

template <class I, class B, bool truncate>
ALWAYS_INLINE I convert_to(B a, SseState& state) {
  if (truncate) {
    // 2^31 or 2^63 is the first that does not fit
    const auto x = as_float(a);
    constexpr auto limit = static_cast<typename Ieee<B>::Float>(u64{1} << (8 * sizeof(I) - 1));
    if (LIKELY(x > -limit && x < limit) && LIKELY(!is_denormal(a))) {
      const I value = static_cast<I>(x);
      if (static_cast<typename Ieee<B>::Float>(value) != x) state.after |= INEXACT_RESULT;
      return value;
    }
  }
  return to_integer<I, B>(a, truncate ? kToZero : state.rounding(), state);
}

template <class B, class I>
B from_integer(I value, SseState& state) {
  const u64 magnitude = value < 0 ? 0 - static_cast<u64>(value) : static_cast<u64>(value);
  if (magnitude >> (Ieee<B>::fraction + 1) == 0) return as_bits(static_cast<typename Ieee<B>::Float>(value));
  return state.round<B>(normalised(value < 0, 63, magnitude, 0));
}

/// Single to double, double to single.
template <class Into, class From>
Into change_format(From a, SseState& state) {
  constexpr i32 wider = static_cast<i32>(Ieee<Into>::fraction) - static_cast<i32>(Ieee<From>::fraction);
  if (is_nan(a)) {
    if (is_signaling(a)) state.before |= INVALID_OPERATION;
    const u64 fraction = a & ((From{1} << Ieee<From>::fraction) - 1);
    const u64 kept = wider > 0 ? fraction << (wider & 63) : fraction >> (-wider & 63);
    return (a & kSign<From> ? kSign<Into> : 0) | kInfinity<Into> | kQuiet<Into> | static_cast<Into>(kept);
  }
  a = state.operand(a);
  const Into sign = a & kSign<From> ? kSign<Into> : 0;
  if (is_infinite(a)) return sign | kInfinity<Into>;
  if (is_zero(a)) return sign;
  if (wider > 0 && !is_denormal(a)) return static_cast<Into>(as_bits(static_cast<typename Ieee<Into>::Float>(as_float(a))));
  if (wider < 0 && state.plain() && state.inexact_known()) {
    const Into result = static_cast<Into>(as_bits(static_cast<typename Ieee<Into>::Float>(as_float(a))));
    if (is_ordinary(result)) return result;
  }
  return state.round<Into>(unpack(a));
}

/// cvtsi2ss and cvtsi2sd.
template <class B, class I>
bool integer_to_scalar(Cpu& cpu, const Insn& insn) {
  I value = static_cast<I>(cpu.gpr[insn.operands[1].reg & 15]);
  if (is_memory(insn.operands[1]) && !fetch(effective_address(cpu, insn), value)) return false;
  SseState state(cpu);
  const B result = from_integer<B>(value, state);
  if (!state.finish(cpu)) return false;
  set_lane<B>(cpu.xmm[insn.operands[0].reg], 0, result);
  return true;
}

template <class I, class B, bool truncate>
bool scalar_to_integer(Cpu& cpu, const Insn& insn) {
  B a;
  if (!scalar_source(cpu, insn, a)) return false;
  SseState state(cpu);
  const I value = convert_to<I, B, truncate>(a, state);
  if (!state.finish(cpu)) return false;
  cpu.gpr[insn.operands[0].reg] = sizeof(I) == 4 ? static_cast<u32>(value) : static_cast<u64>(value);
  return true;
}
template <class B, bool truncate>
Handler scalar_to_gpr(const Insn& insn) {
  return insn.operands[0].size == 8 ? scalar_to_integer<i64, B, truncate> : scalar_to_integer<i32, B, truncate>;
}
template <class B>
Handler gpr_to_scalar(const Insn& insn) {
  return insn.operands[1].size == 8 ? integer_to_scalar<B, i64> : integer_to_scalar<B, i32>;
}

template <class Into, class From>
bool change_scalar(Cpu& cpu, const Insn& insn) {
  From a;
  if (!scalar_source(cpu, insn, a)) return false;
  SseState state(cpu);
  const Into result = change_format<Into>(a, state);
  if (!state.finish(cpu)) return false;
  set_lane<Into>(cpu.xmm[insn.operands[0].reg], 0, result);
  return true;
}

/// Packed conversions: what a lane becomes.
struct SinglesToDoubles {
  static u64 lane(u32 a, SseState& state) { return change_format<u64>(a, state); }
};
struct DoublesToSingles {
  static u32 lane(u64 a, SseState& state) { return change_format<u32>(a, state); }
};
template <class B>
struct FromIntegers {
  static B lane(u32 a, SseState& state) { return from_integer<B>(static_cast<i32>(a), state); }
};
template <class B, bool truncate>
struct ToIntegers {
  static u32 lane(B a, SseState& state) { return static_cast<u32>(convert_to<i32, B, truncate>(a, state)); }
};

/// As many lanes as fit in both; the rest of the result is 0.
template <class Operation, class Into, class From>
ALWAYS_INLINE Xmm convert_lanes(const Xmm& a, SseState& state) {
  constexpr u32 most = sizeof(Into) > sizeof(From) ? sizeof(Into) : sizeof(From);
  Xmm result;
  result.q[0] = result.q[1] = 0;
  for (u32 i = 0; i < 16 / most; i++) set_lane<Into>(result, i, Operation::lane(lane<From>(a, i), state));
  return result;
}

template <class Operation, class Into, class From>
bool convert_vector(Cpu& cpu, const Insn& insn) {
  Xmm a;
  if (sizeof(Into) > sizeof(From)) {
    a.q[1] = 0;
    if (!scalar_source(cpu, insn, a.q[0])) return false;
  } else if (!packed_source(cpu, insn, a)) {
    return false;
  }
  SseState state(cpu);
  const Xmm result = convert_lanes<Operation, Into, From>(a, state);
  if (!state.finish(cpu)) return false;
  cpu.xmm[insn.operands[0].reg] = result;
  return true;
}

/// cvtpi2ps, cvtpi2pd: two integers of an MMX register. The single form keeps the upper half.
template <class B>
bool from_mmx(Cpu& cpu, const Insn& insn) {
  const bool memory = is_memory(insn.operands[1]);
  Xmm a;
  a.q[0] = memory ? 0 : cpu.st[insn.operands[1].reg].significand;
  if (!memory && !no_pending_fpu_error(cpu)) return false;
  if (memory && !fetch(effective_address(cpu, insn), a.q[0])) return false;
  SseState state(cpu);
  Xmm result = cpu.xmm[insn.operands[0].reg];
  for (u32 i = 0; i < 2; i++) set_lane<B>(result, i, FromIntegers<B>::lane(a.d[i], state));
  if (!memory) enter_mmx(cpu);
  if (!state.finish(cpu)) return false;
  cpu.xmm[insn.operands[0].reg] = result;
  return true;
}

template <class B, bool truncate>
bool to_mmx(Cpu& cpu, const Insn& insn) {
  Xmm a;
  if (!no_pending_fpu_error(cpu)) return false;
  if (sizeof(B) == 8 ? !packed_source(cpu, insn, a) : !scalar_source(cpu, insn, a.q[0])) return false;
  SseState state(cpu);
  Xmm result;
  for (u32 i = 0; i < 2; i++) result.d[i] = ToIntegers<B, truncate>::lane(lane<B>(a, i), state);
  enter_mmx(cpu);
  if (!state.finish(cpu)) return false;
  write_mmx(cpu, insn.operands[0].reg, result.q[0]);
  return true;
}

/// To a whole number of the same format. Immediate: rounding in bits 0 and 1, 4: MXCSR's instead, 8: inexact is not noted.
template <class B>
B to_whole(B a, u32 control, SseState& state) {
  if (is_nan(a)) return state.propagate(a, a);
  if (is_denormal(a) && state.mxcsr & kMxcsrDaz) a &= kSign<B>;
  const i32 exponent = static_cast<i32>((a & ~kSign<B>) >> Ieee<B>::fraction) - Ieee<B>::bias;
  if (is_zero(a) || exponent >= static_cast<i32>(Ieee<B>::fraction)) return a;
  const Rounding rounding = control & 4 ? state.rounding() : static_cast<Rounding>(control & 3);
  u64 magnitude;
  bool inexact, up;
  round_integer(unpack(a), rounding, magnitude, inexact, up);
  if (inexact && !(control & 8)) state.after |= INEXACT_RESULT;
  // at most 2^fraction: exact
  return (a & kSign<B>) | as_bits(static_cast<typename Ieee<B>::Float>(static_cast<i64>(magnitude)));
}

template <class B, bool packed>
bool round_lanes(Cpu& cpu, const Insn& insn) {
  Xmm a;
  if constexpr (packed) {
    if (!packed_source(cpu, insn, a)) return false;
  } else {
    B value;
    if (!scalar_source(cpu, insn, value)) return false;
    set_lane<B>(a, 0, value);
  }
  SseState state(cpu);
  Xmm result = cpu.xmm[insn.operands[0].reg];
  for (u32 i = 0; i < (packed ? 16 / sizeof(B) : 1); i++) set_lane<B>(result, i, to_whole(lane<B>(a, i), static_cast<u32>(insn.immediate), state));
  if (!state.finish(cpu)) return false;
  cpu.xmm[insn.operands[0].reg] = result;
  return true;
}

}  // namespace

Handler convert_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Cvtsi2ss: return gpr_to_scalar<u32>(insn);
    case Mnemonic::Cvtsi2sd: return gpr_to_scalar<u64>(insn);
    case Mnemonic::Cvtss2si: return scalar_to_gpr<u32, false>(insn);
    case Mnemonic::Cvtsd2si: return scalar_to_gpr<u64, false>(insn);
    case Mnemonic::Cvttss2si: return scalar_to_gpr<u32, true>(insn);
    case Mnemonic::Cvttsd2si: return scalar_to_gpr<u64, true>(insn);
    case Mnemonic::Cvtss2sd: return change_scalar<u64, u32>;
    case Mnemonic::Cvtsd2ss: return change_scalar<u32, u64>;
    case Mnemonic::Cvtps2pd: return convert_vector<SinglesToDoubles, u64, u32>;
    case Mnemonic::Cvtpd2ps: return convert_vector<DoublesToSingles, u32, u64>;
    case Mnemonic::Cvtdq2ps: return convert_vector<FromIntegers<u32>, u32, u32>;
    case Mnemonic::Cvtdq2pd: return convert_vector<FromIntegers<u64>, u64, u32>;
    case Mnemonic::Cvtps2dq: return convert_vector<ToIntegers<u32, false>, u32, u32>;
    case Mnemonic::Cvttps2dq: return convert_vector<ToIntegers<u32, true>, u32, u32>;
    case Mnemonic::Cvtpd2dq: return convert_vector<ToIntegers<u64, false>, u32, u64>;
    case Mnemonic::Cvttpd2dq: return convert_vector<ToIntegers<u64, true>, u32, u64>;
    case Mnemonic::Cvtpi2ps: return from_mmx<u32>;
    case Mnemonic::Cvtpi2pd: return from_mmx<u64>;
    case Mnemonic::Cvtps2pi: return to_mmx<u32, false>;
    case Mnemonic::Cvtpd2pi: return to_mmx<u64, false>;
    case Mnemonic::Cvttps2pi: return to_mmx<u32, true>;
    case Mnemonic::Cvttpd2pi: return to_mmx<u64, true>;
    case Mnemonic::Roundss: return round_lanes<u32, false>;
    case Mnemonic::Roundsd: return round_lanes<u64, false>;
    case Mnemonic::Roundps: return round_lanes<u32, true>;
    case Mnemonic::Roundpd: return round_lanes<u64, true>;
    default: return nullptr;
  }
}
