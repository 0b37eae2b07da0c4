/// One decoded instruction.
#pragma once
#include "abi.h"
#include "mnemonics.h"  // generated: enum class Mnemonic : u16 { Invalid, Add, ..., Cmovcc, Jcc, Movaps, ... }

enum class OperandKind : u8 {
  None,
  Gpr,      // reg 0..15; size 1 is the low byte (spl, bpl, sil, dil with REX)
  GprHigh,  // reg 0..3: ah, ch, dh, bh
  Xmm,
  Mmx,      // reg 0..7
  St,       // reg i: st(i)
  Segment,  // es cs ss ds fs gs
  Memory,   // at most one; Insn has its parts
  Immediate,  // Insn.immediate, sign-extended to 64 bits where the instruction does
  Relative,   // Insn.immediate: displacement from the next instruction
};

struct Operand {
  OperandKind kind;
  u8 reg;
  u16 size;  // bytes; 0: an address only (lea, prefetch), 512: fxsave
};

enum Prefix : u8 {
  PREFIX_LOCK = 1,
  PREFIX_REP = 2,    // F3 where it is not part of the opcode
  PREFIX_REPNE = 4,  // F2 likewise
  PREFIX_FS = 8,
  PREFIX_GS = 16,
  PREFIX_ADDRESS32 = 32,
};

constexpr u8 kNoRegister = 0xff;
constexpr u8 kRip = 16;

/// Operands in Intel's order: destination first. An instruction that Intel writes without operands (movs, cpuid) has none here;
/// implicit registers that Intel writes (rAX in `add rax, imm32`, cl, st(0)) are operands.
struct Insn {
  u64 immediate;       // also an absolute address (moffs)
  i64 displacement;
  Mnemonic mnemonic;
  u16 form;            // row of instructions.txt, from 0
  u8 length;           // bytes, 1..15
  u8 operand_size;     // 1, 2, 4, 8
  u8 prefixes;
  u8 condition;        // of jcc, setcc, cmovcc: 0..15
  u8 base, index;      // 0..15, kRip, kNoRegister
  u8 scale;            // 1, 2, 4, 8
  u8 operand_count;
  u8 immediate2;       // enter, extrq
  Operand operands[4];
};

/// Decodes one instruction in 64-bit mode from `size` bytes. `address` is not needed: branches stay relative.
/// Returns its length; 0 when more bytes are needed than there are (at most 15), -1 when it is no instruction (#UD).
int decode(const u8* bytes, u32 size, Insn& out);
