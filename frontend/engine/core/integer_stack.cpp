/// push, pop, pushf, popf, enter, leave in all widths; rare branches.
#include "integer.h"

namespace {

u64& rsp(Cpu& cpu) { return cpu.gpr[4]; }

bool push_value(Cpu& cpu, u32 size, u64 value) {
  if (!store(cpu, rsp(cpu) - size, &value, size)) return false;
  rsp(cpu) -= size;
  return true;
}

bool push(Cpu& cpu, const Insn& insn) {
  const Operand& from = insn.operands[0];
  u64 value;
  if (from.kind == OperandKind::Immediate) value = insn.immediate;
  else if (!read_operand(cpu, insn, from, value)) return false;
  return push_value(cpu, insn.operand_size, value);
}

bool pop(Cpu& cpu, const Insn& insn) {
  const Operand& into = insn.operands[0];
  const u32 size = insn.operand_size;
  u64 value = 0;
  if (!load(cpu, rsp(cpu), &value, size)) return false;
  // the address of a memory operand is that after rsp has moved
  rsp(cpu) += size;
  if (write_operand(cpu, insn, into, value)) return true;
  rsp(cpu) -= size;
  return false;
}

bool pushf(Cpu& cpu, const Insn& insn) { return push_value(cpu, insn.operand_size, pack_flags()); }

bool popf(Cpu& cpu, const Insn& insn) {
  u64 value = 0;
  if (!load(cpu, rsp(cpu), &value, insn.operand_size)) return false;
  rsp(cpu) += insn.operand_size;
  set_flags_as_program(value, insn.operand_size);
  return true;
}

bool enter(Cpu& cpu, const Insn& insn) {
  const u32 size = insn.operand_size, level = insn.immediate2 & 31;
  const u64 frame = rsp(cpu) - size;
  const u32 count = level + 1;
  const u64 end = rsp(cpu) - count * size - (insn.immediate & 0xffff);
  // as processors do: the frame's end must be writable too
  if (!can_store(cpu, rsp(cpu) - count * size, count * size) || !can_store(cpu, end, size)) return false;
  u64 value = 0;
  for (u32 i = 1; i < level; i++)
    if (!load(cpu, cpu.gpr[5] - i * size, &value, size)) return false;
  // nothing fails from here on; what is pushed may be what is read next
  store(cpu, frame, &cpu.gpr[5], size);
  for (u32 i = 1; i < level; i++) {
    load(cpu, cpu.gpr[5] - i * size, &value, size);
    store(cpu, frame - i * size, &value, size);
  }
  if (level > 0) store(cpu, frame - level * size, &frame, size);
  if (size == 8) cpu.gpr[5] = frame;
  else cpu.gpr[5] = (cpu.gpr[5] & ~u64{0xffff}) | static_cast<u16>(frame);
  rsp(cpu) = end;
  return true;
}

/// Whether a relative branch is taken; counts as the loops do.
bool is_taken(Cpu& cpu, const Insn& insn) {
  if (insn.mnemonic == Mnemonic::Jmp || insn.mnemonic == Mnemonic::Call) return true;
  if (insn.mnemonic == Mnemonic::Jcc) return condition(insn.condition);
  u64& rcx = cpu.gpr[1];
  const u64 mask = insn.prefixes & PREFIX_ADDRESS32 ? 0xffffffff : ~u64{0};
  if (insn.mnemonic == Mnemonic::Jrcxz) return (rcx & mask) == 0;
  rcx = (rcx - 1) & mask;
  if (rcx == 0 || insn.mnemonic == Mnemonic::Loop) return rcx != 0;
  return ((arithmetic_flags() & FLAG_Z) != 0) == (insn.mnemonic == Mnemonic::Loope);
}

/// Branches for which the interpreter has no step: jmp and call through a rare form of address, and relative ones to where no program can be.
/// rip is behind the instruction.
bool branch(Cpu& cpu, const Insn& insn) {
  u64 target;
  if (insn.operands[0].kind == OperandKind::Relative) {
    if (!is_taken(cpu, insn)) return true;
    target = cpu.rip + insn.immediate;
  } else if (!read_operand(cpu, insn, insn.operands[0], target)) {
    return false;
  }
  if (insn.mnemonic == Mnemonic::Call && !push_value(cpu, 8, cpu.rip)) return false;
  cpu.rip = target;
  return true;
}

bool leave(Cpu& cpu, const Insn& insn) {
  const u64 from = cpu.gpr[5];
  u64 value = 0;
  if (!load(cpu, from, &value, insn.operand_size)) return false;
  if (insn.operand_size == 8) cpu.gpr[5] = value;
  else cpu.gpr[5] = (cpu.gpr[5] & ~u64{0xffff}) | value;
  rsp(cpu) = from + insn.operand_size;
  return true;
}

}  // namespace

Handler stack_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Push: return push;
    case Mnemonic::Pop: return pop;
    case Mnemonic::Pushf: return pushf;
    case Mnemonic::Popf: return popf;
    case Mnemonic::Enter: return enter;
    case Mnemonic::Leave: return leave;
    case Mnemonic::Jcc:
    case Mnemonic::Loopne:
    case Mnemonic::Loope:
    case Mnemonic::Loop:
    case Mnemonic::Jrcxz:
    case Mnemonic::Jmp:
    case Mnemonic::Call: return branch;
    default: return nullptr;
  }
}
