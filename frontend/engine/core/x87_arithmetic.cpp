/// x87: arithmetic with two operands, and with one.
#include "x87.h"

namespace {

using Binary = Float80 (*)(const Float80&, const Float80&, FloatState&);

/// A memory operand: a single, a double, or an integer.
template <bool integer>
bool fetch_operand(Cpu& cpu, const Insn& insn, Float80& value, bool& denormal) {
  const u64 address = effective_address(cpu, insn);
  const u32 size = insn.operands[0].size;
  if (size == 2) {
    i16 whole;
    if (!fetch(address, whole)) return false;
    value = from_integer(whole);
  } else if (size == 4) {
    u32 bits;
    if (!fetch(address, bits)) return false;
    value = integer ? from_integer(static_cast<i32>(bits)) : from_single(bits, denormal);
  } else {
    u64 bits;
    if (!fetch(address, bits)) return false;
    value = from_double(bits, denormal);
  }
  return true;
}

/// The first operand is the destination; `reversed`: the second comes first in the operation.
template <Binary operation, bool reversed, bool pops = false, bool integer = false>
bool binary(Cpu& cpu, const Insn& insn) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  const bool memory = is_memory(insn.operands[0]);
  const u32 into = memory ? 0 : insn.operands[0].reg, from = memory ? 0 : insn.operands[1].reg;
  Float80 b;
  bool denormal = false;
  if (memory && !fetch_operand<integer>(cpu, insn, b, denormal)) return false;
  if (fpu.empty(into) || fpu.empty(from)) {
    if (!fpu.stack_fault(false)) return true;
    fpu.set(into, default_nan80());
  } else {
    if (!memory) b = fpu.st(from);
    const Float80 a = fpu.st(into);
    FloatState state(cpu.fpu_control);
    const Float80 result = reversed ? operation(b, a, state) : operation(a, b, state);
    const bool nan = is_nan(class_of(result)) || class_of(a) == Class80::Unsupported;
    if (denormal && !nan && !(state.exceptions & DIVIDE_BY_ZERO)) state.exceptions |= DENORMAL_OPERAND;
    if (!fpu.note(state)) return true;
    fpu.set(into, result);
  }
  if (pops) fpu.pop();
  return true;
}

template <Float80 (*operation)(const Float80&, FloatState&)>
bool unary(Cpu& cpu, const Insn&) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  if (fpu.empty(0)) {
    if (fpu.stack_fault(false)) fpu.set(0, default_nan80());
    return true;
  }
  FloatState state(cpu.fpu_control);
  const Float80 result = operation(fpu.st(0), state);
  if (fpu.note(state)) fpu.set(0, result);
  return true;
}

Float80 negate(const Float80& a, FloatState&) { return {a.significand, static_cast<u16>(a.sign_exponent ^ 0x8000)}; }
Float80 magnitude(const Float80& a, FloatState&) { return {a.significand, static_cast<u16>(a.sign_exponent & 0x7fff)}; }

bool scale(Cpu& cpu, const Insn&) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  if (fpu.empty(0) || fpu.empty(1)) {
    if (fpu.stack_fault(false)) fpu.set(0, default_nan80());
    return true;
  }
  FloatState state(cpu.fpu_control);
  const Float80 result = scale80(fpu.st(0), fpu.st(1), state);
  if (fpu.note(state)) fpu.set(0, result);
  return true;
}

template <bool nearest>
bool remainder(Cpu& cpu, const Insn&) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  if (fpu.empty(0) || fpu.empty(1)) {
    if (fpu.stack_fault(false)) fpu.set(0, default_nan80());
    fpu.set_codes(C2, 0);
    return true;
  }
  FloatState state(cpu.fpu_control);
  u64 quotient;
  bool partial;
  const Float80 result = remainder80(fpu.st(0), fpu.st(1), nearest, state, quotient, partial);
  const bool goes_on = fpu.note(state);
  fpu.set_codes(C2, 0);
  if (!goes_on) return true;
  fpu.set(0, result);
  if (is_nan(class_of(result))) return true;
  u16 codes = partial ? C2 : 0;
  if (!partial) {
    if (quotient & 1) codes |= C1;
    if (quotient & 2) codes |= C3;
    if (quotient & 4) codes |= C0;
  }
  fpu.set_codes(C0 | C1 | C2 | C3, codes);
  return true;
}

bool extract(Cpu& cpu, const Insn&) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  if (fpu.empty(0) || fpu.full()) {
    if (!fpu.stack_fault(!fpu.empty(0))) return true;
    fpu.set(0, default_nan80());
    fpu.push(default_nan80());
    return true;
  }
  FloatState state(cpu.fpu_control);
  Float80 significand;
  const Float80 exponent = extract80(fpu.st(0), state, significand);
  if (!fpu.note(state)) return true;
  fpu.set(0, exponent);
  fpu.push(significand);
  return true;
}

}  // namespace

Handler x87_arithmetic_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Fadd: return binary<add80, false>;
    case Mnemonic::Faddp: return binary<add80, false, true>;
    case Mnemonic::Fiadd: return binary<add80, false, false, true>;
    case Mnemonic::Fsub: return binary<subtract80, false>;
    case Mnemonic::Fsubp: return binary<subtract80, false, true>;
    case Mnemonic::Fisub: return binary<subtract80, false, false, true>;
    case Mnemonic::Fsubr: return binary<subtract80, true>;
    case Mnemonic::Fsubrp: return binary<subtract80, true, true>;
    case Mnemonic::Fisubr: return binary<subtract80, true, false, true>;
    case Mnemonic::Fmul: return binary<multiply80, false>;
    case Mnemonic::Fmulp: return binary<multiply80, false, true>;
    case Mnemonic::Fimul: return binary<multiply80, false, false, true>;
    case Mnemonic::Fdiv: return binary<divide80, false>;
    case Mnemonic::Fdivp: return binary<divide80, false, true>;
    case Mnemonic::Fidiv: return binary<divide80, false, false, true>;
    case Mnemonic::Fdivr: return binary<divide80, true>;
    case Mnemonic::Fdivrp: return binary<divide80, true, true>;
    case Mnemonic::Fidivr: return binary<divide80, true, false, true>;
    case Mnemonic::Fsqrt: return unary<square_root80>;
    case Mnemonic::Frndint: return unary<round_to_whole80>;
    case Mnemonic::Fchs: return unary<negate>;
    case Mnemonic::Fabs: return unary<magnitude>;
    case Mnemonic::Fscale: return scale;
    case Mnemonic::Fprem: return remainder<false>;
    case Mnemonic::Fprem1: return remainder<true>;
    case Mnemonic::Fxtract: return extract;
    default: return nullptr;
  }
}
