/// What the handlers of SSE, MMX and x87 share: how operands are fetched and stored.
#pragma once
#include "interpreter.h"
#include "memory.h"

template <class T>
ALWAYS_INLINE bool fetch(u64 address, T& value) {
  if (!can_load_fast<T>(address) && !prepare_load(address, sizeof(T))) return false;
  value = peek<T>(guest(address));
  return true;
}

template <class T>
ALWAYS_INLINE bool put(u64 address, const T& value) {
  if (!can_store_fast<T>(address) && !prepare_store(address, sizeof(T))) return false;
  poke<T>(guest(address), value);
  return true;
}

/// Any alignment.
ALWAYS_INLINE bool fetch_vector(Cpu& cpu, const Insn& insn, Xmm& value) { return fetch(effective_address(cpu, insn), value); }

/// Legacy SSE: a misaligned operand is #GP.
ALWAYS_INLINE bool fetch_aligned(Cpu& cpu, const Insn& insn, Xmm& value) {
  const u64 address = effective_address(cpu, insn);
  if (UNLIKELY(address & 15)) return raise(cpu, EXIT_GENERAL_PROTECTION);
  return fetch(address, value);
}

ALWAYS_INLINE bool is_memory(const Operand& operand) { return operand.kind == OperandKind::Memory; }
ALWAYS_INLINE bool is_xmm(const Operand& operand) { return operand.kind == OperandKind::Xmm; }
ALWAYS_INLINE bool is_mmx(const Operand& operand) { return operand.kind == OperandKind::Mmx; }

/// The whole second operand of a packed instruction: an XMM register, or 16 aligned bytes.
ALWAYS_INLINE bool packed_source(Cpu& cpu, const Insn& insn, Xmm& value) {
  if (is_memory(insn.operands[1])) return fetch_aligned(cpu, insn, value);
  value = cpu.xmm[insn.operands[1].reg];
  return true;
}

/// A scalar second operand: the low bytes of an XMM register, or memory.
template <class T>
ALWAYS_INLINE bool scalar_source(Cpu& cpu, const Insn& insn, T& value) {
  if (is_memory(insn.operands[1])) return fetch(effective_address(cpu, insn), value);
  value = peek<T>(&cpu.xmm[insn.operands[1].reg]);
  return true;
}

/// An MMX instruction is about to complete: the x87 stack is empty of holes, its top 0.
ALWAYS_INLINE void enter_mmx(Cpu& cpu) {
  cpu.fpu_status &= static_cast<u16>(~0x3800);
  cpu.fpu_tags = 0xff;
}
ALWAYS_INLINE void write_mmx(Cpu& cpu, u32 number, u64 value) {
  cpu.st[number].significand = value;
  cpu.st[number].sign_exponent = 0xffff;
}
/// Unmasked x87 exceptions wait: #MF (false), as before every MMX and waiting x87 instruction.
ALWAYS_INLINE bool no_pending_fpu_error(Cpu& cpu) {
  return LIKELY(!(cpu.fpu_status & 0x80)) || raise(cpu, EXIT_FPU_ERROR);
}

/// The parts that sse_handler and mmx_handler are made of; nullptr: not theirs.
Handler move_handler(const Insn&);     // sse_move.cpp
Handler lanes_handler(const Insn&);    // sse_integer.cpp: XMM and MMX
Handler shuffle_handler(const Insn&);  // sse_shuffle.cpp: XMM and MMX
Handler float_handler(const Insn&);    // sse_float.cpp
Handler compare_handler(const Insn&);  // sse_compare.cpp
Handler convert_handler(const Insn&);  // sse_convert.cpp: XMM and MMX
Handler sse4_handler(const Insn&);     // sse4.cpp
Handler sse_string_handler(const Insn&);   // sse_string.cpp
