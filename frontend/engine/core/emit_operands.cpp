#include "emitter.h"
#include "translated.h"

using namespace wasm;

namespace jit {

namespace {

u32 pointer(const void* to) { return u32(reinterpret_cast<uintptr_t>(to)); }

constexpr u64 ones(u32 size) { return size == 8 ? ~u64{0} : (u64{1} << (8 * size)) - 1; }

}  // namespace

void Emitter::get_register(u8 number) {
  used_ |= 1u << number;
  w.get(GPR + number);
}

void Emitter::set_register(u8 number) {
  used_ |= 1u << number;
  written_ |= 1u << number;
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
    const size_t base = insn.prefixes & PREFIX_FS ? offsetof(Cpu, fs_base) : offsetof(Cpu, gs_base);
    w.constant32(0);
    w.memory(I64_LOAD, pointer(&the_cpu()) + u32(base));
    w.op(I64_ADD);
  }
  w.set(ADDRESS);
}

void Emitter::leave_unless_direct(u32 size, u8 page_bit, bool aligned) {
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
  if (aligned) {
    w.get(ADDRESS);
    w.op(I32_WRAP_I64);
    w.constant32(size - 1);
    w.op(I32_AND);
    w.branch_if(0);
  }
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
  leave_unless_direct(size, PAGE_READ);
  w.get(ADDRESS);
  w.op(I32_WRAP_I64);
  w.memory(size == 1 ? I64_LOAD8_U : size == 2 ? I64_LOAD16_U : size == 4 ? I64_LOAD32_U : I64_LOAD, kGuestBase);
}

void Emitter::pop_store(u32 size) {
  w.set(T2);
  leave_unless_direct(size, PAGE_WRITE);
  w.get(ADDRESS);
  w.op(I32_WRAP_I64);
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
