/// Packed integer instructions: an operation is a struct with `apply<bytes>(a, b)`, for 16 (XMM) and 8 (MMX) bytes.
#pragma once
#include "simd.h"

template <class Operation>
bool packed_register(Cpu& cpu, const Insn& insn) {
  const Xmm b = cpu.xmm[insn.operands[1].reg];
  Operation::template apply<16>(cpu.xmm[insn.operands[0].reg], b);
  return true;
}

template <class Operation>
bool packed_memory(Cpu& cpu, const Insn& insn) {
  Xmm b;
  if (!fetch_aligned(cpu, insn, b)) return false;
  Operation::template apply<16>(cpu.xmm[insn.operands[0].reg], b);
  return true;
}

template <class Operation>
bool packed_mmx(Cpu& cpu, const Insn& insn) {
  if (!no_pending_fpu_error(cpu)) return false;
  Xmm a, b;
  const Operand& source = insn.operands[1];
  b.q[1] = 0;
  if (!is_memory(source)) {
    b.q[0] = cpu.st[source.reg].significand;
  } else if (source.size == 4) {
    u32 value;
    if (!fetch(effective_address(cpu, insn), value)) return false;
    b.q[0] = value;
  } else if (!fetch(effective_address(cpu, insn), b.q[0])) {
    return false;
  }
  a.q[0] = cpu.st[insn.operands[0].reg].significand;
  a.q[1] = 0;
  Operation::template apply<8>(a, b);
  enter_mmx(cpu);
  write_mmx(cpu, insn.operands[0].reg, a.q[0]);
  return true;
}

template <class Operation>
Handler packed(const Insn& insn) {
  if (is_mmx(insn.operands[0])) return packed_mmx<Operation>;
  return is_memory(insn.operands[1]) ? packed_memory<Operation> : packed_register<Operation>;
}

/// With an immediate byte: `apply<bytes>(a, b, immediate)`. `aligned` false: the memory operand may lie anywhere.
template <class Operation>
bool immediate_xmm(Cpu& cpu, const Insn& insn) {
  Xmm b;
  if (!packed_source(cpu, insn, b)) return false;
  Operation::template apply<16>(cpu.xmm[insn.operands[0].reg], b, static_cast<u32>(insn.immediate & 0xff));
  return true;
}
template <class Operation>
bool immediate_mmx(Cpu& cpu, const Insn& insn) {
  if (!no_pending_fpu_error(cpu)) return false;
  Xmm a, b;
  if (!is_memory(insn.operands[1])) b.q[0] = cpu.st[insn.operands[1].reg].significand;
  else if (!fetch(effective_address(cpu, insn), b.q[0])) return false;
  a.q[0] = cpu.st[insn.operands[0].reg].significand;
  a.q[1] = b.q[1] = 0;
  Operation::template apply<8>(a, b, static_cast<u32>(insn.immediate & 0xff));
  enter_mmx(cpu);
  write_mmx(cpu, insn.operands[0].reg, a.q[0]);
  return true;
}
template <class Operation>
Handler packed_immediate(const Insn& insn) {
  return is_mmx(insn.operands[0]) ? immediate_mmx<Operation> : immediate_xmm<Operation>;
}

template <class T>
ALWAYS_INLINE T clamp(i32 value, i32 low, i32 high) {
  return static_cast<T>(value < low ? low : value > high ? high : value);
}
