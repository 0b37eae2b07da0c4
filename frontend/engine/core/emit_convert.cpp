/// Comparisons and conversions of SSE's scalars, for ordinary operands: what could raise more than the inexact flag the interpreter does (see
/// emit_float.cpp, whose conditions hold here too).
#include "emitter.h"

using namespace wasm;

namespace jit {

namespace {

bool is_wide(Mnemonic mnemonic) {
  switch (mnemonic) {
    case Mnemonic::Ucomisd:
    case Mnemonic::Comisd:
    case Mnemonic::Cvtsi2sd:
    case Mnemonic::Cvttsd2si:
    case Mnemonic::Cvtsd2ss:
    case Mnemonic::Sqrtsd:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool is_comparison_mnemonic(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Ucomiss:
    case Mnemonic::Ucomisd:
    case Mnemonic::Comiss:
    case Mnemonic::Comisd:
      return true;
    default:
      return false;
  }
}

bool is_conversion_mnemonic(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Cvtsi2ss:
    case Mnemonic::Cvtsi2sd:
    case Mnemonic::Cvttss2si:
    case Mnemonic::Cvttsd2si:
    case Mnemonic::Cvtss2sd:
    case Mnemonic::Cvtsd2ss:
    case Mnemonic::Sqrtss:
    case Mnemonic::Sqrtsd:
      return true;
    default:
      return is_comparison_mnemonic(insn);
  }
}

bool is_float_conversion(const Insn& insn) { return floats_are_direct() && is_conversion_mnemonic(insn); }

void Emitter::push_scalar(const Insn& insn, const Operand& operand, bool wide) {
  if (operand.kind == OperandKind::Memory) {
    find_address(insn);
    leave_unless_direct(operand.size, PAGE_READ);
    push_address();
    return w.memory(wide ? F64_LOAD : F32_LOAD, kGuestBase);
  }
  if (wide) return push_double(operand.reg);
  get_xmm(operand.reg);
  w.simd(F32X4_EXTRACT_LANE);
  w.byte(0);
}

void Emitter::push_double(u8 number) {
  if (apart_ >> number & 1) return w.get(LANE + number);
  get_xmm(number);
  w.simd(F64X2_EXTRACT_LANE);
  w.byte(0);
}

/// Pops it into the register's first lane, which is then apart from the rest.
void Emitter::set_double(u8 number) {
  used_xmm_ |= 1u << number;
  written_xmm_ |= 1u << number;
  w.set(LANE + number);
  apart_ |= 1u << number;
  tame_ &= ~(1u << number);
}

/// Puts the lane that is apart into its vector. What is known stays as it was: this may be written where not all ways lead.
void Emitter::join_lane(u8 number) {
  w.get(XMM + number);
  w.get(LANE + number);
  w.simd(F64X2_REPLACE_LANE);
  w.byte(0);
  w.set(XMM + number);
}

void Emitter::join_lanes() {
  for (u8 i = 0; i < 16; ++i) {
    if (apart_ >> i & 1) join_lane(i);
  }
}

/// Pops it into the register's first lane.
void Emitter::set_scalar(u8 number, bool wide) {
  if (wide) return set_double(number);
  w.set(SINGLE_RESULT);
  get_xmm(number);
  w.get(SINGLE_RESULT);
  w.simd(F32X4_REPLACE_LANE);
  w.byte(0);
  set_xmm(number);
}

bool Emitter::is_clean(const Operand& operand, bool wide) const {
  return operand.kind == OperandKind::Xmm && ((wide ? clean_.doubles : clean_.singles) >> operand.reg & 1);
}

/// Leaves before this instruction when the scalar is denormal or no number.
void Emitter::leave_unless_number(u32 local, bool wide) {
  leave_if_denormal(local, wide);
  w.get(local);
  w.get(local);
  w.op(wide ? F64_NE : F32_NE);
  leave_before_if();
}

/// Flags: carry when it is less, zero when it is equal; the others are clear.
void Emitter::emit_float_comparison(const Insn& insn) {
  const bool wide = is_wide(insn.mnemonic);
  const u32 a = wide ? DOUBLE_A : SINGLE_A, b = a + 1;
  push_scalar(insn, insn.operands[1], wide);
  w.set(b);
  push_scalar(insn, insn.operands[0], wide);
  w.set(a);
  if (!is_clean(insn.operands[0], wide)) leave_unless_number(a, wide);
  if (!is_clean(insn.operands[1], wide)) leave_unless_number(b, wide);
  w.get(a);
  w.get(b);
  w.op(wide ? F64_LT : F32_LT);
  w.get(a);
  w.get(b);
  w.op(wide ? F64_EQ : F32_EQ);
  w.constant32(6);
  w.op(I32_SHL);
  w.op(I32_OR);
  w.op(I64_EXTEND_I32_U);
  w.set(T0);
  note_flags(insn);
}

void Emitter::emit_conversion(const Insn& insn) {
  if (is_comparison_mnemonic(insn)) return emit_float_comparison(insn);
  const Operand& to = insn.operands[0];
  const Operand& from = insn.operands[1];
  const bool wide = is_wide(insn.mnemonic);
  const u32 a = wide ? DOUBLE_A : SINGLE_A;
  switch (insn.mnemonic) {
    case Mnemonic::Cvtsi2ss:
    case Mnemonic::Cvtsi2sd:
      push_operand(insn, from);
      if (from.size == 4) {
        w.op(I32_WRAP_I64);
        w.op(wide ? F64_CONVERT_I32_S : F32_CONVERT_I32_S);
      } else {
        w.op(wide ? F64_CONVERT_I64_S : F32_CONVERT_I64_S);
      }
      return set_scalar(to.reg, wide);
    case Mnemonic::Cvttss2si:
    case Mnemonic::Cvttsd2si:
      push_scalar(insn, from, wide);
      w.tee(a);
      w.op(wide ? F64_ABS : F32_ABS);
      // 2^31 or 2^63 is the first that does not fit
      if (wide) w.constant_double(to.size == 8 ? 0x1p63 : 0x1p31);
      else w.constant_single(to.size == 8 ? 0x1p63f : 0x1p31f);
      w.op(wide ? F64_LT : F32_LT);
      w.op(I32_EQZ);
      leave_before_if();
      w.get(a);
      if (to.size == 8) {
        w.op(wide ? I64_TRUNC_F64_S : I64_TRUNC_F32_S);
      } else {
        w.op(wide ? I32_TRUNC_F64_S : I32_TRUNC_F32_S);
        w.op(I64_EXTEND_I32_U);
      }
      return set_register(to.reg);
    case Mnemonic::Cvtss2sd:
      push_scalar(insn, from, false);
      w.set(SINGLE_A);
      if (!is_clean(from, false)) leave_unless_number(SINGLE_A, false);
      w.get(SINGLE_A);
      w.op(F64_PROMOTE_F32);
      return set_scalar(to.reg, true);
    default:
      break;
  }
  // cvtsd2ss, sqrtss, sqrtsd: operand and result must be ordinary
  const bool root = insn.mnemonic != Mnemonic::Cvtsd2ss;
  const bool result_is_wide = root && wide;
  const u32 result = result_is_wide ? DOUBLE_B : SINGLE_B;
  push_scalar(insn, from, wide);
  w.tee(a);
  if (root) w.op(wide ? F64_SQRT : F32_SQRT);
  else w.op(F32_DEMOTE_F64);
  w.set(result);
  push_is_extraordinary(a, wide);
  push_is_extraordinary(result, result_is_wide);
  w.op(I32_OR);
  leave_before_if();
  w.get(result);
  set_scalar(to.reg, result_is_wide);
}

}  // namespace jit
