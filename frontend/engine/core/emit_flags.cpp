#include "emitter.h"

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

FlagEffect by_handler() { return {.translated = false, .observes = true, .counted = false, .use = FlagUse::None, .kind = FlagKind::Core}; }

FlagEffect changes_flags(FlagUse use, FlagKind kind, bool observes) {
  return {.translated = true, .observes = observes, .counted = false, .use = use, .kind = kind};
}

FlagEffect leaves_flags(bool observes) { return changes_flags(FlagUse::None, FlagKind::Core, observes); }

FlagEffect sets_flags(FlagKind kind, bool observes) { return changes_flags(FlagUse::Sets, kind, observes); }

FlagEffect effect_of_shift(const Insn& insn, FlagKind kind, bool memory) {
  const bool rotates = kind == FlagKind::Core;
  const u32 bits = 8 * insn.operand_size;
  if (rotates && bits < 32) return by_handler();
  FlagEffect effect = changes_flags(rotates ? FlagUse::Turns : FlagUse::Sets, kind, memory);
  if (insn.operands[1].kind == OperandKind::Immediate) {
    const u32 count = insn.immediate & (bits == 64 ? 63 : 31);
    return count == 0 || count >= bits ? by_handler() : effect;
  }
  effect.counted = true;
  return bits < 32 ? by_handler() : effect;
}

}  // namespace

FlagEffect effect_of(const Insn& insn) {
  const bool memory = has_memory(insn);
  if (is_translated_sse(insn)) return is_comparison_mnemonic(insn) ? sets_flags(FlagKind::Order, true) : leaves_flags(true);
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
    case Mnemonic::Dec:
      return changes_flags(FlagUse::Steps, FlagKind::Core, memory);
    case Mnemonic::Imul:
      if (insn.operand_count >= 2) return sets_flags(FlagKind::Imul, memory);
      [[fallthrough]];
    case Mnemonic::Mul:
      return insn.operand_size < 4 ? by_handler() : sets_flags(FlagKind::Mul, memory);
    case Mnemonic::Div:
    case Mnemonic::Idiv:
      return insn.operand_size < 4 ? by_handler() : leaves_flags(true);
    case Mnemonic::Cmpxchg:
    case Mnemonic::Xadd:
      if (!memory || insn.operand_size < 4) return by_handler();
      return sets_flags(insn.mnemonic == Mnemonic::Xadd ? FlagKind::Add : FlagKind::Sub, true);
    case Mnemonic::Bsf:
    case Mnemonic::Bsr:
      return insn.operand_size < 4 ? by_handler() : sets_flags(FlagKind::Logic, true);
    case Mnemonic::Bt:  // the carry, and the overflow, which is undefined
    case Mnemonic::Bts:
    case Mnemonic::Btr:
    case Mnemonic::Btc:
      return memory ? by_handler() : changes_flags(FlagUse::Turns, FlagKind::Core, false);
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

/// From behind. A block that is not a loop's beginning, where the function may be left, passes on what is seen in it.
void Emitter::find_dead_flags() {
  bool dead_before[kRegionBlocks] = {};
  for (u32 i = region_.block_count; i-- > 0;) {
    const RegionBlock& block = region_.blocks[i];
    const bool goes_on = (block.ending == Ending::Falls || block.ending == Ending::Jumps) && block.next != kNoBlock && block.next > i;
    bool dead = goes_on && !region_.blocks[block.next].loop && dead_before[block.next];
    for (u32 k = block.first + block.count; k-- > block.first;) {
      dead_[k] = dead;
      if (block.ending == Ending::Jumps && k + 1u == u32(block.first + block.count)) continue;
      const FlagEffect effect = effect_of(region_.instructions[k]);
      if (effect.observes) dead = false;
      else if (effect.use == FlagUse::Sets && !effect.counted) dead = true;
    }
    dead_before[i] = dead;
  }
}

Kinds Emitter::kinds_after(u32 index, const Kinds& before) const {
  const Insn& insn = region_.instructions[index];
  const FlagEffect effect = effect_of(insn);
  if (!effect.translated) return {};
  if (flags_are_dead(index)) return before;
  Kinds after = before;
  switch (effect.use) {
    case FlagUse::None:
      break;
    case FlagUse::Sets:
      after = {kind_number(effect.kind, insn.operand_size), 0, 0};
      if (effect.counted) after = {kUnknown, before.step ? kUnknown : 0, before.turn ? kUnknown : 0};
      break;
    case FlagUse::Steps:
      after.step = step_number(insn.mnemonic == Mnemonic::Dec, log_of(insn.operand_size));
      if (before.turn != kUnknown) after.turn = before.turn & ~kTurnLast;
      break;
    case FlagUse::Turns:
      after.turn = effect.counted ? kUnknown : turn_number(insn.mnemonic == Mnemonic::Ror, log_of(insn.operand_size)) | kTurnLast;
      break;
  }
  return after;
}

void Emitter::find_kinds() {
  bool reached[kRegionBlocks] = {true};
  kinds_in_[0] = {kUnknown, kUnknown, kUnknown};
  const auto meet = [](u32 a, u32 b) { return a == b ? a : kUnknown; };
  for (bool changed = true; changed;) {
    changed = false;
    for (u32 i = 0; i < region_.block_count; ++i) {
      if (!reached[i]) continue;
      const RegionBlock& block = region_.blocks[i];
      Kinds kinds = kinds_in_[i];
      const u32 plain = block.count - (block.ending == Ending::Falls ? 0 : 1);
      for (u32 k = 0; k < plain; ++k) kinds = kinds_after(block.first + k, kinds);
      const u8 successors[] = {block.next, block.taken};
      for (const u8 to : successors) {
        if (to == kNoBlock) continue;
        const Kinds in = kinds_in_[to];
        const Kinds met = reached[to] ? Kinds{meet(in.base, kinds.base), meet(in.step, kinds.step), meet(in.turn, kinds.turn)} : kinds;
        changed |= !reached[to] || met != in;
        kinds_in_[to] = met;
        reached[to] = true;
      }
    }
  }
}

void Emitter::settle_kinds_for(const Kinds& next) {
  const struct {
    u32 known, next, local;
  } parts[] = {{kinds_.base, next.base, KIND}, {kinds_.step, next.step, STEP}, {kinds_.turn, next.turn, TURN}};
  for (const auto& part : parts) {
    if (part.known == kUnknown || part.next != kUnknown) continue;
    w.constant32(part.known);
    w.set(part.local);
  }
}

void Emitter::settle_kinds() { settle_kinds_for({kUnknown, kUnknown, kUnknown}); }

void Emitter::note_flags(const Insn& insn) {
  if (flags_are_dead(index_)) return;
  const FlagEffect effect = effect_of(insn);
  const Kinds after = kinds_after(index_, kinds_);
  if (effect.counted) {
    settle_kinds();
    w.get(SECOND);
    w.op(I64_EQZ);
    w.op(I32_EQZ);
    w.begin(IF);
    ++depth_;
  }
  const auto copy = [&](u32 from, u32 into) {
    w.get(from);
    w.set(into);
  };
  switch (effect.use) {
    case FlagUse::None:
      break;
    case FlagUse::Sets:
      if (effect.kind != FlagKind::Logic && effect.kind != FlagKind::Order) {
        copy(T1, FLAG_A_LOCAL);
        copy(SECOND, FLAG_B_LOCAL);
      }
      copy(T0, FLAG_RESULT_LOCAL);
      kinds_ = {kind_number(effect.kind, insn.operand_size), 0, 0};
      break;
    case FlagUse::Steps:
      copy(T0, STEP_RESULT);
      if (kinds_.turn == kUnknown) {
        w.get(TURN);
        w.constant32(~kTurnLast);
        w.op(I32_AND);
        w.set(TURN);
      }
      break;
    case FlagUse::Turns:
      copy(T0, TURN_RESULT);
      kinds_.turn = turn_number(insn.mnemonic == Mnemonic::Ror, log_of(insn.operand_size)) | kTurnLast;
      break;
  }
  if (effect.counted) {
    settle_kinds();
    w.end();
    --depth_;
  }
  kinds_ = after;
}

}  // namespace jit
