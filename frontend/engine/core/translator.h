/// The translator: hot regions become WebAssembly functions. What it does not know runs through the interpreter's handlers, inside the function.
#pragma once
#include "instruction.h"
#include "region.h"

namespace jit {

/// Whether only the interpreter's loop may execute it: it sets rip, or ends `run`, or has neither a translation nor a handler.
bool is_control(const Insn&);
/// Whether MXCSR is so that floating point can be translated.
bool floats_are_direct();
/// Decodes at a guest address as the interpreter does (rip-relative made absolute). False: not executable, not there, no instruction.
bool fetch_for_translation(u64 address, Insn&);

/// What a translated function leaves of the flags: `kind` 0 means that they are as the core has them.
struct LeftFlags {
  u64 a, b, result;
  u32 kind;
};
extern LeftFlags left_flags;

/// Kinds of flags that are not computed yet: `kind = FlagKind * 4 + log2(operand size)`, at least 4.
enum class FlagKind : u32 {
  Core,   // in the core
  Add,    // result = a + b
  Sub,    // result = a - b: sub, cmp, neg (a = 0)
  Logic,  // result
  Inc,    // result; b: the carry before
  Dec,
  Adc,    // result = a + b + carry
  Sbb,    // result = a - b - borrow
  Shl,    // result = a << b; 0 < b < operand bits, or masked count beyond them for 8 and 16 bits
  Shr,
  Sar,
  Imul,   // a * b
  Bits,   // result is FLAG_* bits
};

/// The six flags (FLAG_*) of a kind.
u32 flags_of(u32 kind, u64 a, u64 b, u64 result);

/// Writes a whole module with one function into `bytes`; its size, or 0 when it does not fit.
u32 write_region(const Region& region, u8* bytes, u32 capacity);

}  // namespace jit
