/// x87: transcendental functions. Within one unit of the last place of 64 bits of what processors give; inexact always.
#include "functions.h"
#include "x87.h"

namespace {

bool is_zero(const Float80& a) { return class_of(a) == Class80::Zero; }
bool is_infinite(const Float80& a) { return class_of(a) == Class80::Infinity; }

Float80 inexact(const Exact& value, FloatState& state) {
  const Float80 result = round80(value, 64, state);
  if (class_of(result) == Class80::Denormal) state.exceptions |= UNDERFLOW_RESULT;
  state.exceptions |= INEXACT_RESULT;
  return result;
}

/// Whether an angle is below 2^63, where the instructions work; C2 says that it is not.
bool in_range(Fpu& fpu) {
  const Class80 c = class_of(fpu.st(0));
  const bool fits = (c != Class80::Normal && c != Class80::Denormal) || (fpu.st(0).sign_exponent & 0x7fff) < 16383 + 63;
  fpu.set_codes(C1 | C2, fits ? 0 : C2);
  return fits;
}

/// Sine (0) or cosine (1).
Float80 circular(const Float80& a, bool cosine_wanted, FloatState& state) {
  if (is_zero(a)) return cosine_wanted ? from_integer(1) : a;
  u32 quarter;
  const Exact angle = reduce_angle(unpack80(a), quarter);
  quarter += cosine_wanted;
  Exact result = quarter & 1 ? cosine(angle) : sine(angle);
  if (quarter & 2) result.sign = !result.sign;
  return inexact(result, state);
}

template <bool cosine_wanted>
bool sine_or_cosine(Cpu& cpu, const Insn&) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  if (fpu.empty(0)) {
    if (fpu.stack_fault(false)) fpu.set(0, default_nan80());
    fpu.set_codes(C2, 0);
    return true;
  }
  if (!in_range(fpu)) return true;
  FloatState state(cpu.fpu_control);
  const Float80 a = fpu.st(0);
  Float80 result;
  if (!special_operand(a, state, result)) result = is_infinite(a) ? state.invalid() : circular(a, cosine_wanted, state);
  if (fpu.note(state)) fpu.set(0, result);
  return true;
}

/// FSINCOS and FPTAN: replace st(0) and push.
template <bool tangent>
bool push_pair(Cpu& cpu, const Insn&) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  if (fpu.empty(0) || fpu.full()) {
    const bool goes_on = fpu.stack_fault(!fpu.empty(0));
    fpu.set_codes(C2, 0);
    if (!goes_on) return true;
    fpu.set(0, default_nan80());
    fpu.push(default_nan80());
    return true;
  }
  if (!in_range(fpu)) return true;
  FloatState state(cpu.fpu_control);
  const Float80 a = fpu.st(0);
  Float80 first, second;
  if (special_operand(a, state, first)) {
    second = first;
  } else if (is_infinite(a)) {
    first = second = state.invalid();
  } else if (!tangent) {
    first = circular(a, false, state);
    const bool up = state.up;
    second = circular(a, true, state);
    state.up = up;
  } else {
    second = from_integer(1);
    first = a;
    if (!is_zero(a)) {
      u32 quarter;
      const Exact angle = reduce_angle(unpack80(a), quarter);
      const Exact s = sine(angle), c = cosine(angle);
      Exact result = quarter & 1 ? quotient(c, s) : quotient(s, c);
      if (quarter & 1) result.sign = !result.sign;
      first = inexact(result, state);
    }
  }
  if (!fpu.note(state)) return true;
  fpu.set(0, first);
  fpu.push(second);
  return true;
}

Float80 power(const Float80& a, FloatState& state) {
  Float80 result;
  if (special_operand(a, state, result)) return result;
  if (is_zero(a)) return a;
  if (is_infinite(a)) return is_negative(a) ? make80(true, 16383, kTop) : a;
  const Exact exact = unpack80(a);
  const bool one = exact.exponent == 0 && exact.high == kTop;
  if (one) return state.exceptions |= INEXACT_RESULT, is_negative(a) ? make80(true, 16382, kTop) : a;
  // beyond 1 the result is not defined; processors leave the operand
  if (exact.exponent >= 0) return state.exceptions |= INEXACT_RESULT, a;
  return inexact(power_of_two_less_one(exact), state);
}

bool f2xm1(Cpu& cpu, const Insn&) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  if (fpu.empty(0)) {
    if (fpu.stack_fault(false)) fpu.set(0, default_nan80());
    return true;
  }
  FloatState state(cpu.fpu_control);
  const Float80 result = power(fpu.st(0), state);
  if (fpu.note(state)) fpu.set(0, result);
  return true;
}

/// y * log2(x)
Float80 scaled_logarithm(const Float80& x, const Float80& y, FloatState& state) {
  Float80 result;
  if (special_operands(x, y, state, result)) return result;
  if (is_negative(x) && !is_zero(x)) return state.exceptions = 0, state.invalid();
  const Exact exact = unpack80(x);
  const bool one = class_of(x) == Class80::Normal && exact.exponent == 0 && exact.high == kTop;
  const bool below = !is_infinite(x) && exact.exponent < 0;
  const bool sign = is_negative(y) != (below || is_zero(x));
  if (is_zero(x) || is_infinite(x)) {
    if (is_zero(y)) return state.invalid();
    if (is_zero(x) && !is_infinite(y)) state.exceptions = DIVIDE_BY_ZERO;
    return infinity80(sign);
  }
  if (is_infinite(y)) return one ? state.invalid() : infinity80(sign);
  if (is_zero(y) || one) return zero80(sign);
  return inexact(product(unpack80(y), logarithm(exact)), state);
}

/// y * log2(1 + x)
Float80 scaled_logarithm_plus_one(const Float80& x, const Float80& y, FloatState& state) {
  Float80 result;
  if (special_operands(x, y, state, result)) return result;
  const bool sign = is_negative(x) != is_negative(y);
  if (is_infinite(x) && is_negative(x)) return state.exceptions = 0, state.invalid();
  if (is_infinite(x)) return is_zero(y) ? state.invalid() : infinity80(sign);
  if (is_infinite(y)) return is_zero(x) ? state.invalid() : infinity80(sign);
  if (is_zero(x) || is_zero(y)) return zero80(sign);
  const Exact exact = unpack80(x);
  if (exact.sign && exact.exponent >= 0) return state.exceptions |= INEXACT_RESULT, x;  // not defined
  return inexact(product(unpack80(y), logarithm_plus_one(exact)), state);
}

/// The angle of (x, y).
Float80 arc_tangent(const Float80& x, const Float80& y, FloatState& state) {
  Float80 result;
  if (special_operands(x, y, state, result)) return result;
  constexpr Exact one{false, 0, kTop, 0}, none{false, 0, 0, 0};
  Exact a = unpack80(y), b = unpack80(x);
  if (is_infinite(y)) a = one, b = is_infinite(x) ? one : none;
  else if (is_infinite(x)) a = none, b = one;
  else if (is_zero(y)) b = one;
  a.sign = is_negative(y);
  b.sign = is_negative(x);
  if (a.high == 0 && !b.sign) return zero80(a.sign);
  return inexact(angle_of(a, b), state);
}

/// st(1) from st(0) and st(1), then pop.
template <Float80 (*operation)(const Float80&, const Float80&, FloatState&)>
bool binary(Cpu& cpu, const Insn&) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  if (fpu.empty(0) || fpu.empty(1)) {
    if (!fpu.stack_fault(false)) return true;
    fpu.set(1, default_nan80());
  } else {
    FloatState state(cpu.fpu_control);
    const Float80 result = operation(fpu.st(0), fpu.st(1), state);
    if (!fpu.note(state)) return true;
    fpu.set(1, result);
  }
  fpu.pop();
  return true;
}

}  // namespace

Handler x87_function_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Fsin: return sine_or_cosine<false>;
    case Mnemonic::Fcos: return sine_or_cosine<true>;
    case Mnemonic::Fsincos: return push_pair<false>;
    case Mnemonic::Fptan: return push_pair<true>;
    case Mnemonic::F2xm1: return f2xm1;
    case Mnemonic::Fyl2x: return binary<scaled_logarithm>;
    case Mnemonic::Fyl2xp1: return binary<scaled_logarithm_plus_one>;
    case Mnemonic::Fpatan: return binary<arc_tangent>;
    default: return nullptr;
  }
}
