#include "emitter.h"
#include "translated.h"

using namespace wasm;

namespace jit {

namespace {

constexpr u32 log_of(u32 size) { return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3; }

constexpr u32 kind_number(FlagKind kind, u32 size) { return u32(kind) * 4 + log_of(size); }

bool has_memory(const Insn& insn) {
  for (u32 i = 0; i < insn.operand_count; ++i) {
    if (insn.operands[i].kind == OperandKind::Memory) return true;
  }
  return false;
}

/// Only operands that the translator can push and pop.
bool is_plain(const Insn& insn) {
  for (u32 i = 0; i < insn.operand_count; ++i) {
    const OperandKind kind = insn.operands[i].kind;
    if (kind != OperandKind::Gpr && kind != OperandKind::GprHigh && kind != OperandKind::Memory && kind != OperandKind::Immediate) return false;
  }
  return true;
}

FlagEffect by_handler() { return {.translated = false, .sets = false, .observes = true, .only_if_dead = false, .kind = FlagKind::Core}; }

FlagEffect leaves_flags(bool observes) { return {.translated = true, .sets = false, .observes = observes, .only_if_dead = false, .kind = FlagKind::Core}; }

FlagEffect sets_flags(FlagKind kind, bool observes) { return {.translated = true, .sets = true, .observes = observes, .only_if_dead = false, .kind = kind}; }

FlagEffect effect_of_shift(const Insn& insn, FlagKind kind, bool memory) {
  const bool rotates = kind == FlagKind::Core;
  const u32 bits = 8 * insn.operand_size;
  if (insn.operands[1].kind == OperandKind::Immediate) {
    const u32 count = insn.immediate & (bits == 64 ? 63 : 31);
    if (count == 0 || count >= bits) return by_handler();
    if (!rotates) return sets_flags(kind, memory);
  }
  if (bits < 32) return by_handler();
  // By cl flags may stay as they were; rotations leave most of them: both would take long.
  return {.translated = true, .sets = false, .observes = memory, .only_if_dead = true, .kind = kind};
}

}  // namespace

bool Emitter::flags_are_dead(u32 index) const {
  const RegionBlock& block = region_.blocks[block_];
  for (u32 i = index + 1; i < u32(block.first + block.count); ++i) {
    const FlagEffect effect = effect_of(region_.instructions[i]);
    if (effect.observes) return false;
    if (effect.sets) return true;
  }
  return false;
}

FlagEffect effect_of(const Insn& insn) {
  const bool memory = has_memory(insn);
  if (is_translated_sse(insn)) return leaves_flags(memory);
  if (!is_plain(insn)) return by_handler();
  switch (insn.mnemonic) {
    case Mnemonic::Add:
      return sets_flags(FlagKind::Add, memory);
    case Mnemonic::Sub:
    case Mnemonic::Cmp:
    case Mnemonic::Neg:
      return sets_flags(FlagKind::Sub, memory);
    case Mnemonic::And:
    case Mnemonic::Or:
    case Mnemonic::Xor:
    case Mnemonic::Test:
      return sets_flags(FlagKind::Logic, memory);
    case Mnemonic::Adc:  // they observe the carry
      return sets_flags(FlagKind::Adc, true);
    case Mnemonic::Sbb:
      return sets_flags(FlagKind::Sbb, true);
    case Mnemonic::Inc:
    case Mnemonic::Dec:  // they observe the carry, which they keep
      return sets_flags(insn.mnemonic == Mnemonic::Inc ? FlagKind::Inc : FlagKind::Dec, true);
    case Mnemonic::Imul:
      return insn.operand_count < 2 ? by_handler() : sets_flags(FlagKind::Imul, memory);
    case Mnemonic::Shl:
      return effect_of_shift(insn, FlagKind::Shl, memory);
    case Mnemonic::Shr:
      return effect_of_shift(insn, FlagKind::Shr, memory);
    case Mnemonic::Sar:
      return effect_of_shift(insn, FlagKind::Sar, memory);
    case Mnemonic::Rol:
    case Mnemonic::Ror:
      return effect_of_shift(insn, FlagKind::Core, memory);
    case Mnemonic::Lea:
    case Mnemonic::Nop:
      return leaves_flags(false);
    case Mnemonic::Mov:
    case Mnemonic::Movzx:
    case Mnemonic::Movsx:
    case Mnemonic::Movsxd:
    case Mnemonic::Not:
    case Mnemonic::Xchg:
    case Mnemonic::Cwd:
    case Mnemonic::Cbw:
      return leaves_flags(memory);
    case Mnemonic::Bswap:  // of 16 bits it is undefined: the handler knows
      return insn.operand_size == 2 ? by_handler() : leaves_flags(false);
    case Mnemonic::Push:
    case Mnemonic::Leave:
      return insn.operand_size == 8 ? leaves_flags(true) : by_handler();
    case Mnemonic::Pop:
      return insn.operand_size == 8 && insn.operands[0].kind == OperandKind::Gpr ? leaves_flags(true) : by_handler();
    case Mnemonic::Setcc:
    case Mnemonic::Cmovcc:
      return leaves_flags(true);
    default:
      return by_handler();
  }
}

u32 Emitter::kind_after(u32 index, u32 before) const {
  const Insn& insn = region_.instructions[index];
  const FlagEffect effect = effect_of(insn);
  if (!effect.translated) return 0;
  if (effect.only_if_dead) return flags_are_dead(index) ? before : 0;
  if (!effect.sets || flags_are_dead(index)) return before;
  return kind_number(effect.kind, insn.operand_size);
}

void Emitter::find_kinds() {
  constexpr u32 kNotYet = 0xfffe;
  for (u32 i = 0; i < region_.block_count; ++i) kind_in_[i] = kNotYet;
  kind_in_[0] = 0;
  for (bool changed = true; changed;) {
    changed = false;
    for (u32 i = 0; i < region_.block_count; ++i) {
      if (kind_in_[i] == kNotYet) continue;
      const RegionBlock& block = region_.blocks[i];
      block_ = u8(i);
      u32 kind = kind_in_[i];
      const u32 plain = block.count - (block.ending == Ending::Falls ? 0 : 1);
      for (u32 k = 0; k < plain; ++k) kind = kind_after(block.first + k, kind);
      const u8 successors[] = {block.next, block.taken};
      for (const u8 to : successors) {
        if (to == kNoBlock) continue;
        const u32 met = kind_in_[to] == kNotYet || kind_in_[to] == kind ? kind : kKindUnknown;
        changed |= met != kind_in_[to];
        kind_in_[to] = met;
      }
    }
  }
}

void Emitter::set_kind(FlagKind kind, u32 size) { kind_ = kind_number(kind, size); }

void Emitter::settle_kind() {
  if (kind_ == kKindUnknown) return;
  w.constant32(kind_);
  w.set(KIND);
}

bool Emitter::push_known_condition(u8 pair) {
  if (kind_ == kKindUnknown || kind_ < 4) return false;
  const FlagKind kind = FlagKind(kind_ / 4);
  const u32 size = 1u << (kind_ % 4);
  auto result = [&](bool sign) {
    w.get(FLAG_RESULT_LOCAL);
    if (sign) push_sign_extended(size);
  };
  auto compare = [&](Op op, bool sign) {
    w.get(FLAG_A_LOCAL);
    if (sign) push_sign_extended(size);
    w.get(FLAG_B_LOCAL);
    if (sign) push_sign_extended(size);
    w.op(op);
  };
  enum { OVERFLOW, BELOW, ZERO, BELOW_OR_EQUAL, SIGN, PARITY, LESS, LESS_OR_EQUAL };
  if (kind == FlagKind::Bits || kind == FlagKind::Imul) return false;
  if (pair == SIGN) {
    result(true);
    w.constant(0);
    w.op(I64_LT_S);
    return true;
  }
  if (kind == FlagKind::Sub && pair != OVERFLOW && pair != PARITY) {
    const Op unsigned_ops[] = {I64_EQ, I64_LT_U, I64_EQ, I64_LE_U, I64_EQ, I64_EQ, I64_LT_S, I64_LE_S};
    compare(unsigned_ops[pair], pair >= LESS);
    return true;
  }
  if (pair == ZERO) {
    result(false);
    w.op(I64_EQZ);
    return true;
  }
  if (kind == FlagKind::Logic) {
    switch (pair) {
      case OVERFLOW:
      case BELOW:
        w.constant32(0);
        return true;
      case BELOW_OR_EQUAL:
        result(false);
        w.op(I64_EQZ);
        return true;
      case LESS:
      case LESS_OR_EQUAL:
        result(true);
        w.constant(0);
        w.op(pair == LESS ? I64_LT_S : I64_LE_S);
        return true;
      default:
        return false;
    }
  }
  if (pair == BELOW && kind == FlagKind::Add) {
    w.get(FLAG_RESULT_LOCAL);
    w.get(FLAG_A_LOCAL);
    w.op(I64_LT_U);
    return true;
  }
  if (pair == BELOW && (kind == FlagKind::Inc || kind == FlagKind::Dec)) {
    w.get(FLAG_B_LOCAL);
    w.op(I32_WRAP_I64);
    return true;
  }
  return false;
}

void Emitter::push_condition(u8 condition) {
  if (!push_known_condition(condition >> 1)) {
    if (kind_ != kKindUnknown) {
      w.constant32(kind_);
    } else {
      w.get(KIND);
    }
    w.get(FLAG_A_LOCAL);
    w.get(FLAG_B_LOCAL);
    w.get(FLAG_RESULT_LOCAL);
    w.constant32(condition & 0xe);
    call_helper(TYPE_CONDITION, helper_condition());
  }
  if (condition & 1) w.op(I32_EQZ);
}

}  // namespace jit
