/// SSE floating point arithmetic: one lane or all, horizontal forms, dot products.
#include "sse_float.h"

namespace {

template <Arithmetic operation>
struct Basic {
  template <class B>
  static ALWAYS_INLINE B apply(B a, B b, SseState& state) {
    return calculate<operation>(a, b, state);
  }
};

struct Root {
  template <class B>
  static NOINLINE B slow(B a, SseState& state) {
    if (is_nan(a)) return state.propagate(a, a);
    if (is_zero(a)) return a;
    if (a & kSign<B>) return is_denormal(a) && state.mxcsr & kMxcsrDaz ? kSign<B> : state.invalid<B>();
    if (is_infinite(a)) return a;
    a = state.operand(a);
    return is_zero(a) ? a : state.round<B>(square_root(unpack(a)));
  }
  template <class B>
  static ALWAYS_INLINE B apply(B, B a, SseState& state) {
    if (LIKELY(state.plain()) && LIKELY(is_ordinary(a)) && !(a & kSign<B>)) {
      const auto r = native_root(as_float(a));
      if (state.inexact_known() || (exact_product(as_bits(r), as_bits(r)) && r * r == as_float(a))) return as_bits(r);
    }
    return slow(a, state);
  }
};

/// The second operand when one is NaN or both are 0.
template <bool greater>
struct Extreme {
  template <class B>
  static ALWAYS_INLINE B apply(B a, B b, SseState& state) {
    if (is_nan(a) || is_nan(b)) {
      state.before |= INVALID_OPERATION;
      return is_denormal(b) && state.mxcsr & kMxcsrDaz ? b & kSign<B> : b;
    }
    a = state.operand(a);
    b = state.operand(b);
    const auto x = as_float(a), y = as_float(b);
    return (greater ? x > y : x < y) ? a : b;
  }
};

/// Approximations. Processors differ in the last bits; these are exact ones, rounded (as QEMU's). No exceptions; denormals count as 0.
template <bool root>
struct Reciprocal {
  static ALWAYS_INLINE u32 apply(u32, u32 a, SseState&) {
    if (is_nan(a)) return a | kQuiet<u32>;
    if (is_zero(a) || is_denormal(a)) return (a & kSign<u32>) | kInfinity<u32>;
    if (root && a & kSign<u32>) return kDefaultNan<u32>;
    if (is_infinite(a)) return a & kSign<u32>;
    const double value = static_cast<double>(as_float(a));
    const u32 result = as_bits(static_cast<float>(1 / (root ? native_root(value) : value)));
    return is_denormal(result) ? result & kSign<u32> : result;
  }
};

template <class Operation, class B>
bool scalar(Cpu& cpu, const Insn& insn) {
  B b;
  if (!scalar_source(cpu, insn, b)) return false;
  SseState state(cpu);
  Xmm& into = cpu.xmm[insn.operands[0].reg];
  const B result = Operation::apply(lane<B>(into, 0), b, state);
  if (!state.finish(cpu)) return false;
  set_lane<B>(into, 0, result);
  return true;
}

template <class Operation, class B>
bool vector(Cpu& cpu, const Insn& insn) {
  Xmm b;
  if (!packed_source(cpu, insn, b)) return false;
  SseState state(cpu);
  Xmm& into = cpu.xmm[insn.operands[0].reg];
  Xmm result;
  for (u32 i = 0; i < 16 / sizeof(B); i++) set_lane<B>(result, i, Operation::apply(lane<B>(into, i), lane<B>(b, i), state));
  if (!state.finish(cpu)) return false;
  into = result;
  return true;
}

/// Pairs of neighbours, first of the first operand.
template <Arithmetic operation, class B>
bool horizontal(Cpu& cpu, const Insn& insn) {
  Xmm b;
  if (!packed_source(cpu, insn, b)) return false;
  SseState state(cpu);
  Xmm& into = cpu.xmm[insn.operands[0].reg];
  constexpr u32 half = 8 / sizeof(B);
  Xmm result;
  for (u32 i = 0; i < half; i++) {
    set_lane<B>(result, i, calculate<operation>(lane<B>(into, 2 * i), lane<B>(into, 2 * i + 1), state));
    set_lane<B>(result, half + i, calculate<operation>(lane<B>(b, 2 * i), lane<B>(b, 2 * i + 1), state));
  }
  if (!state.finish(cpu)) return false;
  into = result;
  return true;
}

/// Even lanes are subtracted, odd ones added.
template <class B>
bool alternate(Cpu& cpu, const Insn& insn) {
  Xmm b;
  if (!packed_source(cpu, insn, b)) return false;
  SseState state(cpu);
  Xmm& into = cpu.xmm[insn.operands[0].reg];
  Xmm result;
  for (u32 i = 0; i < 16 / sizeof(B); i++) {
    const B x = lane<B>(into, i), y = lane<B>(b, i);
    set_lane<B>(result, i, i & 1 ? calculate<Arithmetic::Add>(x, y, state) : calculate<Arithmetic::Subtract>(x, y, state));
  }
  if (!state.finish(cpu)) return false;
  into = result;
  return true;
}

/// Products of the lanes in the immediate's high half, summed in pairs, to the lanes in its low half.
template <class B>
bool dot_product(Cpu& cpu, const Insn& insn) {
  Xmm b;
  if (!packed_source(cpu, insn, b)) return false;
  SseState state(cpu);
  Xmm& into = cpu.xmm[insn.operands[0].reg];
  constexpr u32 count = 16 / sizeof(B);
  B sums[count];
  for (u32 i = 0; i < count; i++)
    sums[i] = insn.immediate >> (4 + i) & 1 ? calculate<Arithmetic::Multiply>(lane<B>(into, i), lane<B>(b, i), state) : 0;
  if (!state.finish(cpu)) return false;
  // each step has its own exceptions
  for (u32 step = 1; step < count; step *= 2) {
    SseState next(cpu);
    for (u32 i = 0; i < count; i += 2 * step) sums[i] = calculate<Arithmetic::Add>(sums[i], sums[i + step], next);
    if (!next.finish(cpu)) return false;
  }
  for (u32 i = 0; i < count; i++) set_lane<B>(into, i, insn.immediate >> i & 1 ? sums[0] : 0);
  return true;
}

}  // namespace

Handler float_handler(const Insn& insn) {
  switch (insn.mnemonic) {
#define ALL(name, ...)                                          \
  case Mnemonic::name##ss: return scalar<__VA_ARGS__, u32>;     \
  case Mnemonic::name##sd: return scalar<__VA_ARGS__, u64>;     \
  case Mnemonic::name##ps: return vector<__VA_ARGS__, u32>;     \
  case Mnemonic::name##pd: return vector<__VA_ARGS__, u64>;
    ALL(Add, Basic<Arithmetic::Add>)
    ALL(Sub, Basic<Arithmetic::Subtract>)
    ALL(Mul, Basic<Arithmetic::Multiply>)
    ALL(Div, Basic<Arithmetic::Divide>)
    ALL(Sqrt, Root)
    ALL(Min, Extreme<false>)
    ALL(Max, Extreme<true>)
#undef ALL
    case Mnemonic::Rcpss: return scalar<Reciprocal<false>, u32>;
    case Mnemonic::Rcpps: return vector<Reciprocal<false>, u32>;
    case Mnemonic::Rsqrtss: return scalar<Reciprocal<true>, u32>;
    case Mnemonic::Rsqrtps: return vector<Reciprocal<true>, u32>;
    case Mnemonic::Haddps: return horizontal<Arithmetic::Add, u32>;
    case Mnemonic::Haddpd: return horizontal<Arithmetic::Add, u64>;
    case Mnemonic::Hsubps: return horizontal<Arithmetic::Subtract, u32>;
    case Mnemonic::Hsubpd: return horizontal<Arithmetic::Subtract, u64>;
    case Mnemonic::Addsubps: return alternate<u32>;
    case Mnemonic::Addsubpd: return alternate<u64>;
    case Mnemonic::Dpps: return dot_product<u32>;
    case Mnemonic::Dppd: return dot_product<u64>;
    default: return nullptr;
  }
}
