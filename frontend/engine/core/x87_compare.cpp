/// x87: comparisons, to condition codes and to flags; FXAM.
#include "x87.h"

namespace {

void set_order(Fpu& fpu, Order order) {
  constexpr u16 codes[] = {C0, C3, 0, C0 | C2 | C3};
  fpu.set_codes(C0 | C2 | C3, codes[static_cast<u32>(order)]);
}

/// st(0) with `b`; `pops` times popped.
bool compare_with(Fpu& fpu, const Float80& b, bool quiet, u32 pops, u8 exceptions = 0) {
  FloatState state(fpu.cpu.fpu_control);
  const Order order = compare80(fpu.st(0), b, quiet, state);
  if (order != Order::Unordered) state.exceptions |= exceptions;
  // the codes are set even when the exception is not masked
  const bool goes_on = fpu.note(state);
  set_order(fpu, order);
  if (!goes_on) return true;
  for (u32 i = 0; i < pops; i++) fpu.pop();
  return true;
}
bool compare_missing(Fpu& fpu, u32 pops) {
  const bool goes_on = fpu.stack_fault(false);
  set_order(fpu, Order::Unordered);
  if (!goes_on) return true;
  for (u32 i = 0; i < pops; i++) fpu.pop();
  return true;
}

/// With st(i), or st(1) where there is no operand.
template <bool quiet, u32 pops>
bool compare_registers(Cpu& cpu, const Insn& insn) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  const u32 other = insn.operand_count ? insn.operands[0].reg : 1;
  if (fpu.empty(0) || fpu.empty(other)) return compare_missing(fpu, pops);
  return compare_with(fpu, fpu.st(other), quiet, pops);
}

template <class T, bool integer, u32 pops>
bool compare_memory(Cpu& cpu, const Insn& insn) {
  Fpu fpu(cpu);
  T value;
  if (!no_pending_fpu_error(cpu) || !fetch(effective_address(cpu, insn), value)) return false;
  if (fpu.empty(0)) return compare_missing(fpu, pops);
  bool denormal = false;
  Float80 b;
  if constexpr (integer) b = from_integer(value);
  else if constexpr (sizeof(T) == 4) b = from_single(value, denormal);
  else b = from_double(value, denormal);
  return compare_with(fpu, b, false, pops, denormal ? DENORMAL_OPERAND : 0);
}

bool test(Cpu& cpu, const Insn&) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  return fpu.empty(0) ? compare_missing(fpu, 0) : compare_with(fpu, zero80(false), false, 0);
}

template <bool quiet, bool pops>
bool compare_to_flags(Cpu& cpu, const Insn& insn) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  const u32 other = insn.operands[1].reg;
  Order order = Order::Unordered;
  bool goes_on;
  if (fpu.empty(0) || fpu.empty(other)) {
    goes_on = fpu.stack_fault(false);
  } else {
    FloatState state(cpu.fpu_control);
    order = compare80(fpu.st(0), fpu.st(other), quiet, state);
    const u16 c1 = cpu.fpu_status & C1;  // stays
    goes_on = fpu.note(state);
    fpu.set_codes(C1, c1);
  }
  constexpr u32 flags[] = {FLAG_C, FLAG_Z, 0, FLAG_Z | FLAG_P | FLAG_C};
  set_flags(cpu, kArithmeticFlags, flags[static_cast<u32>(order)]);
  if (pops && goes_on) fpu.pop();
  return true;
}

bool examine(Cpu& cpu, const Insn&) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  u16 codes = C3 | C0;  // empty
  if (!fpu.empty(0)) {
    switch (class_of(fpu.st(0))) {
      case Class80::Unsupported: codes = 0; break;
      case Class80::QuietNan:
      case Class80::SignalingNan: codes = C0; break;
      case Class80::Normal: codes = C2; break;
      case Class80::Infinity: codes = C2 | C0; break;
      case Class80::Zero: codes = C3; break;
      case Class80::Denormal: codes = C3 | C2; break;
    }
  }
  if (is_negative(fpu.st(0))) codes |= C1;
  fpu.set_codes(C0 | C1 | C2 | C3, codes);
  return true;
}

template <u32 pops>
Handler compare_any(const Insn& insn) {
  if (!is_memory(insn.operands[0])) return compare_registers<false, pops>;
  return insn.operands[0].size == 4 ? compare_memory<u32, false, pops> : compare_memory<u64, false, pops>;
}
template <u32 pops>
Handler compare_integer(const Insn& insn) {
  return insn.operands[0].size == 2 ? compare_memory<i16, true, pops> : compare_memory<i32, true, pops>;
}

}  // namespace

Handler x87_compare_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Fcom: return compare_any<0>(insn);
    case Mnemonic::Fcomp: return compare_any<1>(insn);
    case Mnemonic::Fcompp: return compare_registers<false, 2>;
    case Mnemonic::Fucom: return compare_registers<true, 0>;
    case Mnemonic::Fucomp: return compare_registers<true, 1>;
    case Mnemonic::Fucompp: return compare_registers<true, 2>;
    case Mnemonic::Ficom: return compare_integer<0>(insn);
    case Mnemonic::Ficomp: return compare_integer<1>(insn);
    case Mnemonic::Ftst: return test;
    case Mnemonic::Fcomi: return compare_to_flags<false, false>;
    case Mnemonic::Fcomip: return compare_to_flags<false, true>;
    case Mnemonic::Fucomi: return compare_to_flags<true, false>;
    case Mnemonic::Fucomip: return compare_to_flags<true, true>;
    case Mnemonic::Fxam: return examine;
    default: return nullptr;
  }
}
