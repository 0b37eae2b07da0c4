/// The shapes of the decoder's generated tables, and what others may ask about a row of instructions.txt.
#pragma once
#include "instruction.h"

/// Where an operand is encoded.
enum class Place : u8 { Rm, Reg, Low, Fixed, Immediate, Immediate2, Relative, Absolute, One };

/// Sizes above kVarying follow the operand size.
constexpr u16 kSizeV = 0xfff0;  // operand size
constexpr u16 kSizeZ = 0xfff1;  // at most 4
constexpr u16 kSizeY = 0xfff2;  // at least 4
constexpr u16 kSizeP = 0xfff3;  // a far pointer: 2 more than the operand size

struct OperandSpec {
  Place place;
  OperandKind kind;  // of a register
  u8 fixed;
  u16 register_size;
  u16 memory_size;
};

/// What follows the opcode, ModRM and displacement.
enum class Imm : u8 { None, Ib, Ibs, Iw, Iz, Iv, Jb, Jz, Mo };

enum class Restricted : u8 { Any, Register, Memory };

enum class Mandatory : u8 { Any, None, OperandSize, Rep, Repne };

/// A row.
struct Form {
  Mnemonic mnemonic;
  u16 attributes;
  u8 prefix;  // Mandatory
  u8 w;       // 0, 1; 2: any
  Restricted restricted;
  u8 modrm_mask, modrm_value;
  Imm immediates[2];
  u8 operand_count;
  u8 operands[4];
};

/// The rows of an opcode: `count` of kCandidates from `first`.
struct Opcode {
  u16 first;
  u8 count;
  bool modrm;
};

/// The FORM_* bits (decoder_tables.h has them, generated) of Insn.form.
u16 form_attributes(u16 form);
/// Whether the memory operand of Insn.form must be aligned: to 16 bytes.
bool form_aligned(u16 form);
