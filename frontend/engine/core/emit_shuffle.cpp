/// Moves of halves and shuffles of XMM registers.
#include "emitter.h"

using namespace wasm;

namespace jit {

bool is_shuffle(const Insn& insn) {
  const Operand& from = insn.operands[1];
  switch (insn.mnemonic) {
    case Mnemonic::Movlps:
    case Mnemonic::Movlpd:
    case Mnemonic::Movhps:
    case Mnemonic::Movhpd:
    case Mnemonic::Movhlps:
    case Mnemonic::Movlhps:
    case Mnemonic::Movmskps:
    case Mnemonic::Movmskpd:
    case Mnemonic::Pshufb:
    case Mnemonic::Pshuflw:
    case Mnemonic::Pshufhw:
    case Mnemonic::Shufps:
    case Mnemonic::Shufpd:
    case Mnemonic::Pmuludq:
      return from.kind == OperandKind::Xmm || from.kind == OperandKind::Memory;
    case Mnemonic::Palignr:
      return (insn.immediate & 0xff) <= 16;
    default:
      return false;
  }
}

/// Between memory and a half of a register, the other half of which stays.
void Emitter::emit_half_move(const Insn& insn) {
  const bool high = insn.mnemonic == Mnemonic::Movhps || insn.mnemonic == Mnemonic::Movhpd;
  const Operand& to = insn.operands[0];
  find_address(insn);
  if (to.kind == OperandKind::Memory) {
    get_xmm(insn.operands[1].reg);
    w.simd(I64X2_EXTRACT_LANE);
    w.byte(high);
    return pop_store(8);
  }
  push_load(8);
  w.set(T0);
  get_xmm(to.reg);
  w.get(T0);
  w.simd(I64X2_REPLACE_LANE);
  w.byte(high);
  set_xmm(to.reg);
}

void Emitter::emit_shuffle(const Insn& insn) {
  const Operand& to = insn.operands[0];
  const Operand& from = insn.operands[1];
  const u32 immediate = insn.immediate & 0xff;
  // Of both operands: bytes 0 to 15 are the destination's, 16 to 31 the source's.
  u8 lanes[16];
  const auto shuffle_both = [&] {
    push_vector(insn, from);
    w.set(VECTOR);
    get_xmm(to.reg);
    w.get(VECTOR);
    shuffle(lanes);
    set_xmm(to.reg);
  };
  const auto chosen = [&](u32 bits, u32 element) { return immediate >> (element * bits) & ((1u << bits) - 1); };
  switch (insn.mnemonic) {
    case Mnemonic::Movhlps:
      for (u32 i = 0; i < 16; ++i) lanes[i] = u8(i < 8 ? 24 + i : i);
      return shuffle_both();
    case Mnemonic::Movlhps:
      for (u32 i = 0; i < 16; ++i) lanes[i] = u8(i < 8 ? i : 8 + i);
      return shuffle_both();
    case Mnemonic::Shufps:
      for (u32 i = 0; i < 16; ++i) lanes[i] = u8((i < 8 ? 0 : 16) + chosen(2, i / 4) * 4 + i % 4);
      return shuffle_both();
    case Mnemonic::Shufpd:
      for (u32 i = 0; i < 16; ++i) lanes[i] = u8((i < 8 ? 0 : 16) + chosen(1, i / 8) * 8 + i % 8);
      return shuffle_both();
    case Mnemonic::Pshuflw:
      for (u32 i = 0; i < 16; ++i) lanes[i] = u8(16 + (i < 8 ? chosen(2, i / 2) * 2 + i % 2 : i));
      return shuffle_both();
    case Mnemonic::Pshufhw:
      for (u32 i = 0; i < 16; ++i) lanes[i] = u8(16 + (i < 8 ? i : 8 + chosen(2, i / 2 - 4) * 2 + i % 2));
      return shuffle_both();
    case Mnemonic::Palignr:  // the destination is above the source
      for (u32 i = 0; i < 16; ++i) lanes[i] = u8((i + immediate) ^ 16);
      return shuffle_both();
    case Mnemonic::Pshufb:
      // An index with its top bit set gives 0, and so does wasm's above 15; of others four bits count.
      push_vector(insn, from);
      w.simd(V128_CONST);
      for (u32 i = 0; i < 16; ++i) w.byte(0x8f);
      w.simd(V128_AND);
      w.set(VECTOR);
      get_xmm(to.reg);
      w.get(VECTOR);
      w.simd(I8X16_SWIZZLE);
      return set_xmm(to.reg);
    case Mnemonic::Pmuludq: {
      const auto low_halves = [&] {
        w.simd(V128_CONST);
        for (u32 i = 0; i < 16; ++i) w.byte(i % 8 < 4 ? 0xff : 0);
        w.simd(V128_AND);
      };
      push_vector(insn, from);
      low_halves();
      get_xmm(to.reg);
      low_halves();
      w.simd(I64X2_MUL);
      return set_xmm(to.reg);
    }
    case Mnemonic::Movmskps:
    case Mnemonic::Movmskpd:
      get_xmm(from.reg);
      w.simd(insn.mnemonic == Mnemonic::Movmskps ? I32X4_BITMASK : I64X2_BITMASK);
      w.op(I64_EXTEND_I32_U);
      return set_register(to.reg);
    default:
      return emit_half_move(insn);
  }
}

}  // namespace jit
