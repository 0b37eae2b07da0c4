/// x87: loads, stores, constants, exchanges.
#include "x87.h"

namespace {

bool load_register(Cpu& cpu, const Insn& insn) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  fpu.clear_c1();
  const u32 from = insn.operands[0].reg;
  if (fpu.empty(from)) {
    if (fpu.stack_fault(false)) fpu.push(default_nan80());
    return true;
  }
  return push_checked(fpu, Float80{fpu.st(from)});
}

/// Ten bytes.
struct Packed80 {
  u8 bytes[10];
};

bool load_extended(Cpu& cpu, const Insn& insn) {
  Fpu fpu(cpu);
  Packed80 packed;
  if (!no_pending_fpu_error(cpu) || !fetch(effective_address(cpu, insn), packed)) return false;
  fpu.clear_c1();
  return push_checked(fpu, {peek<u64>(packed.bytes), peek<u16>(packed.bytes + 8)});
}

bool load_decimal(Cpu& cpu, const Insn& insn) {
  Fpu fpu(cpu);
  Packed80 packed;
  if (!no_pending_fpu_error(cpu) || !fetch(effective_address(cpu, insn), packed)) return false;
  fpu.clear_c1();
  return push_checked(fpu, from_decimal(packed.bytes));
}

/// Single or double.
template <class B>
bool load_float(Cpu& cpu, const Insn& insn) {
  Fpu fpu(cpu);
  B bits;
  if (!no_pending_fpu_error(cpu) || !fetch(effective_address(cpu, insn), bits)) return false;
  fpu.clear_c1();
  if (fpu.full()) return push_checked(fpu, {});
  bool denormal = false;
  Float80 value;
  if constexpr (sizeof(B) == 4) value = from_single(bits, denormal);
  else value = from_double(bits, denormal);
  u8 exceptions = denormal ? DENORMAL_OPERAND : 0;
  if (class_of(value) == Class80::SignalingNan) {
    exceptions = INVALID_OPERATION;
    value = quieted(value);
  }
  // an unmasked denormal is pushed all the same
  if (fpu.note(exceptions) || !(exceptions & INVALID_OPERATION)) fpu.push(value);
  return true;
}

template <class I>
bool load_integer(Cpu& cpu, const Insn& insn) {
  Fpu fpu(cpu);
  I value;
  if (!no_pending_fpu_error(cpu) || !fetch(effective_address(cpu, insn), value)) return false;
  fpu.clear_c1();
  return push_checked(fpu, from_integer(value));
}

/// To a register.
template <bool pops>
bool store_register(Cpu& cpu, const Insn& insn) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  fpu.clear_c1();
  const u32 into = insn.operands[0].reg;
  if (fpu.empty(0)) {
    if (!fpu.stack_fault(false)) return true;
    fpu.set(into, default_nan80());
  } else {
    const Float80 value = fpu.st(0);
    fpu.set(into, value);
  }
  if (pops) fpu.pop();
  return true;
}

/// What is to be stored, by a function of the number and the state. An exception that is not masked (except an inexact result) stores nothing.
template <class T, class Convert>
ALWAYS_INLINE bool store_converted(Cpu& cpu, const Insn& insn, bool pops, const T& indefinite, Convert convert) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  const u64 address = effective_address(cpu, insn);
  FloatState state(cpu.fpu_control);
  const bool missing = fpu.empty(0);
  T value = indefinite;
  if (missing) state.exceptions = INVALID_OPERATION;
  else value = convert(fpu.st(0), state);
  const bool stops = state.exceptions & state.unmasked & ~INEXACT_RESULT;
  if (stops ? !can_store(cpu, address, sizeof(T)) : !put(address, value)) return false;
  if (missing) {
    fpu.stack_fault(false);
  } else {
    const u8 exceptions = stops ? static_cast<u8>(state.exceptions & ~INEXACT_RESULT) : state.exceptions;
    fpu.note(exceptions, state.up && !stops);
  }
  if (pops && !stops) fpu.pop();
  return true;
}

template <class B, bool pops>
bool store_float(Cpu& cpu, const Insn& insn) {
  constexpr B indefinite = sizeof(B) == 4 ? static_cast<B>(0xffc00000) : static_cast<B>(0xfff8000000000000);
  return store_converted<B>(cpu, insn, pops, indefinite, [](const Float80& a, FloatState& state) {
    return sizeof(B) == 4 ? static_cast<B>(to_single(a, state)) : static_cast<B>(to_double(a, state));
  });
}

template <class I, bool pops, bool truncates>
bool store_integer(Cpu& cpu, const Insn& insn) {
  constexpr I indefinite = static_cast<I>(I{1} << (8 * sizeof(I) - 1));
  return store_converted<I>(cpu, insn, pops, indefinite, [](const Float80& a, FloatState& state) {
    return static_cast<I>(to_integer(a, sizeof(I), truncates ? kToZero : state.rounding, state));
  });
}

bool store_extended(Cpu& cpu, const Insn& insn) {
  return store_converted<Packed80>(cpu, insn, true, {{0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff}}, [](const Float80& a, FloatState&) {
    Packed80 packed;
    poke<u64>(packed.bytes, a.significand);
    poke<u16>(packed.bytes + 8, a.sign_exponent);
    return packed;
  });
}

bool store_decimal(Cpu& cpu, const Insn& insn) {
  return store_converted<Packed80>(cpu, insn, true, {{0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff}}, [](const Float80& a, FloatState& state) {
    Packed80 packed;
    to_decimal(a, state, packed.bytes);
    return packed;
  });
}

bool exchange(Cpu& cpu, const Insn& insn) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  fpu.clear_c1();
  const u32 other = insn.operands[0].reg;
  const bool missing = fpu.empty(0) || fpu.empty(other);
  if (missing && !fpu.stack_fault(false)) return true;
  const Float80 first = fpu.empty(0) ? default_nan80() : fpu.st(0);
  const Float80 second = fpu.empty(other) ? default_nan80() : fpu.st(other);
  fpu.set(0, second);
  fpu.set(other, first);
  return true;
}

template <u32 code, bool negated>
bool move_if(Cpu& cpu, const Insn& insn) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  const u32 from = insn.operands[1].reg;
  if (fpu.empty(0) || fpu.empty(from)) {
    if (fpu.stack_fault(false)) fpu.set(0, default_nan80());
    return true;
  }
  if (((get_flags(cpu) & code) != 0) == negated) return true;
  const Float80 value = fpu.st(from);
  fpu.set(0, value);
  return true;
}

/// A constant's 64 bits, the next one below them and an exponent; rounded as the control word says.
template <u16 exponent, u64 significand, bool half>
bool load_constant(Cpu& cpu, const Insn&) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  fpu.clear_c1();
  const FloatState state(cpu.fpu_control);
  constexpr bool exact = (significand & 0xffff) == 0;
  const bool up = !exact && (state.rounding == kUp || (half && state.rounding == kToNearest));
  return push_checked(fpu, {significand + up, exponent});
}

template <bool pops>
Handler store_any_integer(const Insn& insn) {
  const u32 size = insn.operands[0].size;
  return size == 2 ? store_integer<i16, pops, false> : size == 4 ? store_integer<i32, pops, false> : store_integer<i64, pops, false>;
}
template <bool pops>
Handler store_any(const Insn& insn) {
  if (!is_memory(insn.operands[0])) return store_register<pops>;
  const u32 size = insn.operands[0].size;
  return size == 4 ? store_float<u32, pops> : size == 8 ? store_float<u64, pops> : store_extended;
}

}  // namespace

Handler x87_move_handler(const Insn& insn) {
  const u32 size = insn.operand_count ? insn.operands[0].size : 0;
  switch (insn.mnemonic) {
    case Mnemonic::Fld:
      if (!is_memory(insn.operands[0])) return load_register;
      return size == 4 ? load_float<u32> : size == 8 ? load_float<u64> : load_extended;
    case Mnemonic::Fild: return size == 2 ? load_integer<i16> : size == 4 ? load_integer<i32> : load_integer<i64>;
    case Mnemonic::Fbld: return load_decimal;
    case Mnemonic::Fst: return store_any<false>(insn);
    case Mnemonic::Fstp: return store_any<true>(insn);
    case Mnemonic::Fist: return store_any_integer<false>(insn);
    case Mnemonic::Fistp: return store_any_integer<true>(insn);
    case Mnemonic::Fisttp:
      return size == 2 ? store_integer<i16, true, true> : size == 4 ? store_integer<i32, true, true> : store_integer<i64, true, true>;
    case Mnemonic::Fbstp: return store_decimal;
    case Mnemonic::Fxch: return exchange;
    case Mnemonic::Fcmovb: return move_if<FLAG_C, false>;
    case Mnemonic::Fcmove: return move_if<FLAG_Z, false>;
    case Mnemonic::Fcmovbe: return move_if<FLAG_C | FLAG_Z, false>;
    case Mnemonic::Fcmovu: return move_if<FLAG_P, false>;
    case Mnemonic::Fcmovnb: return move_if<FLAG_C, true>;
    case Mnemonic::Fcmovne: return move_if<FLAG_Z, true>;
    case Mnemonic::Fcmovnbe: return move_if<FLAG_C | FLAG_Z, true>;
    case Mnemonic::Fcmovnu: return move_if<FLAG_P, true>;
    case Mnemonic::Fld1: return load_constant<0x3fff, kTop, false>;
    case Mnemonic::Fldz: return load_constant<0, 0, false>;
    case Mnemonic::Fldpi: return load_constant<0x4000, 0xc90fdaa22168c234, true>;
    case Mnemonic::Fldl2t: return load_constant<0x4000, 0xd49a784bcd1b8afe, false>;
    case Mnemonic::Fldl2e: return load_constant<0x3fff, 0xb8aa3b295c17f0bb, true>;
    case Mnemonic::Fldlg2: return load_constant<0x3ffd, 0x9a209a84fbcff798, true>;
    case Mnemonic::Fldln2: return load_constant<0x3ffe, 0xb17217f7d1cf79ab, true>;
    default: return nullptr;
  }
}
