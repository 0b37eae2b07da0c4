/// push, pop, pushf, popf, enter, leave in all widths, and the segment registers, which hold what Linux gives a 64-bit process.
#include "integer.h"

namespace {

constexpr u64 kCodeSegment = 0x33, kStackSegment = 0x2b;

u64 segment_value(u32 number) { return number == 1 ? kCodeSegment : number == 2 ? kStackSegment : 0; }

/// Null and Linux's flat segments may be loaded, and change nothing.
bool load_segment(Cpu& cpu, u32 number, u64 selector) {
  const u16 value = static_cast<u16>(selector);
  const bool null = value < 4;
  if (number == 1) return raise(cpu, EXIT_INVALID_OPCODE);
  if ((null && number != 2) || (value | 3) == kStackSegment) return true;
  return raise(cpu, EXIT_GENERAL_PROTECTION);
}

u64& rsp(Cpu& cpu) { return cpu.gpr[4]; }

bool push_value(Cpu& cpu, u32 size, u64 value) {
  if (!store(cpu, rsp(cpu) - size, &value, size)) return false;
  rsp(cpu) -= size;
  return true;
}

bool push(Cpu& cpu, const Insn& insn) {
  const Operand& from = insn.operands[0];
  u64 value;
  if (from.kind == OperandKind::Segment) value = segment_value(from.reg);
  else if (from.kind == OperandKind::Immediate) value = insn.immediate;
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
  const bool done = into.kind == OperandKind::Segment ? load_segment(cpu, into.reg, value) : write_operand(cpu, insn, into, value);
  if (!done) rsp(cpu) -= size;
  return done;
}

bool pushf(Cpu& cpu, const Insn& insn) { return push_value(cpu, insn.operand_size, pack_flags()); }

bool popf(Cpu& cpu, const Insn& insn) {
  u64 value = 0;
  if (!load(cpu, rsp(cpu), &value, insn.operand_size)) return false;
  rsp(cpu) += insn.operand_size;
  constexpr u64 low = kArithmeticFlags | FLAG_T | FLAG_D;
  const u64 mask = insn.operand_size == 2 ? low : low | FLAG_AC | FLAG_ID;
  unpack_flags((pack_flags() & ~mask) | (value & mask));
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

/// jmp and call through memory, where the interpreter has no step for the address. rip is behind the instruction.
bool branch(Cpu& cpu, const Insn& insn) {
  u64 target;
  if (!read_operand(cpu, insn, insn.operands[0], target)) return false;
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

bool move_segment(Cpu& cpu, const Insn& insn) {
  const Operand &into = insn.operands[0], &from = insn.operands[1];
  if (from.kind == OperandKind::Segment) return write_operand(cpu, insn, into, segment_value(from.reg));
  u64 value;
  return read_operand(cpu, insn, from, value) && load_segment(cpu, into.reg, value);
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
    case Mnemonic::Jmp:
    case Mnemonic::Call: return branch;
    case Mnemonic::Mov: return move_segment;
    default: return nullptr;
  }
}
