/// Which step of the interpreter does an instruction.
#pragma once
#include "ops.h"

inline u8 gpr(u32 number) { return static_cast<u8>(number * 8); }
inline u8 gpr(const Operand& operand) {
  return static_cast<u8>(operand.kind == OperandKind::GprHigh ? operand.reg * 8 + 1 : operand.reg * 8);
}
inline bool is_gpr(const Operand& operand) { return operand.kind == OperandKind::Gpr || operand.kind == OperandKind::GprHigh; }
inline bool is_memory(const Operand& operand) { return operand.kind == OperandKind::Memory; }
inline bool is_immediate(const Operand& operand) { return operand.kind == OperandKind::Immediate; }

/// The address of the memory operand, if a step can have it: at most two of base, index and segment.
bool set_address(Op&, const Insn&);
/// A step without a place for branches. False: the instruction is a generic one.
bool set_simple(Op&, const Insn&);
/// A comparison that can be done with the jump behind it: the code of the step that does both, or 0.
u16 fused_code(const Op&, u8 condition);
/// Shifts and rotations whose flags the same block makes anew before anything can see them need not make them.
void drop_dead_flags(Op* ops, u32 count);
