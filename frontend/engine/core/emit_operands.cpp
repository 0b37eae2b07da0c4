#include "emitter.h"
#include "ranges.h"
#include "translated.h"

using namespace wasm;

namespace jit {

namespace {

u32 pointer(const void* to) { return u32(reinterpret_cast<uintptr_t>(to)); }

constexpr u8 kRsp = 4;

constexpr u64 ones(u32 size) { return size == 8 ? ~u64{0} : (u64{1} << (8 * size)) - 1; }

}  // namespace

void Emitter::get_register(u8 number) {
  used_ |= 1u << number;
  w.get(GPR + number);
}

void Emitter::set_register(u8 number) {
  used_ |= 1u << number;
  written_ |= 1u << number;
  note_change(number);
  w.set(GPR + number);
}

void Emitter::mask_to(u32 size) {
  if (size == 8) return;
  if (size == 4) {
    w.op(I32_WRAP_I64);
    w.op(I64_EXTEND_I32_U);
    return;
  }
  w.constant(ones(size));
  w.op(I64_AND);
}

void Emitter::push_sign_extended(u32 size) {
  if (size == 1) w.op(I64_EXTEND8_S);
  if (size == 2) w.op(I64_EXTEND16_S);
  if (size == 4) w.op(I64_EXTEND32_S);
}

void Emitter::call_helper(u32 table_index) {
  w.constant32(table_index);
  w.op(CALL_INDIRECT);
  w.number(kFunctionType);
  w.number(0);
}

void Emitter::leave_before() {
  leave(region_.addresses[index_], index_ - region_.blocks[block_].first);
}

void Emitter::leave_before_if() {
  w.begin(IF);
  ++depth_;
  leave_before();
  w.end();
  --depth_;
}

void Emitter::find_address(const Insn& insn) {
  bool any = false;
  auto add = [&] {
    if (any) w.op(I64_ADD);
    any = true;
  };
  if (insn.base != kNoRegister) {
    get_register(insn.base);
    add();
  }
  if (insn.index != kNoRegister) {
    get_register(insn.index);
    if (insn.scale > 1) {
      w.constant(insn.scale == 2 ? 1 : insn.scale == 4 ? 2 : 3);
      w.op(I64_SHL);
    }
    add();
  }
  if (insn.displacement || !any) {
    w.constant(u64(insn.displacement));
    add();
  }
  if (insn.prefixes & PREFIX_ADDRESS32) mask_to(4);
  if ((insn.prefixes & (PREFIX_FS | PREFIX_GS)) && insn.mnemonic != Mnemonic::Lea) {
    push_segment_base(insn.prefixes);
    w.op(I64_ADD);
  }
  w.set(ADDRESS);
  const u8 segment = insn.prefixes & (PREFIX_FS | PREFIX_GS);
  place_ = {insn.base, insn.index, insn.scale, segment, (insn.prefixes & PREFIX_ADDRESS32) != 0, insn.displacement};
  is_constant_ = insn.base == kNoRegister && insn.index == kNoRegister && !segment;
  constant_ = insn.prefixes & PREFIX_ADDRESS32 ? u32(insn.displacement) : u64(insn.displacement);
}

void Emitter::push_segment_base(u8 segment) {
  const size_t base = segment & PREFIX_FS ? offsetof(Cpu, fs_base) : offsetof(Cpu, gs_base);
  w.constant32(0);
  w.memory(I64_LOAD, pointer(&the_cpu()) + u32(base));
}

void Emitter::find_stack(u8 pointer, i64 offset) {
  get_register(pointer);
  if (offset) {
    w.constant(u64(offset));
    w.op(I64_ADD);
  }
  w.set(ADDRESS);
  place_ = {pointer, kNoRegister, 1, 0, false, offset};
  is_constant_ = false;
}

bool Emitter::is_stack_place(const Place& place) const { return place.base == kRsp && place.index == kNoRegister; }

u32 Emitter::range_of(const Place& place, bool store) const {
  const u32 registers = place.base | place.index << 8 | place.segment << 16;
  return range_number(is_stack_place(place) ? kRsp : registers * 31 + u32(region_.entry), store);
}

/// Where nothing was compared with all its bits, it is computed with 32.
void Emitter::push_address() {
  if (!is_unlooked_ || place_.narrow || place_.segment) {
    w.get(ADDRESS);
    return w.op(I32_WRAP_I64);
  }
  bool any = false;
  const auto add = [&] {
    if (any) w.op(I32_ADD);
    any = true;
  };
  if (place_.base != kNoRegister) {
    get_register(place_.base);
    w.op(I32_WRAP_I64);
    add();
  }
  if (place_.index != kNoRegister) {
    get_register(place_.index);
    w.op(I32_WRAP_I64);
    w.constant32(u32(__builtin_ctz(place_.scale)));
    w.op(I32_SHL);
    add();
  }
  if (place_.displacement || !any) {
    w.constant32(u32(place_.displacement));
    add();
  }
}

void Emitter::leave_unless_direct(u32 size, u8 page_bit, bool aligned) {
  is_unlooked_ = false;
  if (aligned) {
    w.get(ADDRESS);
    w.op(I32_WRAP_I64);
    w.constant32(size - 1);
    w.op(I32_AND);
    leave_before_if();
  }
  const bool lies_well = constant_ < kGuestEnd && constant_ % kPageSize <= kPageSize - size;
  if (is_constant_ && lies_well) {
    leave_unless_page_has(page_bit);
    return;
  }
  if (measuring_) note_access(size, page_bit == PAGE_WRITE);
  const u32 current = accesses_++;
  const u32 number = range_of(place_, page_bit == PAGE_WRITE);
  const u32 range = pointer(&range_at(number));
  const Access& access = access_[access_[current].leader];
  const bool remembers = in_loop_[block_] || is_stack_place(place_) || access.others > 0;
  if (range_at(number).changing || !remembers) return leave_unless_allowed(size, page_bit);
  is_unlooked_ = !updates_ && (access_[current].leader != current || access.ahead);
  if (access_[current].leader != current || access.ahead) return;
  w.get(ADDRESS);
  if (access.before) {
    w.constant(u64(-access.before));
    w.op(I64_ADD);
  }
  w.constant32(0);
  w.memory(I64_LOAD, range + u32(offsetof(Range, start)));
  w.op(I64_SUB);
  const auto push_is_outside = [&] {
    w.constant32(0);
    w.memory(I64_LOAD, range + u32(offsetof(Range, starts)));
    w.op(I64_GE_U);
  };
  // The first byte, and that from which on the last ones fit: ranges have no holes.
  const i64 behind = access.high - access.low - i64(kWidest);
  if (behind > 0) {
    w.tee(OFFSET);
    push_is_outside();
    w.get(OFFSET);
    w.constant(u64(behind));
    w.op(I64_ADD);
  }
  push_is_outside();
  if (behind > 0) w.op(I32_OR);
  w.begin(IF);
  ++depth_;
  w.constant32(0);
  w.get(ADDRESS);
  w.memory(I64_STORE, range + u32(offsetof(Range, missed)));
  w.constant32(0);
  w.constant32(number + 1);
  w.memory(I32_STORE, pointer(&missed_range()));
  leave_before();
  w.end();
  --depth_;
}

/// The page of a constant address.
void Emitter::leave_unless_page_has(u8 page_bit) {
  w.constant32(0);
  w.memory(I32_LOAD8_U, pointer(the_pages()) + u32(constant_ >> kPageShift));
  w.constant32(page_bit);
  w.op(I32_AND);
  w.op(I32_EQZ);
  leave_before_if();
}

void Emitter::leave_unless_allowed(u32 size, u8 page_bit) {
  w.begin(BLOCK);
  w.begin(BLOCK);
  depth_ += 2;
  // Beyond 4 GiB, or across a page.
  w.get(ADDRESS);
  if (size == 1) {
    w.constant(32);
    w.op(I64_SHR_U);
    w.op(I64_EQZ);
    w.op(I32_EQZ);
  } else {
    w.constant(0xffffffff'00000fffull);
    w.op(I64_AND);
    w.constant(kPageSize - size);
    w.op(I64_GT_U);
  }
  w.branch_if(0);
  w.get(ADDRESS);
  w.op(I32_WRAP_I64);
  w.constant32(kPageShift);
  w.op(I32_SHR_U);
  w.memory(I32_LOAD8_U, pointer(the_pages()));
  w.constant32(page_bit);
  w.op(I32_AND);
  w.branch_if(1);
  w.end();
  --depth_;
  leave_before();
  w.end();
  --depth_;
}

void Emitter::push_load(u32 size) {
  leave_unless_direct(size, updates_ ? PAGE_WRITE : PAGE_READ);
  push_address();
  w.memory(size == 1 ? I64_LOAD8_U : size == 2 ? I64_LOAD16_U : size == 4 ? I64_LOAD32_U : I64_LOAD, kGuestBase);
}

void Emitter::pop_store(u32 size) {
  w.set(T2);
  if (!updates_) leave_unless_direct(size, PAGE_WRITE);
  push_address();
  w.get(T2);
  w.memory(size == 1 ? I64_STORE8 : size == 2 ? I64_STORE16 : size == 4 ? I64_STORE32 : I64_STORE, kGuestBase);
}

void Emitter::push_operand(const Insn& insn, const Operand& operand) {
  switch (operand.kind) {
    case OperandKind::Gpr:
      get_register(operand.reg);
      return mask_to(operand.size);
    case OperandKind::GprHigh:
      get_register(operand.reg);
      w.constant(8);
      w.op(I64_SHR_U);
      return mask_to(1);
    case OperandKind::Memory:
      find_address(insn);
      return push_load(operand.size);
    case OperandKind::Immediate:
      return w.constant(insn.immediate & ones(insn.operand_size));
    default:
      failed_ = true;
      w.constant(0);
  }
}

void Emitter::push_unmasked(const Insn& insn, const Operand& operand) {
  if (operand.kind == OperandKind::Gpr) return get_register(operand.reg);
  push_operand(insn, operand);
}

void Emitter::pop_operand(const Operand& operand) {
  switch (operand.kind) {
    case OperandKind::Gpr:
      if (operand.size < 4) {
        get_register(operand.reg);
        w.constant(~ones(operand.size));
        w.op(I64_AND);
        w.op(I64_OR);
      }
      return set_register(operand.reg);
    case OperandKind::GprHigh:
      w.constant(8);
      w.op(I64_SHL);
      get_register(operand.reg);
      w.constant(~u64{0xff00});
      w.op(I64_AND);
      w.op(I64_OR);
      return set_register(operand.reg);
    case OperandKind::Memory:
      return pop_store(operand.size);
    default:
      failed_ = true;
      w.op(DROP);
  }
}

}  // namespace jit
