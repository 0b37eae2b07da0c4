/// Operands of generic instructions, and how they fail.
#include "flags.h"
#include "interpreter.h"

u64 effective_address(const Cpu& cpu, const Insn& insn) {
  u64 address = static_cast<u64>(insn.displacement);
  if (insn.base != kNoRegister) address += cpu.gpr[insn.base & 15];
  if (insn.index != kNoRegister) address += cpu.gpr[insn.index & 15] * insn.scale;
  if (insn.prefixes & PREFIX_ADDRESS32) address = static_cast<u32>(address);
  if (insn.prefixes & PREFIX_FS) address += cpu.fs_base;
  if (insn.prefixes & PREFIX_GS) address += cpu.gs_base;
  return address;
}

bool read_operand(Cpu& cpu, const Insn& insn, const Operand& operand, u64& value) {
  switch (operand.kind) {
    case OperandKind::Gpr: {
      const u64 whole = cpu.gpr[operand.reg & 15];
      value = operand.size == 8 ? whole : operand.size == 4 ? static_cast<u32>(whole) : operand.size == 2 ? static_cast<u16>(whole) : static_cast<u8>(whole);
      return true;
    }
    case OperandKind::GprHigh: value = static_cast<u8>(cpu.gpr[operand.reg & 15] >> 8); return true;
    case OperandKind::Immediate:
      value = operand.size >= 8 || operand.size == 0 ? insn.immediate : insn.immediate & ((u64{1} << operand.size * 8) - 1);
      return true;
    case OperandKind::Memory:
      value = 0;
      return load(cpu, effective_address(cpu, insn), &value, operand.size);
    default: return raise(cpu, EXIT_INTERNAL);
  }
}

bool read_target(Cpu& cpu, const Insn& insn, const Operand& operand, u64& value) {
  if (operand.kind == OperandKind::Memory && !can_store(cpu, effective_address(cpu, insn), operand.size)) return false;
  return read_operand(cpu, insn, operand, value);
}

bool write_operand(Cpu& cpu, const Insn& insn, const Operand& operand, u64 value) {
  switch (operand.kind) {
    case OperandKind::Gpr: {
      u64& whole = cpu.gpr[operand.reg & 15];
      if (operand.size == 8) whole = value;
      else if (operand.size == 4) whole = static_cast<u32>(value);
      else if (operand.size == 2) whole = (whole & ~u64{0xffff}) | static_cast<u16>(value);
      else whole = (whole & ~u64{0xff}) | static_cast<u8>(value);
      return true;
    }
    case OperandKind::GprHigh: {
      u64& whole = cpu.gpr[operand.reg & 15];
      whole = (whole & ~u64{0xff00}) | (value & 0xff) << 8;
      return true;
    }
    case OperandKind::Memory: return store(cpu, effective_address(cpu, insn), &value, operand.size);
    default: return raise(cpu, EXIT_INTERNAL);
  }
}

bool raise(Cpu& cpu, Exit reason, u64 address, u32 access) {
  cpu.exit_reason = reason;
  cpu.exit_address = address;
  cpu.exit_access = access;
  return false;
}
