/// Loops of one block in which addresses move by constants: at the head it is found out for how many turns they stay in their remembered ranges,
/// and until then no turn looks. The budget counts the turns: below LIMIT, the head looks again.
#include "emitter.h"
#include "ranges.h"

using namespace wasm;

namespace jit {

namespace {

u32 pointer(const void* to) { return u32(reinterpret_cast<uintptr_t>(to)); }

/// More turns than any budget is for.
constexpr u32 kMostTimes = 1u << 17;

}  // namespace

/// Whether it is all of a loop. It may be the head of another, too.
bool Emitter::is_single(u8 number) const {
  const RegionBlock& block = region_.blocks[number];
  return block.loop && (block.next == number || block.taken == number);
}

/// After the block's instructions, when it is written for the first time.
void Emitter::note_steps(u8 number) {
  if (!measuring_ || steady_loops_ == kSteadyLoops || !is_single(number)) return;
  LoopSteps& loop = steady_loop_[steady_loops_];
  loop.block = number;
  loop.steady = 0;
  for (u32 i = 0; i < 16; ++i) {
    if (version_[i] == block_version_ + 1 + i) loop.steady |= u16(1u << i);
    loop.steps[i] = moved_[i];
  }
  if (loop.steady) ++steady_loops_;
}

LoopSteps* Emitter::steps_of(u8 number) {
  for (u32 i = 0; i < steady_loops_; ++i) {
    if (steady_loop_[i].block == number) return &steady_loop_[i];
  }
  return nullptr;
}

/// Says of the block's accesses, which come next, whether they are checked ahead.
void Emitter::check_ahead(u8 number) {
  LoopSteps* const loop = steps_of(number);
  if (measuring_ || !loop) return;
  const auto is_steady = [&](u8 reg) { return reg == kNoRegister || loop->steady >> reg & 1; };
  loop->ahead = false;
  for (u32 i = accesses_; i < measured_ && access_[i].block == number; ++i) {
    const Place& place = access_[i].place;
    const bool moves = place.base != kNoRegister || place.index != kNoRegister;
    access_[i].ahead = access_[i].leader == i && moves && !place.narrow && is_steady(place.base) && is_steady(place.index) &&
                       !range_at(range_of(place, access_[i].store)).changing;
    loop->ahead |= access_[i].ahead;
  }
}

/// Before the loop is entered.
void Emitter::look_first(u8 number) {
  const LoopSteps* const loop = steps_of(number);
  if (measuring_ || !loop || !loop->ahead) return;
  w.constant32(0x7fffffff);
  w.set(LIMIT);
}

void Emitter::leave_if_spent(u8 number) {
  w.get(BUDGET);
  w.constant32(0);
  w.op(I32_LT_S);
  w.begin(IF);
  ++depth_;
  leave(region_.blocks[number].start, counted_of(number));  // nothing was counted yet
  w.end();
  --depth_;
}

void Emitter::emit_loop_head(u8 number) {
  const LoopSteps* const loop = steps_of(number);
  if (measuring_ || !loop || !loop->ahead) return leave_if_spent(number);
  w.get(BUDGET);
  w.get(LIMIT);
  w.op(I32_LT_S);
  w.begin(IF);
  ++depth_;
  leave_if_spent(number);
  w.constant(kMostTimes);
  w.set(TIMES);
  for (u32 i = accesses_; i < measured_ && access_[i].block == number; ++i) {
    if (access_[i].ahead) emit_check_ahead(access_[i], *loop);
  }
  w.get(BUDGET);
  w.get(TIMES);
  w.op(I32_WRAP_I64);
  w.constant32(counted_of(number));
  w.op(I32_MUL);
  w.op(I32_SUB);
  w.set(LIMIT);
  w.get(LIMIT);
  w.constant32(0);
  w.get(LIMIT);
  w.constant32(0);
  w.op(I32_GT_S);
  w.op(SELECT);
  w.set(LIMIT);
  w.end();
  --depth_;
}

/// Leaves when the access would not be in its range now; else TIMES is at most what it can be made after this one.
void Emitter::emit_check_ahead(const Access& access, const LoopSteps& loop) {
  const Place& place = access.place;
  const u32 number = range_of(place, access.store);
  const u32 range = pointer(&range_at(number));
  const u8 block = loop.block;
  const auto leave_if_outside = [&](u64 missed) {
    w.get(OFFSET);
    w.constant32(0);
    w.memory(I64_LOAD, range + u32(offsetof(Range, starts)));
    w.op(I64_GE_U);
    w.begin(IF);
    ++depth_;
    w.constant32(0);
    w.get(ADDRESS);
    w.constant(missed);
    w.op(I64_ADD);
    w.memory(I64_STORE, range + u32(offsetof(Range, missed)));
    w.constant32(0);
    w.constant32(number + 1);
    w.memory(I32_STORE, pointer(&missed_range()));
    leave(region_.blocks[block].start, counted_of(block));
    w.end();
    --depth_;
  };
  i64 step = 0;
  w.constant(u64(access.low));
  if (place.base != kNoRegister) {
    get_register(place.base);
    w.op(I64_ADD);
    step += loop.steps[place.base];
  }
  if (place.index != kNoRegister) {
    get_register(place.index);
    w.constant(place.scale);
    w.op(I64_MUL);
    w.op(I64_ADD);
    step += loop.steps[place.index] * place.scale;
  }
  if (place.segment) {
    push_segment_base(place.segment);
    w.op(I64_ADD);
  }
  w.tee(ADDRESS);
  w.constant32(0);
  w.memory(I64_LOAD, range + u32(offsetof(Range, start)));
  w.op(I64_SUB);
  w.set(OFFSET);
  leave_if_outside(0);
  const i64 behind = access.high - access.low - i64(kWidest);
  if (behind > 0) {
    w.get(OFFSET);
    w.constant(u64(behind));
    w.op(I64_ADD);
    w.set(OFFSET);
    leave_if_outside(u64(behind) + kWidest - 1);
  }
  if (!step) return;
  // Bytes that it may move, and turns, of which no fewer than half are found.
  if (step > 0) {
    w.constant32(0);
    w.memory(I64_LOAD, range + u32(offsetof(Range, starts)));
    w.constant(1);
    w.op(I64_SUB);
    w.get(OFFSET);
    w.op(I64_SUB);
  } else {
    w.get(OFFSET);
    if (behind > 0) {
      w.constant(u64(behind));
      w.op(I64_SUB);
    }
  }
  const u64 size = u64(step > 0 ? step : -step);
  w.constant(size == 1 ? 0 : u64(64 - __builtin_clzll(size - 1)));
  w.op(I64_SHR_U);
  w.set(OFFSET);
  w.get(OFFSET);
  w.get(TIMES);
  w.get(OFFSET);
  w.get(TIMES);
  w.op(I64_LT_U);
  w.op(SELECT);
  w.set(TIMES);
}

}  // namespace jit
