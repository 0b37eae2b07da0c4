#include "emitter.h"

using namespace wasm;

namespace jit {

namespace {

constexpr u8 kRsp = 4, kRbp = 5;

}  // namespace

bool Emitter::emit_integer(const Insn& insn) {
  const FlagEffect effect = effect_of(insn);
  if (!effect.translated) return false;
  return emit_move(insn) || emit_arithmetic(insn) || emit_shift(insn) || emit_conditional(insn) ||
         emit_stack(insn) || emit_wide(insn);
}

bool Emitter::emit_move(const Insn& insn) {
  const Operand& to = insn.operands[0];
  const Operand& from = insn.operands[1];
  switch (insn.mnemonic) {
    case Mnemonic::Nop:
      return true;
    case Mnemonic::Mov:
    case Mnemonic::Movzx:
      if (to.kind == OperandKind::Memory) {
        // The value may be pushed first: it is a register or an immediate.
        find_address(insn);
      }
      push_operand(insn, from);
      pop_operand(to);
      return true;
    case Mnemonic::Movsx:
    case Mnemonic::Movsxd:
      push_operand(insn, from);
      push_sign_extended(from.size);
      mask_to(to.size);
      pop_operand(to);
      return true;
    case Mnemonic::Lea:
      find_address(insn);
      w.get(ADDRESS);
      mask_to(insn.operand_size);
      pop_operand(to);
      return true;
    case Mnemonic::Xchg:
      push_operand(insn, to);
      w.set(T0);
      push_operand(insn, from);
      if (from.kind == OperandKind::Memory) {
        w.set(T1);
        w.get(T0);
        pop_operand(from);
        w.get(T1);
        pop_operand(to);
      } else {
        pop_operand(to);
        w.get(T0);
        pop_operand(from);
      }
      return true;
    case Mnemonic::Not:
      push_operand(insn, to);
      w.constant(~u64{0});
      w.op(I64_XOR);
      mask_to(insn.operand_size);
      pop_operand(to);
      return true;
    case Mnemonic::Bswap:
      push_operand(insn, to);
      w.simd(I64X2_SPLAT);
      w.get(XMM);
      w.simd(I8X16_SHUFFLE);
      for (u32 i = 0; i < 16; ++i) w.byte(u8((insn.operand_size - 1 - i) & 15));
      w.simd(I64X2_EXTRACT_LANE);
      w.byte(0);
      mask_to(insn.operand_size);
      pop_operand(to);
      return true;
    case Mnemonic::Cbw:  // cbw, cwde, cdqe
      get_register(0);
      push_sign_extended(insn.operand_size / 2);
      mask_to(insn.operand_size);
      pop_operand({OperandKind::Gpr, 0, insn.operand_size});
      return true;
    case Mnemonic::Cwd:  // cwd, cdq, cqo
      get_register(0);
      push_sign_extended(insn.operand_size);
      w.constant(63);
      w.op(I64_SHR_S);
      mask_to(insn.operand_size);
      pop_operand({OperandKind::Gpr, 2, insn.operand_size});
      return true;
    default:
      return false;
  }
}

/// Operands are on the stack, and in T1 and SECOND for the flags; the result comes into T0, then everything is written. Flags come last:
/// a store may leave the function before.
void Emitter::finish_arithmetic(const Insn& insn, Op op, bool writes) {
  if (insn.operand_size == 4) {
    // i32's operations have the same order as i64's. The upper half is free: processors clear it.
    w.set(T2);
    w.op(I32_WRAP_I64);
    w.get(T2);
    w.op(I32_WRAP_I64);
    w.op(op >= I64_ADD ? Op(op - I64_ADD + I32_ADD) : op);
    w.op(I64_EXTEND_I32_U);
  } else {
    w.op(op);
    mask_to(insn.operand_size);
  }
  w.set(T0);
  if (writes) {
    w.get(T0);
    pop_operand(insn.operands[0]);
  }
  note_flags(insn);
}

bool Emitter::emit_arithmetic(const Insn& insn) {
  const u32 size = insn.operand_size;
  const Operand& to = insn.operands[0];
  auto binary = [&](Op op, bool writes) {
    push_unmasked(insn, to);
    w.set(T1);
    push_unmasked(insn, insn.operands[1]);
    w.set(SECOND);
    w.get(T1);
    w.get(SECOND);
    finish_arithmetic(insn, op, writes);
    return true;
  };
  auto with_carry = [&](Op op) {
    push_operand(insn, to);
    w.set(T1);
    push_operand(insn, insn.operands[1]);
    w.set(SECOND);
    w.get(T1);
    w.get(SECOND);
    w.op(op);
    push_condition(2);
    w.op(I64_EXTEND_I32_U);
    finish_arithmetic(insn, op, true);
    return true;
  };
  auto step = [&](Op op) {
    push_unmasked(insn, to);
    w.constant(1);
    finish_arithmetic(insn, op, true);
    return true;
  };
  switch (insn.mnemonic) {
    case Mnemonic::Add:
      return binary(I64_ADD, true);
    case Mnemonic::Sub:
      return binary(I64_SUB, true);
    case Mnemonic::Adc:
      return with_carry(I64_ADD);
    case Mnemonic::Sbb:
      return with_carry(I64_SUB);
    case Mnemonic::Cmp:
      return binary(I64_SUB, false);
    case Mnemonic::And:
      return binary(I64_AND, true);
    case Mnemonic::Test:
      return binary(I64_AND, false);
    case Mnemonic::Or:
      return binary(I64_OR, true);
    case Mnemonic::Xor:
      return binary(I64_XOR, true);
    case Mnemonic::Inc:
      return step(I64_ADD);
    case Mnemonic::Dec:
      return step(I64_SUB);
    case Mnemonic::Neg:
      push_unmasked(insn, to);
      w.set(SECOND);
      w.constant(0);
      w.tee(T1);
      w.get(SECOND);
      finish_arithmetic(insn, I64_SUB, true);
      return true;
    case Mnemonic::Imul: {
      if (insn.operand_count == 1) return false;
      const bool three = insn.operand_count == 3;
      push_operand(insn, insn.operands[three ? 1 : 0]);
      push_sign_extended(size);
      w.set(T1);
      push_operand(insn, insn.operands[three ? 2 : 1]);
      push_sign_extended(size);
      w.set(SECOND);
      w.get(T1);
      w.get(SECOND);
      finish_arithmetic(insn, I64_MUL, true);
      return true;
    }
    default:
      return false;
  }
}

bool Emitter::emit_shift(const Insn& insn) {
  const u32 size = insn.operand_size;
  Op op;
  switch (insn.mnemonic) {
    case Mnemonic::Shl:
      op = I64_SHL;
      break;
    case Mnemonic::Shr:
      op = I64_SHR_U;
      break;
    case Mnemonic::Sar:
      op = I64_SHR_S;
      break;
    case Mnemonic::Rol:
      op = I64_ROTL;
      break;
    case Mnemonic::Ror:
      op = I64_ROTR;
      break;
    default:
      return false;
  }
  push_operand(insn, insn.operands[0]);
  if (op == I64_SHR_S) push_sign_extended(size);
  w.set(T1);
  const u32 most = size == 8 ? 63 : 31;
  if (insn.operands[1].kind == OperandKind::Immediate) {
    w.constant(insn.immediate & most);
  } else {
    push_operand(insn, insn.operands[1]);
    w.constant(most);
    w.op(I64_AND);
  }
  w.set(SECOND);
  w.get(T1);
  w.get(SECOND);
  finish_arithmetic(insn, op, true);
  return true;
}

bool Emitter::emit_conditional(const Insn& insn) {
  const Operand& to = insn.operands[0];
  if (insn.mnemonic == Mnemonic::Setcc) {
    if (to.kind == OperandKind::Memory) find_address(insn);
    push_condition(insn.condition);
    w.op(I64_EXTEND_I32_U);
    pop_operand(to);
    return true;
  }
  if (insn.mnemonic != Mnemonic::Cmovcc) return false;
  push_operand(insn, insn.operands[1]);
  push_operand(insn, to);
  push_condition(insn.condition);
  w.op(SELECT);
  pop_operand(to);
  return true;
}

void Emitter::emit_push() {
  find_stack(kRsp, -8);
  w.get(T0);
  pop_store(8);
  w.get(ADDRESS);
  set_register(kRsp);
}

void Emitter::emit_going(const Insn& insn) {
  const Operand& to = insn.operands[0];
  const u64 behind = region_.addresses[index_] + insn.length;
  if (insn.mnemonic == Mnemonic::Ret) {
    find_stack(kRsp, 0);
    push_load(8);
    w.set(RIP);
    get_register(kRsp);
    w.constant(8 + (insn.operand_count ? insn.immediate & 0xffff : 0));
    w.op(I64_ADD);
    return set_register(kRsp);
  }
  if (to.kind == OperandKind::Relative) {
    w.constant(behind + insn.immediate);
  } else {
    push_operand(insn, to);
  }
  w.set(RIP);
  if (insn.mnemonic != Mnemonic::Call) return;
  w.constant(behind);
  w.set(T0);
  emit_push();
}

bool Emitter::emit_stack(const Insn& insn) {
  auto move_stack = [&](u8 from, i64 by) {
    get_register(from);
    w.constant(u64(by));
    w.op(I64_ADD);
    set_register(kRsp);
  };
  switch (insn.mnemonic) {
    case Mnemonic::Push:
      push_operand(insn, insn.operands[0]);
      w.set(T0);
      emit_push();
      return true;
    case Mnemonic::Pop:
      find_stack(kRsp, 0);
      push_load(8);
      w.set(T0);
      move_stack(kRsp, 8);
      w.get(T0);
      pop_operand(insn.operands[0]);
      return true;
    case Mnemonic::Leave:
      find_stack(kRbp, 0);
      push_load(8);
      w.set(T0);
      move_stack(kRbp, 8);
      w.get(T0);
      set_register(kRbp);
      return true;
    default:
      return false;
  }
}

}  // namespace jit
