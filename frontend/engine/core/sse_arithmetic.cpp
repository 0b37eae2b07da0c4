/// What the processor that runs us cannot do for SSE's arithmetic: exceptions, NaNs, denormals, rounding other than to nearest.
#include "sse_float.h"

namespace {

template <class B>
B sum(B a, B b, SseState& state) {
  if (is_infinite(a)) return is_infinite(b) && a != b ? state.invalid<B>() : a;
  if (is_infinite(b)) return b;
  Exact exact = add(unpack(a), unpack(b));
  if (exact.high == 0) exact.sign = is_zero(a) && is_zero(b) && !((a ^ b) & kSign<B>) ? (a & kSign<B>) != 0 : state.rounding() == kDown;
  return state.round<B>(exact);
}

template <class B>
B product(B a, B b, SseState& state) {
  const B sign = (a ^ b) & kSign<B>;
  if (is_infinite(a) || is_infinite(b)) return is_zero(a) || is_zero(b) ? state.invalid<B>() : sign | kInfinity<B>;
  if (is_zero(a) || is_zero(b)) return sign;
  return state.round<B>(multiply(unpack(a), unpack(b)));
}

template <class B>
B quotient(B a, B b, SseState& state) {
  const B sign = (a ^ b) & kSign<B>;
  if (is_infinite(a)) return is_infinite(b) ? state.invalid<B>() : sign | kInfinity<B>;
  if (is_infinite(b)) return sign;
  if (is_zero(b)) {
    if (is_zero(a)) return state.invalid<B>();
    state.before = static_cast<u8>((state.before & ~DENORMAL_OPERAND) | DIVIDE_BY_ZERO);
    return sign | kInfinity<B>;
  }
  if (is_zero(a)) return sign;
  return state.round<B>(divide(unpack(a), unpack(b)));
}

}  // namespace

template <Arithmetic operation, class B>
B slow_arithmetic(B a, B b, SseState& state) {
  if (is_nan(a) || is_nan(b)) return state.propagate(a, b);
  // the exceptions of other lanes stay
  const u8 others = state.before;
  state.before = 0;
  a = state.operand(a);
  b = state.operand(b);
  B result;
  if constexpr (operation == Arithmetic::Add) result = sum(a, b, state);
  if constexpr (operation == Arithmetic::Subtract) result = sum(a, static_cast<B>(b ^ kSign<B>), state);
  if constexpr (operation == Arithmetic::Multiply) result = product(a, b, state);
  if constexpr (operation == Arithmetic::Divide) result = quotient(a, b, state);
  state.before |= others;
  return result;
}

template u32 slow_arithmetic<Arithmetic::Add, u32>(u32, u32, SseState&);
template u64 slow_arithmetic<Arithmetic::Add, u64>(u64, u64, SseState&);
template u32 slow_arithmetic<Arithmetic::Subtract, u32>(u32, u32, SseState&);
template u64 slow_arithmetic<Arithmetic::Subtract, u64>(u64, u64, SseState&);
template u32 slow_arithmetic<Arithmetic::Multiply, u32>(u32, u32, SseState&);
template u64 slow_arithmetic<Arithmetic::Multiply, u64>(u64, u64, SseState&);
template u32 slow_arithmetic<Arithmetic::Divide, u32>(u32, u32, SseState&);
template u64 slow_arithmetic<Arithmetic::Divide, u64>(u64, u64, SseState&);
