/// What a handler of an instruction may use. A handler returns false after it has set an exit and changed nothing else.
#pragma once
#include "instruction.h"

using Handler = bool (*)(Cpu&, const Insn&);

/// Each unit answers with its handler, or nullptr. Control flow is the interpreter's own.
Handler integer_handler(const Insn&);  // integer.cpp, segments.cpp, strings.cpp, system.cpp
/// Whether a segment register is written, and with it perhaps the base of FS or GS.
bool changes_segments(const Insn&);
Handler sse_handler(const Insn&);      // sse*.cpp: XMM registers
Handler mmx_handler(const Insn&);      // mmx.cpp
Handler x87_handler(const Insn&);      // x87*.cpp, with fxsave, fxrstor, ldmxcsr, stmxcsr

/// Address of the memory operand: segment base and 32-bit truncation done. When a block is decoded, rip-relative operands are made absolute
/// (base = kNoRegister, displacement = the address), so handlers do not need rip.
u64 effective_address(const Cpu&, const Insn&);

/// Guest memory, any alignment, across pages; false: page fault set as exit. `store` checks all pages before it writes.
bool load(Cpu&, u64 address, void* into, u32 size);
bool store(Cpu&, u64 address, const void* from, u32 size);
/// Whether `store` will succeed: for handlers that write memory and registers, or memory twice.
bool can_store(Cpu&, u64 address, u32 size);

/// Value of a general-register, memory or immediate operand of at most 8 bytes, zero-extended; and its counterpart (32-bit writes clear the upper half).
bool read_operand(Cpu&, const Insn&, const Operand&, u64& value);
bool write_operand(Cpu&, const Insn&, const Operand&, u64 value);
/// The same as `read_operand` for what is written afterwards: a fault is one of writing, as the processor's.
bool read_target(Cpu&, const Insn&, const Operand&, u64& value);

/// Flags as materialised bits (FLAG_*); `set_flags` replaces those of `mask`.
u32 get_flags(const Cpu&);
void set_flags(Cpu&, u32 mask, u32 value);

/// Sets the exit and returns false.
bool raise(Cpu&, Exit reason, u64 address = 0, u32 access = 0);
