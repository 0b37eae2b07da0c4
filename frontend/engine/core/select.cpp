#include "select.h"

namespace {

u32 log2_size(u32 size) { return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3; }

}  // namespace

bool set_address(Op& op, const Insn& insn) {
  if (insn.prefixes & PREFIX_ADDRESS32) return false;
  op.base = insn.base == kNoRegister ? kNoIndex : gpr(insn.base);
  op.index = insn.index == kNoRegister ? kNoIndex : gpr(insn.index);
  op.shift = static_cast<u8>(insn.index == kNoRegister ? 0 : log2_size(insn.scale));
  op.displacement = insn.displacement;
  if (insn.prefixes & (PREFIX_FS | PREFIX_GS)) {
    const u8 segment = insn.prefixes & PREFIX_FS ? offsetof(Cpu, fs_base) : offsetof(Cpu, gs_base);
    if (op.base == kNoIndex) op.base = segment;
    else if (op.index == kNoIndex) op.index = segment;
    else return false;
  }
  return true;
}

namespace {

/// The form of a two-operand instruction, with registers, address and immediate set; -1: none of them.
int set_form(Op& op, const Insn& insn) {
  const Operand &a = insn.operands[0], &b = insn.operands[1];
  if (is_gpr(a)) {
    op.dst = gpr(a);
    if (is_gpr(b)) return op.src = gpr(b), FORM_RR;
    if (is_immediate(b)) return op.immediate = insn.immediate, FORM_RI;
    if (is_memory(b)) return set_address(op, insn) ? FORM_RM : -1;
    return -1;
  }
  if (!is_memory(a) || !set_address(op, insn)) return -1;
  if (is_gpr(b)) return op.src = gpr(b), FORM_MR;
  if (is_immediate(b)) return op.immediate = insn.immediate, FORM_MI;
  return -1;
}

bool alu_of(Mnemonic mnemonic, u32& alu) {
  switch (mnemonic) {
    case Mnemonic::Add: alu = ALU_Add; return true;
    case Mnemonic::Or: alu = ALU_Or; return true;
    case Mnemonic::Adc: alu = ALU_Adc; return true;
    case Mnemonic::Sbb: alu = ALU_Sbb; return true;
    case Mnemonic::And: alu = ALU_And; return true;
    case Mnemonic::Sub: alu = ALU_Sub; return true;
    case Mnemonic::Xor: alu = ALU_Xor; return true;
    case Mnemonic::Cmp: alu = ALU_Cmp; return true;
    case Mnemonic::Test: alu = ALU_Test; return true;
    default: return false;
  }
}

/// mov, movzx and relatives; lea.
bool set_move(Op& op, const Insn& insn) {
  const Operand &a = insn.operands[0], &b = insn.operands[1];
  const bool memory = is_memory(b);
  const bool wide = a.size == 8;
  switch (insn.mnemonic) {
    case Mnemonic::Mov: {
      const int form = set_form(op, insn);
      if (form < 0) return false;
      op.code = static_cast<u16>(OP_MOV + static_cast<u32>(form) * kSizes + log2_size(a.size));
      return true;
    }
    case Mnemonic::Lea:
      if (a.size < 4 || (insn.prefixes & (PREFIX_FS | PREFIX_GS)) || !set_address(op, insn)) return false;
      op.dst = gpr(a);
      op.code = wide ? op.index == kNoIndex ? OP_ADDRESS : OP_LEA_64 : OP_LEA_32;
      return true;
    case Mnemonic::Movzx:
    case Mnemonic::Movsx:
    case Mnemonic::Movsxd: {
      if (a.size < 4 || set_form(op, insn) < 0) return false;
      const bool byte = b.size == 1;
      if (insn.mnemonic == Mnemonic::Movzx) op.code = memory ? byte ? OP_MOVZX_M8 : OP_MOVZX_M16 : byte ? OP_MOVZX_R8 : OP_MOVZX_R16;
      else if (b.size == 4) {
        if (!wide) return op.code = static_cast<u16>(OP_MOV + (memory ? FORM_RM : FORM_RR) * kSizes + 2), true;
        op.code = memory ? OP_MOVSX64_M32 : OP_MOVSX64_R32;
      } else if (wide) op.code = memory ? byte ? OP_MOVSX64_M8 : OP_MOVSX64_M16 : byte ? OP_MOVSX64_R8 : OP_MOVSX64_R16;
      else op.code = memory ? byte ? OP_MOVSX32_M8 : OP_MOVSX32_M16 : byte ? OP_MOVSX32_R8 : OP_MOVSX32_R16;
      return true;
    }
    case Mnemonic::Cbw:
      if (insn.operand_size != 8) return false;
      op.code = OP_CDQE;
      return true;
    case Mnemonic::Cwd:
      if (insn.operand_size < 4) return false;
      op.code = insn.operand_size == 8 ? OP_CQO : OP_CDQ;
      return true;
    case Mnemonic::Cmovcc:
      if (a.size < 4 || set_form(op, insn) < 0) return false;
      if (memory) {
        op.code = OP_CMOV_RM;
        op.src = static_cast<u8>(a.size);
        op.immediate = insn.condition;
      } else op.code = static_cast<u16>((wide ? OP_CMOV_RR64 : OP_CMOV_RR32) + insn.condition);
      return true;
    case Mnemonic::Setcc:
      if (is_gpr(a)) {
        op.dst = gpr(a);
        op.code = static_cast<u16>(OP_SETCC_R + insn.condition);
        return true;
      }
      op.code = OP_SETCC_M;
      op.src = insn.condition;
      return set_address(op, insn);
    default: return false;
  }
}

/// Shifts, products and what has one operand: 32 and 64 bits.
bool set_arithmetic(Op& op, const Insn& insn) {
  const Operand &a = insn.operands[0], &b = insn.operands[1];
  if (!is_gpr(a) || a.size < 4) return false;
  const bool wide = a.size == 8;
  op.dst = gpr(a);
  const auto shift = [&](OpCode immediate, OpCode by_cl) {
    if (is_immediate(b)) {
      op.src = static_cast<u8>(insn.immediate & (wide ? 63 : 31));
      op.code = static_cast<u16>(immediate + wide);
      return op.src != 0;
    }
    op.code = static_cast<u16>(by_cl + wide);
    return by_cl != OP_NOP;
  };
  const auto one = [&](OpCode code) { return op.code = static_cast<u16>(code + wide), true; };
  switch (insn.mnemonic) {
    case Mnemonic::Shl: return shift(OP_SHL_I32, OP_SHL_C32);
    case Mnemonic::Shr: return shift(OP_SHR_I32, OP_SHR_C32);
    case Mnemonic::Sar: return shift(OP_SAR_I32, OP_SAR_C32);
    case Mnemonic::Rol: return is_immediate(b) && shift(OP_ROL_I32, OP_NOP);
    case Mnemonic::Ror: return is_immediate(b) && shift(OP_ROR_I32, OP_NOP);
    case Mnemonic::Bswap: return one(OP_BSWAP_32);
    case Mnemonic::Inc: return one(OP_INC_R32);
    case Mnemonic::Dec: return one(OP_DEC_R32);
    case Mnemonic::Neg: return one(OP_NEG_R32);
    case Mnemonic::Not: return one(OP_NOT_R32);
    case Mnemonic::Imul:
      if (insn.operand_count == 3) {
        if (!is_gpr(b)) return false;
        op.src = gpr(b);
        op.immediate = insn.immediate;
        return one(OP_IMUL_RRI32);
      }
      if (insn.operand_count != 2) return false;
      if (is_memory(b)) return set_address(op, insn) && one(OP_IMUL_RM32);
      op.src = gpr(b);
      return one(OP_IMUL_RR32);
    default: return false;
  }
}

bool set_stack(Op& op, const Insn& insn) {
  if (insn.operand_size != 8) return false;
  const Operand& a = insn.operands[0];
  switch (insn.mnemonic) {
    case Mnemonic::Push:
      if (a.kind == OperandKind::Gpr) return op.code = OP_PUSH_R, op.src = gpr(a), true;
      if (is_immediate(a)) return op.code = OP_PUSH_I, op.immediate = insn.immediate, true;
      if (is_memory(a)) return op.code = OP_PUSH_M, set_address(op, insn);
      return false;
    case Mnemonic::Pop: return op.code = OP_POP_R, op.dst = gpr(a), a.kind == OperandKind::Gpr;
    case Mnemonic::Leave: return op.code = OP_LEAVE, true;
    default: return false;
  }
}

u8 xmm(const Operand& operand) { return static_cast<u8>(operand.reg * 16); }
bool is_xmm(const Operand& operand) { return operand.kind == OperandKind::Xmm; }

/// Moves of whole XMM registers, or of their low part, which clears the rest; and plain logic.
bool set_vector(Op& op, const Insn& insn) {
  const Operand &a = insn.operands[0], &b = insn.operands[1];
  const auto whole = [&](bool aligned) {
    if (is_xmm(a) && is_xmm(b)) return op.code = OP_X_MOVE, op.dst = xmm(a), op.src = xmm(b), true;
    if (is_xmm(a)) return op.code = aligned ? OP_X_LOAD_ALIGNED : OP_X_LOAD, op.dst = xmm(a), set_address(op, insn);
    return op.code = aligned ? OP_X_STORE_ALIGNED : OP_X_STORE, op.src = xmm(b), set_address(op, insn);
  };
  const auto low = [&](OpCode load, OpCode store) {
    if (is_memory(b)) return op.code = load, op.dst = xmm(a), set_address(op, insn);
    if (is_memory(a)) return op.code = store, op.src = xmm(b), set_address(op, insn);
    return false;
  };
  const auto logic = [&](OpCode code) {
    if (!is_xmm(a) || !is_xmm(b)) return false;
    return op.code = code, op.dst = xmm(a), op.src = xmm(b), true;
  };
  switch (insn.mnemonic) {
    case Mnemonic::Movups:
    case Mnemonic::Movupd:
    case Mnemonic::Movdqu: return whole(false);
    case Mnemonic::Movaps:
    case Mnemonic::Movapd:
    case Mnemonic::Movdqa: return whole(true);
    case Mnemonic::Movss: return low(OP_X_LOAD_32, OP_X_STORE_32);
    case Mnemonic::Movsd: return low(OP_X_LOAD_64, OP_X_STORE_64);
    case Mnemonic::Movd:
    case Mnemonic::Movq: {
      const bool wide = insn.mnemonic == Mnemonic::Movq;
      if (is_xmm(a) && is_gpr(b)) return op.code = wide ? OP_X_FROM_64 : OP_X_FROM_32, op.dst = xmm(a), op.src = gpr(b), true;
      if (is_gpr(a) && is_xmm(b)) return op.code = wide ? OP_X_TO_64 : OP_X_TO_32, op.dst = gpr(a), op.src = xmm(b), true;
      if (is_xmm(a) && is_xmm(b)) return op.code = OP_X_MOVE_64, op.dst = xmm(a), op.src = xmm(b), true;
      if (!is_xmm(a) && !is_xmm(b)) return false;  // MMX
      return wide ? low(OP_X_LOAD_64, OP_X_STORE_64) : low(OP_X_LOAD_32, OP_X_STORE_32);
    }
    case Mnemonic::Pxor:
    case Mnemonic::Xorps:
    case Mnemonic::Xorpd: return logic(OP_X_XOR);
    case Mnemonic::Por:
    case Mnemonic::Orps: return logic(OP_X_OR);
    case Mnemonic::Pand:
    case Mnemonic::Andps:
    case Mnemonic::Andpd: return logic(OP_X_AND);
    default: return false;
  }
}

}  // namespace

bool set_simple(Op& op, const Insn& insn) {
  if (insn.prefixes & PREFIX_LOCK) return false;
  u32 alu;
  if (alu_of(insn.mnemonic, alu)) {
    const int form = set_form(op, insn);
    if (form < 0) return false;
    op.code = static_cast<u16>(OP_ALU + (alu * kAluForms + static_cast<u32>(form)) * kSizes + log2_size(insn.operands[0].size));
    return true;
  }
  switch (insn.mnemonic) {
    case Mnemonic::Nop:
    case Mnemonic::Pause:
    case Mnemonic::Prefetch: op.code = OP_NOP; return true;
    default: return set_move(op, insn) || set_stack(op, insn) || set_arithmetic(op, insn) || set_vector(op, insn);
  }
}

u16 fused_code(const Op& op, u8 condition) {
  const u32 first = OP_ALU + ALU_Cmp * kAluForms * kSizes;
  if (op.code < first || op.code >= OP_ALU + kAlus * kAluForms * kSizes) return 0;
  const u32 place = (op.code - first) % (kAluForms * kSizes);
  const u32 form = place / kSizes, size = place % kSizes;
  const bool test = op.code - first >= kAluForms * kSizes;
  if (size == 1 || (size == 0 && (form == FORM_RM || form == FORM_MR))) return 0;
  u32 code = condition;
  if (test) {  // C and O are clear
    if (code == 12) code = 8;
    if (code == 13) code = 9;
    if (code == 6) code = 4;
    if (code == 7) code = 5;
    if (code != 4 && code != 5 && code != 8 && code != 9 && code != 14 && code != 15) return 0;
  } else if (code < 2 || code == 10 || code == 11) {
    return 0;
  }
  return static_cast<u16>((test ? OP_TEST_JCC : OP_CMP_JCC) + place * kConditions + code);
}
