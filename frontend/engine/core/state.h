/// The core's variables: one processor and what is lazy of its flags.
#pragma once
#include "memory.h"

struct Block;
struct Op;

/// The arithmetic flags: how they were made. `result` and `a` (the first operand) are sign-extended to 64 bits.
struct LazyFlags {
  u64 result;
  u64 a;
  u32 kind;  // FlagKind * 4 + log2 of the operand's bytes
};

struct State {
  LazyFlags lazy;
  u32 system_flags;  // FLAG_T, FLAG_D, FLAG_AC, FLAG_ID of the processor while it runs
  u64 limit;         // of Cpu.instructions: the budget's end
  Block* block;      // that runs
  Op* op;            // its step, where the interpreter calls something
  u64 target;        // of an indirect branch that needed a slow access
  u32 arena_next;    // offset of the first free byte
  u32 flushes;
};

extern Cpu g_cpu;
extern State g;
