/// Products of two registers, quotients, and exchanges that compare.
#include "emitter.h"

using namespace wasm;

namespace jit {

namespace {

constexpr u8 kRax = 0, kRdx = 2;

}  // namespace

/// Pushes the upper 64 bits of T1 * SECOND, unsigned: of four products of halves (Knuth, 4.3.1 M). Uses T0 and T2.
void Emitter::push_upper_product() {
  const auto low = [&](u32 local) {
    w.get(local);
    mask_to(4);
  };
  const auto high = [&](u32 local) {
    w.get(local);
    w.constant(32);
    w.op(I64_SHR_U);
  };
  low(T1);
  low(SECOND);
  w.op(I64_MUL);
  w.constant(32);
  w.op(I64_SHR_U);
  high(T1);
  low(SECOND);
  w.op(I64_MUL);
  w.op(I64_ADD);
  w.set(T0);
  low(T0);
  low(T1);
  high(SECOND);
  w.op(I64_MUL);
  w.op(I64_ADD);
  w.set(T2);
  high(T1);
  high(SECOND);
  w.op(I64_MUL);
  high(T0);
  w.op(I64_ADD);
  high(T2);
  w.op(I64_ADD);
}

/// mul and imul with one operand: rdx:rax. Carry and overflow say whether the upper half means anything.
void Emitter::emit_wide_product(const Insn& insn) {
  const u32 size = insn.operand_size;
  const bool sign = insn.mnemonic == Mnemonic::Imul;
  push_operand(insn, insn.operands[0]);
  if (sign) push_sign_extended(size);
  w.set(SECOND);
  get_register(kRax);
  if (sign) push_sign_extended(size);
  else mask_to(size);
  w.set(T1);
  if (size == 4) {
    w.get(T1);
    w.get(SECOND);
    w.op(I64_MUL);
    w.tee(T0);
    mask_to(4);
    set_register(kRax);
    w.get(T0);
    w.constant(32);
    w.op(I64_SHR_U);
    set_register(kRdx);
  } else {
    push_upper_product();
    if (sign) {
      const u32 factors[][2] = {{T1, SECOND}, {SECOND, T1}};
      for (const auto& [factor, other] : factors) {
        w.get(factor);
        w.constant(63);
        w.op(I64_SHR_S);
        w.get(other);
        w.op(I64_AND);
        w.op(I64_SUB);
      }
    }
    set_register(kRdx);
    w.get(T1);
    w.get(SECOND);
    w.op(I64_MUL);
    set_register(kRax);
  }
  get_register(kRdx);
  if (sign) {
    get_register(kRax);
    push_sign_extended(size);
    w.constant(63);
    w.op(I64_SHR_S);
    mask_to(size);
    w.op(I64_XOR);
  }
  w.set(SECOND);
  get_register(kRax);
  w.set(T0);
  note_flags(insn);
}

/// div and idiv. What faults, or has a dividend that is longer than its quotient, the interpreter does.
void Emitter::emit_quotient(const Insn& insn) {
  const u32 size = insn.operand_size;
  const bool sign = insn.mnemonic == Mnemonic::Idiv;
  push_operand(insn, insn.operands[0]);
  if (sign) push_sign_extended(size);
  w.set(SECOND);
  w.get(SECOND);
  if (sign) {
    // 0, and -1, by which the least number can't be divided
    w.constant(1);
    w.op(I64_ADD);
    w.constant(1);
    w.op(I64_LE_U);
  } else {
    w.op(I64_EQZ);
  }
  leave_before_if();
  if (size == 4) {
    get_register(kRdx);
    w.constant(32);
    w.op(I64_SHL);
    get_register(kRax);
    mask_to(4);
    w.op(I64_OR);
    w.set(T1);
  } else {
    get_register(kRdx);
    if (sign) {
      get_register(kRax);
      w.constant(63);
      w.op(I64_SHR_S);
      w.op(I64_NE);
    } else {
      w.constant(0);
      w.op(I64_NE);
    }
    leave_before_if();
    get_register(kRax);
    w.set(T1);
  }
  w.get(T1);
  w.get(SECOND);
  w.op(sign ? I64_DIV_S : I64_DIV_U);
  w.set(T0);
  if (size == 4) {
    w.get(T0);
    w.get(T0);
    if (sign) push_sign_extended(4);
    else mask_to(4);
    w.op(I64_NE);
    leave_before_if();
  }
  w.get(T1);
  w.get(T0);
  w.get(SECOND);
  w.op(I64_MUL);
  w.op(I64_SUB);
  mask_to(size);
  set_register(kRdx);
  w.get(T0);
  mask_to(size);
  set_register(kRax);
}

/// cmpxchg with memory. There is one processor, so every instruction is atomic.
void Emitter::emit_compare_exchange(const Insn& insn) {
  const u32 size = insn.operand_size;
  push_operand(insn, insn.operands[0]);
  w.set(SECOND);
  get_register(kRax);
  mask_to(size);
  w.set(T1);
  push_operand(insn, insn.operands[1]);
  w.get(SECOND);
  w.get(T1);
  w.get(SECOND);
  w.op(I64_EQ);
  w.op(SELECT);
  pop_operand(insn.operands[0]);
  w.get(SECOND);
  get_register(kRax);
  w.get(T1);
  w.get(SECOND);
  w.op(I64_NE);
  w.op(SELECT);
  set_register(kRax);
  w.get(T1);
  w.get(SECOND);
  w.op(I64_SUB);
  mask_to(size);
  w.set(T0);
  note_flags(insn);
}

/// xadd with memory.
void Emitter::emit_exchange_add(const Insn& insn) {
  push_operand(insn, insn.operands[0]);
  w.set(T1);
  push_operand(insn, insn.operands[1]);
  w.set(SECOND);
  w.get(T1);
  w.get(SECOND);
  w.op(I64_ADD);
  mask_to(insn.operand_size);
  w.set(T0);
  w.get(T0);
  pop_operand(insn.operands[0]);
  w.get(T1);
  pop_operand(insn.operands[1]);
  note_flags(insn);
}

/// bsf and bsr. Of 0 the destination stays: the interpreter does that.
void Emitter::emit_scan(const Insn& insn) {
  push_operand(insn, insn.operands[1]);
  w.tee(T0);
  w.op(I64_EQZ);
  leave_before_if();
  if (insn.mnemonic == Mnemonic::Bsf) {
    w.get(T0);
    w.op(I64_CTZ);
  } else {
    w.constant(63);
    w.get(T0);
    w.op(I64_CLZ);
    w.op(I64_SUB);
  }
  pop_operand(insn.operands[0]);
  note_flags(insn);
}

/// bt, bts, btr, btc of a register.
void Emitter::emit_bit(const Insn& insn) {
  const Operand& to = insn.operands[0];
  const u32 most = to.size * 8u - 1;
  push_operand(insn, to);
  w.set(T1);
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
  w.op(I64_SHR_U);
  w.constant(1);
  w.op(I64_AND);
  w.set(T0);
  if (insn.mnemonic != Mnemonic::Bt) {
    w.get(T1);
    w.constant(1);
    w.get(SECOND);
    w.op(I64_SHL);
    if (insn.mnemonic == Mnemonic::Btr) {
      w.constant(~u64{0});
      w.op(I64_XOR);
    }
    w.op(insn.mnemonic == Mnemonic::Bts ? I64_OR : insn.mnemonic == Mnemonic::Btr ? I64_AND : I64_XOR);
    pop_operand(to);
  }
  note_flags(insn);
}

bool Emitter::emit_wide(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Mul:
    case Mnemonic::Imul:
      emit_wide_product(insn);
      return true;
    case Mnemonic::Div:
    case Mnemonic::Idiv:
      emit_quotient(insn);
      return true;
    case Mnemonic::Cmpxchg:
      emit_compare_exchange(insn);
      return true;
    case Mnemonic::Xadd:
      emit_exchange_add(insn);
      return true;
    case Mnemonic::Bsf:
    case Mnemonic::Bsr:
      emit_scan(insn);
      return true;
    case Mnemonic::Bt:
    case Mnemonic::Bts:
    case Mnemonic::Btr:
    case Mnemonic::Btc:
      emit_bit(insn);
      return true;
    default:
      return false;
  }
}

}  // namespace jit
