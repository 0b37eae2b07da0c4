/// What the interpreter can do in one step. Forms: R register, I immediate, M memory; destination first. Sizes: 8, 16, 32, 64 bits.
#pragma once
#include "blocks.h"

#define EACH_ALU(X) X(Add) X(Or) X(Adc) X(Sbb) X(And) X(Sub) X(Xor) X(Cmp) X(Test)
#define EACH_FORM(X, ...) X(RR, ##__VA_ARGS__) X(RI, ##__VA_ARGS__) X(RM, ##__VA_ARGS__) X(MR, ##__VA_ARGS__) X(MI, ##__VA_ARGS__)
#define EACH_SIZE(X, ...) X(8, ##__VA_ARGS__) X(16, ##__VA_ARGS__) X(32, ##__VA_ARGS__) X(64, ##__VA_ARGS__)

enum OpForm : u32 { FORM_RR, FORM_RI, FORM_RM, FORM_MR, FORM_MI };
enum Alu : u32 {
#define X(name) ALU_##name,
  EACH_ALU(X)
#undef X
};

constexpr u32 kAluForms = 5, kSizes = 4, kAlus = 9;
constexpr u32 kConditions = 16;

enum OpCode : u16 {
  OP_RESYNC,         // the block was dropped: go on at this instruction, decoded anew
  OP_GOTO,           // to Branch.taken
  OP_REGION,         // all of it, and more, is a translated function
  OP_GENERIC,
  OP_GENERIC_LEAVE,  // back to the dispatcher behind it
  OP_INVALID,
  OP_UNIMPLEMENTED,
  OP_SYSCALL,
  OP_TRAP,           // int3, int1, int 0x80: exit `immediate` behind it
  OP_NOP,
  OP_JMP,            // Branch
  OP_JMP_R,
  OP_JMP_M,
  OP_CALL,           // Branch; immediate: return address, as for the two that follow
  OP_CALL_R,
  OP_CALL_M,
  OP_RET,            // immediate: bytes to take off the stack
  OP_LOOP,           // Branch; immediate: 0 loopne, 1 loope, 2 loop, 3 jrcxz; displacement: 1 for ecx
  OP_PUSH_R,
  OP_PUSH_I,
  OP_PUSH_M,
  OP_POP_R,
  OP_LEAVE,
  OP_LEA_32,
  OP_LEA_64,
  OP_ADDRESS,        // lea with base and displacement only
  OP_MOVZX_R8, OP_MOVZX_R16,      // to 32 (and 64) bits
  OP_MOVZX_M8, OP_MOVZX_M16,
  OP_MOVSX32_R8, OP_MOVSX32_R16,
  OP_MOVSX32_M8, OP_MOVSX32_M16,
  OP_MOVSX64_R8, OP_MOVSX64_R16, OP_MOVSX64_R32,
  OP_MOVSX64_M8, OP_MOVSX64_M16, OP_MOVSX64_M32,
  OP_SHL_I32, OP_SHL_I64, OP_SHR_I32, OP_SHR_I64, OP_SAR_I32, OP_SAR_I64,
  OP_ROL_I32, OP_ROL_I64, OP_ROR_I32, OP_ROR_I64,
  OP_SHL_C32, OP_SHL_C64, OP_SHR_C32, OP_SHR_C64, OP_SAR_C32, OP_SAR_C64,
  // the same where nobody reads the flags
  OP_SHL_N32, OP_SHL_N64, OP_SHR_N32, OP_SHR_N64, OP_SAR_N32, OP_SAR_N64, OP_ROL_N32, OP_ROL_N64, OP_ROR_N32, OP_ROR_N64,
  OP_BSWAP_32, OP_BSWAP_64,
  OP_IMUL_RR32, OP_IMUL_RR64, OP_IMUL_RM32, OP_IMUL_RM64, OP_IMUL_RRI32, OP_IMUL_RRI64,
  OP_INC_R32, OP_INC_R64, OP_DEC_R32, OP_DEC_R64,
  OP_NEG_R32, OP_NEG_R64, OP_NOT_R32, OP_NOT_R64,
  OP_CDQ, OP_CQO, OP_CDQE,
  // XMM registers: dst and src are 16 times the number
  OP_X_LOAD, OP_X_LOAD_ALIGNED, OP_X_STORE, OP_X_STORE_ALIGNED, OP_X_MOVE,
  OP_X_LOAD_32, OP_X_LOAD_64, OP_X_STORE_32, OP_X_STORE_64, OP_X_MOVE_64,
  OP_X_FROM_32, OP_X_FROM_64, OP_X_TO_32, OP_X_TO_64,
  OP_X_XOR, OP_X_OR, OP_X_AND,
  OP_MOV,                                    // + form * 4 + size
  OP_CMOV_RR32 = OP_MOV + kAluForms * kSizes,  // + condition, as those that follow
  OP_CMOV_RR64 = OP_CMOV_RR32 + kConditions,
  OP_CMOV_RM = OP_CMOV_RR64 + kConditions,   // displacement of the address; `length` of the operand from src: 4 or 8
  OP_SETCC_R = OP_CMOV_RM + 1,
  OP_SETCC_M = OP_SETCC_R + kConditions,     // src: the condition
  OP_JCC = OP_SETCC_M + 1,
  OP_ALU = OP_JCC + kConditions,             // + (alu * 5 + form) * 4 + size
  OP_CMP_JCC = OP_ALU + kAlus * kAluForms * kSizes,          // + (form * 4 + size) * 16 + condition
  OP_TEST_JCC = OP_CMP_JCC + kAluForms * kSizes * kConditions,
  OP_END = OP_TEST_JCC + kAluForms * kSizes * kConditions,
};
