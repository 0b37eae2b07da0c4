/// Segment registers, what asks about them, and far branches. The segments are those that Linux has for a 64-bit process; there is no 32-bit one.
#include "integer.h"

namespace {

constexpr u16 kCode = 0x33, kData = 0x2b;
enum Register : u32 { ES, CS, SS, DS, FS, GS };

u64& rsp(Cpu& cpu) { return cpu.gpr[4]; }

u64 segment_value(const Cpu& cpu, u32 number) {
  switch (number) {
    case CS: return kCode;
    case SS: return kData;
    case ES: return cpu.selectors[0];
    default: return cpu.selectors[number - 2];
  }
}

/// #GP whose error code is the selector.
bool refuse(Cpu& cpu, u64 selector) { return raise(cpu, EXIT_GENERAL_PROTECTION, 0, selector & 0xfffc); }

bool is_code(u64 selector) { return (selector & 0xfffc) == (kCode & ~3); }
bool is_data(u64 selector) { return (selector & 0xfffc) == (kData & ~3); }

/// As Intel's processors have it: a null selector clears the base, too.
bool load_segment(Cpu& cpu, u32 number, u64 selector) {
  if (number == CS) return raise(cpu, EXIT_INVALID_OPCODE);
  const bool null = (selector & 0xfffc) == 0;
  const bool valid = number == SS ? static_cast<u16>(selector) == kData : null || is_data(selector) || is_code(selector);
  if (!valid) return refuse(cpu, selector);
  if (number == SS) return true;
  cpu.selectors[number == ES ? 0 : number - 2] = static_cast<u16>(selector);
  if (number == FS) cpu.fs_base = 0;
  if (number == GS) cpu.gs_base = 0;
  return true;
}

bool move_segment(Cpu& cpu, const Insn& insn) {
  const Operand &into = insn.operands[0], &from = insn.operands[1];
  if (from.kind == OperandKind::Segment) return write_operand(cpu, insn, into, segment_value(cpu, from.reg));
  u64 value;
  return read_operand(cpu, insn, from, value) && load_segment(cpu, into.reg, value);
}

bool push_segment(Cpu& cpu, const Insn& insn) {
  const u64 value = segment_value(cpu, insn.operands[0].reg);
  if (!store(cpu, rsp(cpu) - insn.operand_size, &value, insn.operand_size)) return false;
  rsp(cpu) -= insn.operand_size;
  return true;
}

bool pop_segment(Cpu& cpu, const Insn& insn) {
  u64 value = 0;
  if (!load(cpu, rsp(cpu), &value, insn.operand_size) || !load_segment(cpu, insn.operands[0].reg, value)) return false;
  rsp(cpu) += insn.operand_size;
  return true;
}

/// An offset, and the selector behind it.
bool read_far_pointer(Cpu& cpu, const Insn& insn, u64& offset, u64& selector) {
  const u64 address = effective_address(cpu, insn);
  offset = selector = 0;
  return load(cpu, address, &offset, insn.operand_size) && load(cpu, address + insn.operand_size, &selector, 2);
}

template <Register number>
bool load_far_pointer(Cpu& cpu, const Insn& insn) {
  u64 offset, selector;
  if (!read_far_pointer(cpu, insn, offset, selector) || !load_segment(cpu, number, selector)) return false;
  return write_operand(cpu, insn, insn.operands[0], offset);
}

/// jmp and call to another segment, which can only be the one that there is. rip is behind the instruction.
bool far_branch(Cpu& cpu, const Insn& insn) {
  u64 target, selector;
  if (!read_far_pointer(cpu, insn, target, selector)) return false;
  if (!is_code(selector)) return refuse(cpu, selector);
  if (insn.mnemonic == Mnemonic::Callf) {
    const u32 size = insn.operand_size;
    const u64 code = kCode, back = cpu.rip, frame = rsp(cpu) - 2 * size;
    if (!can_store(cpu, frame, 2 * size)) return false;
    store(cpu, frame + size, &code, size);
    store(cpu, frame, &back, size);
    rsp(cpu) = frame;
  }
  cpu.rip = target;
  return true;
}

/// Reads `count` values of the operand's size from the stack.
bool read_frame(Cpu& cpu, const Insn& insn, u64* values, u32 count) {
  for (u32 i = 0; i < count; i++) {
    values[i] = 0;
    if (!load(cpu, rsp(cpu) + i * insn.operand_size, &values[i], insn.operand_size)) return false;
  }
  return true;
}

bool far_return(Cpu& cpu, const Insn& insn) {
  u64 frame[2];
  if (!read_frame(cpu, insn, frame, 2)) return false;
  if (static_cast<u16>(frame[1]) != kCode) return refuse(cpu, frame[1]);
  cpu.rip = frame[0];
  rsp(cpu) += 2 * insn.operand_size + (insn.operand_count ? insn.immediate & 0xffff : 0);
  return true;
}

/// In 64-bit mode it always loads the stack, too.
bool interrupt_return(Cpu& cpu, const Insn& insn) {
  u64 frame[5];
  if (!read_frame(cpu, insn, frame, 5)) return false;
  if (static_cast<u16>(frame[1]) != kCode) return refuse(cpu, frame[1]);
  if (static_cast<u16>(frame[4]) != kData) return refuse(cpu, frame[4]);
  set_flags_as_program(frame[2], insn.operand_size);
  cpu.rip = frame[0];
  rsp(cpu) = frame[3];
  return true;
}

enum class Ask { Read, Write, Rights, Limit };

template <Ask what>
bool ask(Cpu& cpu, const Insn& insn) {
  const bool two = what == Ask::Rights || what == Ask::Limit;
  u64 selector;
  if (!read_operand(cpu, insn, insn.operands[two ? 1 : 0], selector)) return false;
  const bool valid = is_data(selector) || (is_code(selector) && what != Ask::Write);
  if (valid && what == Ask::Limit) write_operand(cpu, insn, insn.operands[0], 0xffffffff);
  if (valid && what == Ask::Rights) write_operand(cpu, insn, insn.operands[0], is_data(selector) ? 0xcff300 : 0xaffb00);
  change_flags(FLAG_Z, valid ? FLAG_Z : 0);
  return true;
}

bool takes_segment(const Insn& insn) {
  return insn.operands[0].kind == OperandKind::Segment || insn.operands[1].kind == OperandKind::Segment;
}

}  // namespace

bool changes_segments(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Mov:
    case Mnemonic::Pop: return insn.operands[0].kind == OperandKind::Segment;
    case Mnemonic::Lss:
    case Mnemonic::Lfs:
    case Mnemonic::Lgs: return true;
    default: return false;
  }
}

Handler segment_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Mov: return takes_segment(insn) ? move_segment : nullptr;
    case Mnemonic::Push: return takes_segment(insn) ? push_segment : nullptr;
    case Mnemonic::Pop: return takes_segment(insn) ? pop_segment : nullptr;
    case Mnemonic::Lss: return load_far_pointer<SS>;
    case Mnemonic::Lfs: return load_far_pointer<FS>;
    case Mnemonic::Lgs: return load_far_pointer<GS>;
    case Mnemonic::Jmpf:
    case Mnemonic::Callf: return far_branch;
    case Mnemonic::Retf: return far_return;
    case Mnemonic::Iret: return interrupt_return;
    case Mnemonic::Verr: return ask<Ask::Read>;
    case Mnemonic::Verw: return ask<Ask::Write>;
    case Mnemonic::Lar: return ask<Ask::Rights>;
    case Mnemonic::Lsl: return ask<Ask::Limit>;
    default: return nullptr;
  }
}
