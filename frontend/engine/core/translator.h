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

/// Kinds of flags that are not computed yet: `kind = FlagKind * 4 + log2(operand size)`, at least 4.
enum class FlagKind : u32 {
  Core,   // in the core
  Add,    // result = a + b
  Sub,    // result = a - b: sub, cmp, neg (a = 0)
  Logic,  // result
  Adc,    // result = a + b + carry
  Sbb,    // result = a - b - borrow
  Shl,    // result = a << b; 0 < b < operand bits
  Shr,
  Sar,
  Imul,   // a * b
  Mul,    // of two registers: the result is the lower half, b is 0 when that is all
  Order,  // of a comparison of floating-point numbers: the result is the flags
};

/// Whether the interpreter has come there by branches more than now and then.
bool is_warm(u64 address);

/// What a translated function leaves of the flags: those of the last instruction that sets all, and over them what changed some since.
struct LeftFlags {
  u64 a, b;  // their bits above the operation's mean nothing; sign-extended for Sar and Imul
  u64 result;
  u64 step_result, turn_result;
  u32 kind;  // below 4: as the core has them
  u32 step;  // the last inc or dec, which set all but the carry; 0: none
  u32 turn;  // the last rotation, which set carry and overflow; 0: none
};
extern LeftFlags left_flags;

constexpr u32 step_number(bool down, u32 log) { return 1 + log + 4 * down; }
constexpr u32 turn_number(bool right, u32 log) { return 1 + log + 4 * right; }
/// Added to `turn` when it was after the step.
constexpr u32 kTurnLast = 16;

/// The six flags (FLAG_*); `before`: what the core has.
u32 flags_of(const LeftFlags& left, u32 before);

/// Writes a whole module with one function into `bytes`; its size, or 0 when it does not fit.
u32 write_region(const Region& region, u8* bytes, u32 capacity);

}  // namespace jit
