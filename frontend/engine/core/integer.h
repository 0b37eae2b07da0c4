/// Shared by the integer instructions' units.
#pragma once
#include "flags.h"
#include "interpreter.h"

Handler multiply_handler(const Insn&);
Handler shift_handler(const Insn&);
Handler bit_handler(const Insn&);
Handler exchange_handler(const Insn&);
Handler stack_handler(const Insn&);
Handler segment_handler(const Insn&);
Handler repeat_handler(const Insn&);
Handler system_handler(const Insn&);

/// Calls `f` with a value of the unsigned type of `size` bytes and its result as 64 bits.
template <class F>
ALWAYS_INLINE u64 by_size(u32 size, F f) {
  switch (size) {
    case 1: return f(u8{});
    case 2: return f(u16{});
    case 4: return f(u32{});
    default: return f(u64{});
  }
}

/// Writes an operand after flags were made; when that fails they are as before.
inline bool write_with_flags(Cpu& cpu, const Insn& insn, const Operand& operand, u64 value, const LazyFlags& before) {
  if (write_operand(cpu, insn, operand, value)) return true;
  g.lazy = before;
  return false;
}

/// Replaces some arithmetic flags, the others stay.
inline void change_flags(u32 mask, u32 value) {
  g.lazy.a = (arithmetic_flags() & ~mask) | (value & mask);
  g.lazy.kind = KIND_EXPLICIT;
}
/// As popf and iret do it for a program: IF and IOPL stay.
inline void set_flags_as_program(u64 value, u32 size) {
  constexpr u64 low = kArithmeticFlags | FLAG_T | FLAG_D;
  const u64 mask = size == 2 ? low : low | FLAG_AC | FLAG_ID;
  unpack_flags((pack_flags() & ~mask) | (value & mask));
}
inline void explicit_flags(u32 flags) {
  g.lazy.a = flags;
  g.lazy.kind = KIND_EXPLICIT;
}
