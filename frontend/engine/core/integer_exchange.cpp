/// Exchanges: xchg, xadd, cmpxchg and its wide forms. One processor: they are atomic as they are.
#include "integer.h"
#include "steps.h"

namespace {

bool xchg(Cpu& cpu, const Insn& insn) {
  const Operand &into = insn.operands[0], &other = insn.operands[1];
  u64 a, b;
  if (!read_target(cpu, insn, into, a) || !read_target(cpu, insn, other, b)) return false;
  return write_operand(cpu, insn, into, b) && write_operand(cpu, insn, other, a);
}

bool xadd(Cpu& cpu, const Insn& insn) {
  const Operand &into = insn.operands[0], &other = insn.operands[1];
  u64 a, b;
  if (!read_target(cpu, insn, into, a) || !read_operand(cpu, insn, other, b)) return false;
  const LazyFlags before = g.lazy;
  const u64 sum = by_size(into.size, [&](auto type) -> u64 {
    using T = decltype(type);
    return add<T>(static_cast<T>(a), static_cast<T>(b));
  });
  if (into.kind == OperandKind::Memory) return write_with_flags(cpu, insn, into, sum, before) && write_operand(cpu, insn, other, a);
  return write_operand(cpu, insn, other, a) && write_operand(cpu, insn, into, sum);
}

bool cmpxchg(Cpu& cpu, const Insn& insn) {
  const Operand& into = insn.operands[0];
  const Operand accumulator{OperandKind::Gpr, 0, into.size};
  u64 old, expected, value;
  if (!read_target(cpu, insn, into, old) || !read_operand(cpu, insn, insn.operands[1], value) ||
      !read_operand(cpu, insn, accumulator, expected))
    return false;
  const bool equal = old == expected;
  const LazyFlags before = g.lazy;
  by_size(into.size, [&](auto type) -> u64 {
    using T = decltype(type);
    return sub<T>(static_cast<T>(expected), static_cast<T>(old));
  });
  // memory is written in any case
  if (equal || into.kind == OperandKind::Memory)
    if (!write_with_flags(cpu, insn, into, equal ? value : old, before)) return false;
  return equal || write_operand(cpu, insn, accumulator, old);
}

bool cmpxchg8b(Cpu& cpu, const Insn& insn) {
  const u64 address = effective_address(cpu, insn);
  const auto pair = [&](u32 high, u32 low) { return cpu.gpr[high] << 32 | static_cast<u32>(cpu.gpr[low]); };
  u64 old;
  if (!can_store(cpu, address, 8) || !load(cpu, address, &old, 8)) return false;
  const bool equal = old == pair(2, 0);
  const u64 value = equal ? pair(1, 3) : old;
  if (!store(cpu, address, &value, 8)) return false;
  if (!equal) {
    cpu.gpr[0] = static_cast<u32>(old);
    cpu.gpr[2] = old >> 32;
  }
  change_flags(FLAG_Z, equal ? FLAG_Z : 0);
  return true;
}

bool cmpxchg16b(Cpu& cpu, const Insn& insn) {
  const u64 address = effective_address(cpu, insn);
  if (address & 15) return raise(cpu, EXIT_GENERAL_PROTECTION);
  u64 old[2];
  if (!load(cpu, address, old, 16)) return false;
  const bool equal = old[0] == cpu.gpr[0] && old[1] == cpu.gpr[2];
  const u64 value[2] = {equal ? cpu.gpr[3] : old[0], equal ? cpu.gpr[1] : old[1]};
  if (!store(cpu, address, value, 16)) return false;
  if (!equal) {
    cpu.gpr[0] = old[0];
    cpu.gpr[2] = old[1];
  }
  change_flags(FLAG_Z, equal ? FLAG_Z : 0);
  return true;
}

}  // namespace

Handler exchange_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Xchg: return xchg;
    case Mnemonic::Xadd: return xadd;
    case Mnemonic::Cmpxchg: return cmpxchg;
    case Mnemonic::Cmpxchg8b: return cmpxchg8b;
    case Mnemonic::Cmpxchg16b: return cmpxchg16b;
    default: return nullptr;
  }
}
