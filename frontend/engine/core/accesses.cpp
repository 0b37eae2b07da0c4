/// Checks of memory accesses that one check can stand for: in a block, those through the same registers, which constants only have changed in
/// between, and all for reading or all for writing.
#include "emitter.h"
#include "ranges.h"

namespace jit {

namespace {

constexpr u8 kRsp = 4;

/// What the instruction adds to the register, if that is a constant.
bool step_of(const Insn& insn, u8 number, i64& step) {
  const Operand& to = insn.operands[0];
  const bool is_target = to.kind == OperandKind::Gpr && to.reg == number && to.size == 8;
  switch (insn.mnemonic) {
    case Mnemonic::Push:
    case Mnemonic::Pop:
      step = insn.mnemonic == Mnemonic::Push ? -8 : 8;
      return number == kRsp && !is_target;
    case Mnemonic::Inc:
    case Mnemonic::Dec:
      step = insn.mnemonic == Mnemonic::Inc ? 1 : -1;
      return is_target;
    case Mnemonic::Add:
    case Mnemonic::Sub:
      step = insn.mnemonic == Mnemonic::Add ? i64(insn.immediate) : -i64(insn.immediate);
      return is_target && insn.operands[1].kind == OperandKind::Immediate;
    case Mnemonic::Lea:
      step = insn.displacement;
      return is_target && insn.base == number && insn.index == kNoRegister && !(insn.prefixes & PREFIX_ADDRESS32);
    default:
      return false;
  }
}

}  // namespace

/// A register gets a value; in another block it means nothing any more what it had before.
void Emitter::note_change(u8 number) {
  if (!measuring_) return;
  const Insn& insn = region_.instructions[index_];
  i64 step = 0;
  if (step_of(insn, number, step)) {
    moved_[number] += step;
  } else {
    moved_[number] = 0;
    version_[number] = ++versions_;
  }
}

void Emitter::note_access(u32 size, bool store) {
  if (accesses_ == kAccesses) {
    failed_ = true;
    return;
  }
  Access& access = access_[accesses_];
  const bool has_base = place_.base != kNoRegister, has_index = place_.index != kNoRegister;
  access.place = place_;
  access.block = block_;
  access.store = store;
  access.base_version = has_base ? version_[place_.base] : 0;
  access.index_version = has_index ? version_[place_.index] : 0;
  access.low = place_.displacement;
  if (has_base) access.low += moved_[place_.base];
  if (has_index) access.low += moved_[place_.index] * place_.scale;
  access.high = access.low + i64(size);
  access.before = 0;
  access.leader = accesses_;
  access.others = 0;
  access.ahead = false;
  // The last one like it in the block says which check that is.
  for (u32 i = accesses_; i-- > 0 && access_[i].block == block_;) {
    const Access& earlier = access_[i];
    const bool alike = !place_.narrow && !earlier.place.narrow && earlier.store == store && earlier.base_version == access.base_version && earlier.index_version == access.index_version &&
                       earlier.place.base == place_.base && earlier.place.index == place_.index && earlier.place.scale == place_.scale &&
                       earlier.place.segment == place_.segment;
    if (!alike) continue;
    Access& leader = access_[earlier.leader];
    const i64 low = leader.low < access.low ? leader.low : access.low, high = leader.high > access.high ? leader.high : access.high;
    if (high - low > i64(kPageSize)) break;
    leader.before += leader.low - low;
    leader.low = low;
    leader.high = high;
    ++leader.others;
    access.leader = earlier.leader;
    break;
  }
}

}  // namespace jit
