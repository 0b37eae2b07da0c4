/// Single bits, scans and counts.
#include "integer.h"

namespace {

enum class Bit { Test, Set, Reset, Complement };

/// With a register's bit offset, the memory operand is a string of bits: the address moves by whole operands.
u64 bit_address(const Cpu& cpu, const Insn& insn, i64 offset) {
  const u32 size = insn.operands[0].size;
  const u64 segment = insn.prefixes & PREFIX_FS ? cpu.fs_base : insn.prefixes & PREFIX_GS ? cpu.gs_base : 0;
  const u32 shift = size == 2 ? 4 : size == 4 ? 5 : 6;
  u64 address = effective_address(cpu, insn) - segment + static_cast<u64>((offset >> shift) * static_cast<i64>(size));
  if (insn.prefixes & PREFIX_ADDRESS32) address = static_cast<u32>(address);
  return address + segment;
}

i64 signed_offset(u64 value, u32 size) {
  return size == 2 ? static_cast<i16>(value) : size == 4 ? static_cast<i32>(value) : static_cast<i64>(value);
}

template <Bit kind>
bool bit(Cpu& cpu, const Insn& insn) {
  const Operand& into = insn.operands[0];
  const Operand& by = insn.operands[1];
  u64 offset, value = 0, address = 0;
  if (!read_operand(cpu, insn, by, offset)) return false;
  const bool memory = into.kind == OperandKind::Memory;
  if (memory) {
    const bool string = by.kind == OperandKind::Gpr;
    address = string ? bit_address(cpu, insn, signed_offset(offset, into.size)) : effective_address(cpu, insn);
    if ((kind != Bit::Test && !can_store(cpu, address, into.size)) || !load(cpu, address, &value, into.size)) return false;
  } else if (!read_operand(cpu, insn, into, value)) {
    return false;
  }
  const u64 mask = u64{1} << (offset & (into.size * 8 - 1));
  const bool was = value & mask;
  if (kind == Bit::Set) value |= mask;
  if (kind == Bit::Reset) value &= ~mask;
  if (kind == Bit::Complement) value ^= mask;
  if (kind != Bit::Test && !(memory ? store(cpu, address, &value, into.size) : write_operand(cpu, insn, into, value))) return false;
  // The overflow is undefined; this is what translated code can do without more ado.
  change_flags(FLAG_C | FLAG_O, was ? FLAG_C | FLAG_O : 0);
  return true;
}

/// bsf, bsr: of 0 the destination stays (all 64 bits of it, as processors do it), flags are those of the source as a logical result.
template <bool forward>
bool scan(Cpu& cpu, const Insn& insn) {
  const Operand& into = insn.operands[0];
  u64 value;
  if (!read_operand(cpu, insn, insn.operands[1], value)) return false;
  by_size(into.size, [&](auto type) -> u64 {
    note_logic(static_cast<decltype(type)>(value));
    return 0;
  });
  if (value == 0) return true;
  return write_operand(cpu, insn, into, static_cast<u64>(forward ? __builtin_ctzll(value) : 63 - __builtin_clzll(value)));
}

bool popcnt(Cpu& cpu, const Insn& insn) {
  u64 value;
  if (!read_operand(cpu, insn, insn.operands[1], value)) return false;
  explicit_flags(value == 0 ? FLAG_Z : 0);
  return write_operand(cpu, insn, insn.operands[0], static_cast<u64>(__builtin_popcountll(value)));
}

}  // namespace

Handler bit_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Bt: return bit<Bit::Test>;
    case Mnemonic::Bts: return bit<Bit::Set>;
    case Mnemonic::Btr: return bit<Bit::Reset>;
    case Mnemonic::Btc: return bit<Bit::Complement>;
    case Mnemonic::Bsf: return scan<true>;
    case Mnemonic::Bsr: return scan<false>;
    case Mnemonic::Popcnt: return popcnt;
    default: return nullptr;
  }
}
