/// Control flow after Ramsey, "Beyond Relooper: recursive translation of unstructured control flow to structured control flow" (ICFP 2022).
#include "emitter.h"

#include "translated.h"

using namespace wasm;

namespace jit {

namespace {

u32 pointer(const void* to) { return u32(reinterpret_cast<uintptr_t>(to)); }

u32 cpu_at(u32 offset) { return pointer(&the_cpu()) + offset; }

}  // namespace

bool Emitter::emit() {
  find_dead_flags();
  find_kinds();
  find_clean();
  find_loops();
  measuring_ = true;
  emit_function();  // once to see which registers it needs, once with those
  measuring_ = false;
  held_ = used_;
  held_xmm_ = used_xmm_;
  changed_ = written_;
  changed_xmm_ = written_xmm_;
  w.restart();
  measured_ = accesses_;
  accesses_ = 0;
  emit_function();
  return !failed_ && !w.overflowed();
}

/// Blocks between a loop's header, which dominates them, and a backward edge to it.
void Emitter::find_loops() {
  for (u32 i = 0; i < region_.block_count; ++i) {
    const u8 successors[] = {region_.blocks[i].next, region_.blocks[i].taken};
    for (const u8 header : successors) {
      if (header == kNoBlock || header > i) continue;
      for (u32 k = header; k <= i; ++k) {
        u32 above = k;
        while (above > header) above = region_.blocks[above].dominator;
        in_loop_[k] |= above == header;
      }
    }
  }
}

void Emitter::emit_function() {
  w.number(5);  // groups of locals
  w.number(LAST_I64 - GPR + 1);
  w.byte(I64);
  w.number(LAST_I32 - LAST_I64);
  w.byte(I32);
  w.number(LAST_V128 - XMM + 1);
  w.byte(V128);
  w.number(LAST_F64 - LAST_V128);
  w.byte(F64);
  w.number(LAST_F32 - LAST_F64);
  w.byte(F32);
  prologue();
  w.begin(BLOCK);
  exit_label_ = ++depth_;
  emit_tree(0);
  w.end();
  --depth_;
  epilogue();
  w.get(BUDGET);
  w.end();
}

void Emitter::prologue() {
  reload_flags();
  for (u32 i = 0; i < 16; ++i) {
    if (held_ & (1u << i)) {
      w.constant32(0);
      w.memory(I64_LOAD, cpu_at(u32(offsetof(Cpu, gpr)) + 8 * i));
      w.set(GPR + i);
    }
    if (held_xmm_ & (1u << i)) {
      w.constant32(0);
      w.memory(V128_LOAD, cpu_at(u32(offsetof(Cpu, xmm)) + 16 * i));
      w.set(XMM + i);
    }
  }
}

void Emitter::epilogue() {
  for (u32 i = 0; i < 16; ++i) {
    if (changed_ & (1u << i)) {
      w.constant32(0);
      w.get(GPR + i);
      w.memory(I64_STORE, cpu_at(u32(offsetof(Cpu, gpr)) + 8 * i));
    }
    if (changed_xmm_ & (1u << i)) {
      w.constant32(0);
      w.get(XMM + i);
      w.memory(V128_STORE, cpu_at(u32(offsetof(Cpu, xmm)) + 16 * i));
    }
  }
  w.constant32(0);
  w.get(RIP);
  w.memory(I64_STORE, cpu_at(u32(offsetof(Cpu, rip))));
  spill_flags();
}

namespace {

struct FlagPart {
  u32 local;
  size_t offset;
};
constexpr FlagPart kFlagParts[] = {
    {FLAG_A_LOCAL, offsetof(LeftFlags, a)},          {FLAG_B_LOCAL, offsetof(LeftFlags, b)},           {FLAG_RESULT_LOCAL, offsetof(LeftFlags, result)},
    {STEP_RESULT, offsetof(LeftFlags, step_result)}, {TURN_RESULT, offsetof(LeftFlags, turn_result)}, {KIND, offsetof(LeftFlags, kind)},
    {STEP, offsetof(LeftFlags, step)},               {TURN, offsetof(LeftFlags, turn)},
};

}  // namespace

void Emitter::spill_flags() {
  for (const FlagPart& part : kFlagParts) {
    w.constant32(0);
    w.get(part.local);
    w.memory(part.local <= LAST_I64 ? I64_STORE : I32_STORE, pointer(&left_flags) + u32(part.offset));
  }
}

/// As the function before has left them.
void Emitter::reload_flags() {
  for (const FlagPart& part : kFlagParts) {
    w.constant32(0);
    w.memory(part.local <= LAST_I64 ? I64_LOAD : I32_LOAD, pointer(&left_flags) + u32(part.offset));
    w.set(part.local);
  }
}

/// Instructions of a block that this function runs.
u32 Emitter::counted_of(u8 block) const {
  return region_.blocks[block].count - (region_.blocks[block].ending == Ending::Leaves ? 1 : 0);
}

void Emitter::emit_tree(u8 block) {
  u8 merges[kRegionBlocks];
  u32 count = 0;
  for (u32 i = block + 1; i < region_.block_count; ++i) {
    if (region_.blocks[i].dominator == block && region_.blocks[i].entries > 1) merges[count++] = u8(i);
  }
  if (!region_.blocks[block].loop) return emit_within(block, merges, count);
  check_ahead(block);
  look_first(block);
  w.begin(LOOP);
  loop_label_[block] = ++depth_;
  emit_within(block, merges, count);
  w.end();
  --depth_;
}

void Emitter::emit_within(u8 block, const u8* merges, u32 count) {
  if (!count) return emit_block(block);
  const u8 last = merges[count - 1];
  w.begin(BLOCK);
  merge_label_[last] = ++depth_;
  emit_within(block, merges, count - 1);
  w.end();
  --depth_;
  emit_tree(last);
}

void Emitter::emit_block(u8 number) {
  const RegionBlock& block = region_.blocks[number];
  block_ = number;
  kinds_ = kinds_in_[number];
  clean_ = clean_in_[number];
  block_version_ = versions_;
  for (u32 i = 0; i < 16; ++i) version_[i] = ++versions_, moved_[i] = 0;
  index_ = block.first;
  if (block.loop) emit_loop_head(number);
  if (const u32 counted = counted_of(number)) {
    w.get(BUDGET);
    w.constant32(counted);
    w.op(I32_SUB);
    w.set(BUDGET);
  }
  const u32 plain = block.count - (block.ending == Ending::Falls ? 0 : 1);
  for (u32 i = 0; i < plain; ++i) {
    index_ = block.first + i;
    emit_instruction(region_.instructions[index_]);
  }
  note_steps(number);
  join_lanes();
  apart_ = tame_ = 0;
  index_ = block.first + block.count - 1;
  const Kinds kinds = kinds_;
  switch (block.ending) {
    case Ending::Falls:
    case Ending::Jumps:
      return emit_edge(number, block.next, block.next_address);
    case Ending::Leaves:
      return leave(block.next_address, counted_of(number));
    case Ending::Calls:
      emit_going(region_.instructions[index_]);
      return emit_edge(number, block.next, block.next_address);
    case Ending::Returns:
      emit_going(region_.instructions[index_]);
      w.get(RIP);
      w.constant(block.next_address);
      w.op(I64_EQ);
      w.begin(IF);
      ++depth_;
      emit_edge(number, block.next, block.next_address);
      w.op(ELSE);
      kinds_ = kinds;
      settle_kinds();
      w.branch(depth_ - exit_label_);
      w.end();
      --depth_;
      w.op(UNREACHABLE);
      return;
    case Ending::Goes:
      emit_going(region_.instructions[index_]);
      settle_kinds();
      return w.branch(depth_ - exit_label_);
    case Ending::Branches:
      push_condition(region_.instructions[index_].condition);
      w.begin(IF);
      ++depth_;
      emit_edge(number, block.taken, block.taken_address);
      w.op(ELSE);
      kinds_ = kinds;
      block_ = number;
      index_ = block.first + block.count - 1;
      emit_edge(number, block.next, block.next_address);
      w.end();
      --depth_;
      w.op(UNREACHABLE);
      return;
  }
}

void Emitter::emit_edge(u8 from, u8 to, u64 address) {
  if (to == kNoBlock) return leave(address, counted_of(from));
  settle_kinds_for(kinds_in_[to]);
  if (to <= from) {
    if (to != from) look_first(to);
    return w.branch(depth_ - loop_label_[to]);
  }
  if (region_.blocks[to].entries > 1) return w.branch(depth_ - merge_label_[to]);
  emit_tree(to);
}

void Emitter::leave(u64 address, u32 done) {
  const u32 undone = counted_of(block_) - done;
  if (undone) {
    w.get(BUDGET);
    w.constant32(undone);
    w.op(I32_ADD);
    w.set(BUDGET);
  }
  join_lanes();
  w.constant(address);
  w.set(RIP);
  settle_kinds();
  w.branch(depth_ - exit_label_);
}

/// Whether it reads its memory operand, then writes it. Exchanges do so whichever operand that is.
static bool updates_memory(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Add:
    case Mnemonic::Sub:
    case Mnemonic::Adc:
    case Mnemonic::Sbb:
    case Mnemonic::And:
    case Mnemonic::Or:
    case Mnemonic::Xor:
    case Mnemonic::Inc:
    case Mnemonic::Dec:
    case Mnemonic::Neg:
    case Mnemonic::Not:
    case Mnemonic::Shl:
    case Mnemonic::Shr:
    case Mnemonic::Sar:
    case Mnemonic::Rol:
    case Mnemonic::Ror:
    case Mnemonic::Cmpxchg:
    case Mnemonic::Xadd:
      return insn.operands[0].kind == OperandKind::Memory;
    case Mnemonic::Xchg:
      return true;
    default:
      return false;
  }
}

void Emitter::emit_instruction(const Insn& insn) {
  updates_ = updates_memory(insn);
  if (!emit_integer(insn) && !emit_sse(insn)) emit_by_handler(insn);
  updates_ = false;
  clean_ = clean_after(insn, clean_);
}

void Emitter::emit_by_handler(const Insn& insn) {
  join_lanes();
  apart_ = tame_ = 0;
  settle_kinds();
  epilogue();
  const u32 number = measuring_ ? 0 : hold(insn);
  if (number == ~0u) failed_ = true;
  w.constant32(number);
  call_helper(helper_execute());
  for (u32 i = 0; i < 16; ++i) {
    if (held_ & (1u << i)) {
      w.constant32(0);
      w.memory(I64_LOAD, cpu_at(u32(offsetof(Cpu, gpr)) + 8 * i));
      w.set(GPR + i);
    }
    if (held_xmm_ & (1u << i)) {
      w.constant32(0);
      w.memory(V128_LOAD, cpu_at(u32(offsetof(Cpu, xmm)) + 16 * i));
      w.set(XMM + i);
    }
  }
  kinds_ = {};
  for (u8 i = 0; i < 16; ++i) note_change(i);
  w.tee(DONE);  // 0 done, 1 done and the code is stale, 2 an exit was set
  w.constant32(2);
  w.op(I32_EQ);
  leave_before_if();
  w.get(DONE);
  w.begin(IF);
  ++depth_;
  leave(region_.addresses[index_] + insn.length, index_ - region_.blocks[block_].first + 1);
  w.end();
  --depth_;
}

}  // namespace jit
