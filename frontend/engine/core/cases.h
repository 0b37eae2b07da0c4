/// The cases of the interpreter's switch, for its two includers. `op` is the step; `goto fault` when nothing of it was done. Values that live across
/// a call would be stored at every step, so what calls keeps `op` in g.op (CALLING).
///   MUST(fast, slow): a memory access is allowed. PLAIN(...): steps that need no memory.
#define CALLING(statement) \
  g.op = op;               \
  statement;               \
  op = g.op

#define REG(type, offset) (*reinterpret_cast<type*>(reinterpret_cast<u8*>(&g_cpu) + (offset)))
#define ADDRESS() (REG(u64, op->base) + (REG(u64, op->index) << op->shift) + static_cast<u64>(op->displacement))
#define LOADED(type, name)                                                                              \
  const u64 name##_at = ADDRESS();                                                                      \
  MUST(can_load_fast<type>(name##_at), prepare_load(name##_at, sizeof(type)));                          \
  const type name = peek<type>(guest(name##_at))
#define STORABLE(type, name)                                                                            \
  const u64 name##_at = ADDRESS();                                                                      \
  MUST(can_store_fast<type>(name##_at), prepare_store(name##_at, sizeof(type)));                        \
  u8* const name = guest(name##_at)
#define PUSHABLE(name)                                                                                  \
  const u64 name##_at = g_cpu.gpr[4] - 8;                                                               \
  MUST(can_store_fast<u64>(name##_at), prepare_store(name##_at, 8));                                    \
  u8* const name = guest(name##_at)
#define POPPED(name)                                                                                    \
  const u64 name##_at = g_cpu.gpr[4];                                                                   \
  MUST(can_load_fast<u64>(name##_at), prepare_load(name##_at, 8));                                      \
  const u64 name = peek<u64>(guest(name##_at))
#define U(size) u##size
/// A 32-bit result clears the upper half.
#define WIDE_8 u8
#define WIDE_16 u16
#define WIDE_32 u64
#define WIDE_64 u64
#define WRITE_REG(size, offset, value) REG(WIDE_##size, offset) = static_cast<U(size)>(value)
#define ALU_CODE(name, form, size) (OP_ALU + (ALU_##name * kAluForms + FORM_##form) * kSizes + kLog2Size<U(size)>)

// Arithmetic with a result
#define CALC_Add add
#define CALC_Sub sub
#define CALC_Adc adc
#define CALC_Sbb sbb
#define CALC_And bit_and
#define CALC_Or bit_or
#define CALC_Xor bit_xor
// which of them look at the carry
#define CALL_Add(statement) statement
#define CALL_Sub(statement) statement
#define CALL_And(statement) statement
#define CALL_Or(statement) statement
#define CALL_Xor(statement) statement
#define CALL_Adc(statement) CALLING(statement)
#define CALL_Sbb(statement) CALLING(statement)
#define T(size, value) static_cast<U(size)>(value)
#define ALU_CASES(size, name)                                                                           \
  PLAIN(                                                                                                \
  case ALU_CODE(name, RR, size): {                                                                      \
    const U(size) a = REG(U(size), op->dst), b = REG(U(size), op->src);                                 \
    CALL_##name(const U(size) result = CALC_##name(a, b));                                              \
    WRITE_REG(size, op->dst, result);                                                                   \
    continue;                                                                                           \
  }                                                                                                     \
  case ALU_CODE(name, RI, size): {                                                                      \
    const U(size) a = REG(U(size), op->dst), b = T(size, op->immediate);                                \
    CALL_##name(const U(size) result = CALC_##name(a, b));                                              \
    WRITE_REG(size, op->dst, result);                                                                   \
    continue;                                                                                           \
  })                                                                                                    \
  case ALU_CODE(name, RM, size): {                                                                      \
    LOADED(U(size), b);                                                                                 \
    const U(size) a = REG(U(size), op->dst);                                                            \
    CALL_##name(const U(size) result = CALC_##name(a, b));                                              \
    WRITE_REG(size, op->dst, result);                                                                   \
    continue;                                                                                           \
  }                                                                                                     \
  case ALU_CODE(name, MR, size): {                                                                      \
    STORABLE(U(size), into);                                                                            \
    const U(size) a = peek<U(size)>(into), b = REG(U(size), op->src);                                   \
    CALL_##name(const U(size) result = CALC_##name(a, b));                                              \
    poke<U(size)>(into, result);                                                                        \
    continue;                                                                                           \
  }                                                                                                     \
  case ALU_CODE(name, MI, size): {                                                                      \
    STORABLE(U(size), into);                                                                            \
    const U(size) a = peek<U(size)>(into), b = T(size, op->immediate);                                  \
    CALL_##name(const U(size) result = CALC_##name(a, b));                                              \
    poke<U(size)>(into, result);                                                                        \
    continue;                                                                                           \
  }
#define X(name) EACH_SIZE(ALU_CASES, name)
X(Add) X(Or) X(Adc) X(Sbb) X(And) X(Sub) X(Xor)
#undef X

// Comparisons: flags only
#define OPERANDS_RR(size) const U(size) a = REG(U(size), op->dst), b = REG(U(size), op->src);
#define OPERANDS_RI(size) const U(size) a = REG(U(size), op->dst), b = T(size, op->immediate);
#define OPERANDS_RM(size) LOADED(U(size), b); const U(size) a = REG(U(size), op->dst);
#define OPERANDS_MR(size) LOADED(U(size), a); const U(size) b = REG(U(size), op->src);
#define OPERANDS_MI(size) LOADED(U(size), a); const U(size) b = T(size, op->immediate);
#define COMPARE_CASES(size, form)                                                                       \
  case ALU_CODE(Cmp, form, size): {                                                                     \
    OPERANDS_##form(size)                                                                               \
    sub(a, b);                                                                                          \
    continue;                                                                                           \
  }                                                                                                     \
  case ALU_CODE(Test, form, size): {                                                                    \
    OPERANDS_##form(size)                                                                               \
    note_logic<U(size)>(a & b);                                                                         \
    continue;                                                                                           \
  }
#define X(form) EACH_SIZE(COMPARE_CASES, form)
EACH_FORM(X)
#undef X

// Comparisons and the jump behind them. The condition's number, and what it says of a, b, of the result r
#define BRANCH_IF(holds) { if (holds) goto taken; goto not_taken; }
#define I(size) i##size
#define CMP_JCC(size, form, code, holds)                                                                \
  case OP_CMP_JCC + (FORM_##form * kSizes + kLog2Size<U(size)>) * kConditions + code: {                 \
    OPERANDS_##form(size)                                                                               \
    [[maybe_unused]] const I(size) r = static_cast<I(size)>(sub(a, b));                                 \
    [[maybe_unused]] const I(size) sa = static_cast<I(size)>(a), sb = static_cast<I(size)>(b);          \
    BRANCH_IF(holds)                                                                                    \
  }
#define TEST_JCC(size, form, code, holds)                                                               \
  case OP_TEST_JCC + (FORM_##form * kSizes + kLog2Size<U(size)>) * kConditions + code: {                \
    OPERANDS_##form(size)                                                                               \
    const I(size) r = static_cast<I(size)>(a & b);                                                      \
    note_logic<U(size)>(static_cast<U(size)>(r));                                                       \
    BRANCH_IF(holds)                                                                                    \
  }
#define FUSED(size, form)                                                                               \
  CMP_JCC(size, form, 2, a < b) CMP_JCC(size, form, 3, a >= b) CMP_JCC(size, form, 4, a == b)           \
  CMP_JCC(size, form, 5, a != b) CMP_JCC(size, form, 6, a <= b) CMP_JCC(size, form, 7, a > b)           \
  CMP_JCC(size, form, 8, r < 0) CMP_JCC(size, form, 9, r >= 0) CMP_JCC(size, form, 12, sa < sb)         \
  CMP_JCC(size, form, 13, sa >= sb) CMP_JCC(size, form, 14, sa <= sb) CMP_JCC(size, form, 15, sa > sb)  \
  TEST_JCC(size, form, 4, r == 0) TEST_JCC(size, form, 5, r != 0) TEST_JCC(size, form, 8, r < 0)        \
  TEST_JCC(size, form, 9, r >= 0) TEST_JCC(size, form, 14, r <= 0) TEST_JCC(size, form, 15, r > 0)
FUSED(8, RR) FUSED(32, RR) FUSED(64, RR) FUSED(8, RI) FUSED(32, RI) FUSED(64, RI)
FUSED(8, MI) FUSED(32, MI) FUSED(64, MI) FUSED(32, RM) FUSED(64, RM) FUSED(32, MR) FUSED(64, MR)

// Conditions of flags that were made earlier
#define EACH_CONDITION(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define HOLDS(code)                                                                                     \
  bool holds;                                                                                           \
  if (!quick_condition<code>(holds)) {                                                                  \
    CALLING(holds = condition(code));                                                                   \
  }
#define X(code)                                                                                         \
  case OP_JCC + code: {                                                                                 \
    HOLDS(code)                                                                                         \
    BRANCH_IF(holds)                                                                                    \
  }                                                                                                     \
  case OP_CMOV_RR32 + code: {                                                                           \
    HOLDS(code)                                                                                         \
    const u32 value = holds ? REG(u32, op->src) : REG(u32, op->dst);                                    \
    REG(u64, op->dst) = value;                                                                          \
    continue;                                                                                           \
  }                                                                                                     \
  case OP_CMOV_RR64 + code: {                                                                           \
    HOLDS(code)                                                                                         \
    REG(u64, op->dst) = holds ? REG(u64, op->src) : REG(u64, op->dst);                                  \
    continue;                                                                                           \
  }                                                                                                     \
  case OP_SETCC_R + code: {                                                                             \
    HOLDS(code)                                                                                         \
    REG(u8, op->dst) = holds;                                                                           \
    continue;                                                                                           \
  }
PLAIN(EACH_CONDITION(X))
#undef X
case OP_CMOV_RM: {  // immediate: the condition, src: 4 or 8 bytes
  if (op->src == 8) {
    LOADED(u64, value);
    CALLING(const bool holds = condition(static_cast<u32>(op->immediate)));
    if (holds) REG(u64, op->dst) = value;
  } else {
    LOADED(u32, value);
    CALLING(const bool holds = condition(static_cast<u32>(op->immediate)));
    REG(u64, op->dst) = holds ? value : REG(u32, op->dst);
  }
  continue;
}
case OP_SETCC_M: {
  STORABLE(u8, into);
  CALLING(const bool holds = condition(op->src));
  *into = holds;
  continue;
}

// Moves
#define MOVES(size)                                                                                     \
  case OP_MOV + FORM_RR * kSizes + kLog2Size<U(size)>: WRITE_REG(size, op->dst, REG(U(size), op->src)); continue; \
  case OP_MOV + FORM_RI * kSizes + kLog2Size<U(size)>: WRITE_REG(size, op->dst, op->immediate); continue; \
  case OP_MOV + FORM_RM * kSizes + kLog2Size<U(size)>: {                                                \
    LOADED(U(size), value);                                                                             \
    WRITE_REG(size, op->dst, value);                                                                    \
    continue;                                                                                           \
  }                                                                                                     \
  case OP_MOV + FORM_MR * kSizes + kLog2Size<U(size)>: {                                                \
    STORABLE(U(size), into);                                                                            \
    poke<U(size)>(into, REG(U(size), op->src));                                                         \
    continue;                                                                                           \
  }                                                                                                     \
  case OP_MOV + FORM_MI * kSizes + kLog2Size<U(size)>: {                                                \
    STORABLE(U(size), into);                                                                            \
    poke<U(size)>(into, T(size, op->immediate));                                                        \
    continue;                                                                                           \
  }
EACH_SIZE(MOVES)
#define EXTEND_R(code, from, to)                                                                        \
  case code: REG(u64, op->dst) = static_cast<to>(REG(from, op->src)); continue;
#define EXTEND_M(code, from, to)                                                                        \
  case code: {                                                                                          \
    LOADED(from, value);                                                                                \
    REG(u64, op->dst) = static_cast<to>(value);                                                         \
    continue;                                                                                           \
  }
EXTEND_R(OP_MOVZX_R8, u8, u64) EXTEND_R(OP_MOVZX_R16, u16, u64)
EXTEND_M(OP_MOVZX_M8, u8, u64) EXTEND_M(OP_MOVZX_M16, u16, u64)
#define SIGN_R(code, from, to) \
  case code: REG(u64, op->dst) = static_cast<to>(static_cast<i64>(REG(from, op->src))); continue;
#define SIGN_M(code, from, to)                                                                          \
  case code: {                                                                                          \
    LOADED(from, value);                                                                                \
    REG(u64, op->dst) = static_cast<to>(static_cast<i64>(static_cast<signed_of<from>>(value)));         \
    continue;                                                                                           \
  }
SIGN_R(OP_MOVSX32_R8, i8, u32) SIGN_R(OP_MOVSX32_R16, i16, u32)
SIGN_R(OP_MOVSX64_R8, i8, u64) SIGN_R(OP_MOVSX64_R16, i16, u64) SIGN_R(OP_MOVSX64_R32, i32, u64)
SIGN_M(OP_MOVSX32_M8, u8, u32) SIGN_M(OP_MOVSX32_M16, u16, u32)
SIGN_M(OP_MOVSX64_M8, u8, u64) SIGN_M(OP_MOVSX64_M16, u16, u64) SIGN_M(OP_MOVSX64_M32, u32, u64)
case OP_CDQE: g_cpu.gpr[0] = sign_extend(static_cast<u32>(g_cpu.gpr[0])); continue;
case OP_CDQ: g_cpu.gpr[2] = static_cast<i32>(g_cpu.gpr[0]) < 0 ? 0xffffffffu : 0; continue;
case OP_CQO: g_cpu.gpr[2] = static_cast<i64>(g_cpu.gpr[0]) < 0 ? ~u64{0} : 0; continue;
case OP_LEA_64: REG(u64, op->dst) = ADDRESS(); continue;
case OP_LEA_32: REG(u64, op->dst) = static_cast<u32>(ADDRESS()); continue;
case OP_ADDRESS: REG(u64, op->dst) = REG(u64, op->base) + static_cast<u64>(op->displacement); continue;

// Stack
case OP_PUSH_R: {
  PUSHABLE(into);
  poke<u64>(into, REG(u64, op->src));
  g_cpu.gpr[4] -= 8;
  continue;
}
case OP_PUSH_I: {
  PUSHABLE(into);
  poke<u64>(into, op->immediate);
  g_cpu.gpr[4] -= 8;
  continue;
}
case OP_PUSH_M: {
  LOADED(u64, value);
  PUSHABLE(into);
  poke<u64>(into, value);
  g_cpu.gpr[4] -= 8;
  continue;
}
case OP_POP_R: {
  POPPED(value);
  g_cpu.gpr[4] += 8;
  REG(u64, op->dst) = value;
  continue;
}
case OP_LEAVE: {
  const u64 from = g_cpu.gpr[5];
  MUST(can_load_fast<u64>(from), prepare_load(from, 8));
  g_cpu.gpr[5] = peek<u64>(guest(from));
  g_cpu.gpr[4] = from + 8;
  continue;
}

// XMM registers
#define XMM(type, offset) REG(type, offsetof(Cpu, xmm) + (offset))
#define ALIGNED()                                                                                       \
  if (UNLIKELY(ADDRESS() & 15)) goto misaligned;
case OP_X_LOAD_ALIGNED: ALIGNED() [[fallthrough]];
case OP_X_LOAD: {
  LOADED(Bytes16, value);
  XMM(Bytes16, op->dst) = value;
  continue;
}
case OP_X_STORE_ALIGNED: ALIGNED() [[fallthrough]];
case OP_X_STORE: {
  STORABLE(Bytes16, into);
  poke<Bytes16>(into, XMM(Bytes16, op->src));
  continue;
}
case OP_X_MOVE: XMM(Bytes16, op->dst) = XMM(Bytes16, op->src); continue;
case OP_X_XOR: XMM(Bytes16, op->dst) ^= XMM(Bytes16, op->src); continue;
case OP_X_OR: XMM(Bytes16, op->dst) |= XMM(Bytes16, op->src); continue;
case OP_X_AND: XMM(Bytes16, op->dst) &= XMM(Bytes16, op->src); continue;
#define X_LOW(size)                                                                                     \
  case OP_X_LOAD_##size: {                                                                              \
    LOADED(U(size), value);                                                                             \
    XMM(u64, op->dst) = value;                                                                          \
    XMM(u64, op->dst + 8) = 0;                                                                          \
    continue;                                                                                           \
  }                                                                                                     \
  case OP_X_STORE_##size: {                                                                             \
    STORABLE(U(size), into);                                                                            \
    poke<U(size)>(into, XMM(U(size), op->src));                                                         \
    continue;                                                                                           \
  }                                                                                                     \
  case OP_X_FROM_##size:                                                                                \
    XMM(u64, op->dst) = REG(U(size), op->src);                                                          \
    XMM(u64, op->dst + 8) = 0;                                                                          \
    continue;                                                                                           \
  case OP_X_TO_##size: REG(u64, op->dst) = XMM(U(size), op->src); continue;
X_LOW(32) X_LOW(64)
case OP_X_MOVE_64:
  XMM(u64, op->dst) = XMM(u64, op->src);
  XMM(u64, op->dst + 8) = 0;
  continue;

// Shifts by a count that is neither 0 nor the width or more (immediate), or by cl
#define SHIFTS(size)                                                                                    \
  case OP_SHL_I##size: REG(u64, op->dst) = shl<U(size)>(REG(U(size), op->dst), op->src); continue;      \
  case OP_SHR_I##size: REG(u64, op->dst) = shr<U(size)>(REG(U(size), op->dst), op->src); continue;      \
  case OP_SAR_I##size: REG(u64, op->dst) = sar<U(size)>(REG(U(size), op->dst), op->src); continue;      \
  case OP_ROL_I##size: {                                                                                 \
    CALLING(const U(size) result = rol<U(size)>(REG(U(size), op->dst), op->src));                         \
    REG(u64, op->dst) = result;                                                                         \
    continue;                                                                                           \
  }                                                                                                     \
  case OP_ROR_I##size: {                                                                                 \
    CALLING(const U(size) result = ror<U(size)>(REG(U(size), op->dst), op->src));                         \
    REG(u64, op->dst) = result;                                                                         \
    continue;                                                                                           \
  }                                                                                                     \
  case OP_SHL_N##size: REG(u64, op->dst) = static_cast<U(size)>(REG(U(size), op->dst) << op->src); continue; \
  case OP_SHR_N##size: REG(u64, op->dst) = REG(U(size), op->dst) >> op->src; continue;                  \
  case OP_SAR_N##size: REG(u64, op->dst) = static_cast<U(size)>(REG(I(size), op->dst) >> op->src); continue; \
  case OP_ROL_N##size: REG(u64, op->dst) = turn_left<U(size)>(REG(U(size), op->dst), op->src); continue; \
  case OP_ROR_N##size: REG(u64, op->dst) = turn_right<U(size)>(REG(U(size), op->dst), op->src); continue; \
  case OP_BSWAP_##size: REG(u64, op->dst) = __builtin_bswap##size(REG(U(size), op->dst)); continue;     \
  case OP_SHL_C##size: BY_CL(shl, size)                                                                 \
  case OP_SHR_C##size: BY_CL(shr, size)                                                                 \
  case OP_SAR_C##size: BY_CL(sar, size)
#define BY_CL(calculate, size)                                                                          \
  {                                                                                                     \
    const u32 count = g_cpu.gpr[1] & (size - 1);                                                        \
    const U(size) a = REG(U(size), op->dst);                                                            \
    REG(u64, op->dst) = count == 0 ? a : calculate<U(size)>(a, count);                                  \
    continue;                                                                                           \
  }
PLAIN(SHIFTS(32) SHIFTS(64))

#define PRODUCTS(size)                                                                                  \
  case OP_IMUL_RR##size: REG(u64, op->dst) = imul<U(size)>(REG(U(size), op->dst), REG(U(size), op->src)); continue; \
  case OP_IMUL_RRI##size: REG(u64, op->dst) = imul<U(size)>(REG(U(size), op->src), T(size, op->immediate)); continue; \
  case OP_IMUL_RM##size: {                                                                              \
    LOADED(U(size), b);                                                                                 \
    REG(u64, op->dst) = imul<U(size)>(REG(U(size), op->dst), b);                                        \
    continue;                                                                                           \
  }                                                                                                     \
  case OP_INC_R##size: {                                                                                 \
    CALLING(const U(size) result = inc<U(size)>(REG(U(size), op->dst)));                                  \
    REG(u64, op->dst) = result;                                                                         \
    continue;                                                                                           \
  }                                                                                                     \
  case OP_DEC_R##size: {                                                                                 \
    CALLING(const U(size) result = dec<U(size)>(REG(U(size), op->dst)));                                  \
    REG(u64, op->dst) = result;                                                                         \
    continue;                                                                                           \
  }                                                                                                     \
  case OP_NEG_R##size: REG(u64, op->dst) = sub<U(size)>(0, REG(U(size), op->dst)); continue;            \
  case OP_NOT_R##size: REG(u64, op->dst) = static_cast<U(size)>(~REG(U(size), op->dst)); continue;
PRODUCTS(32) PRODUCTS(64)

// Control flow
case OP_NOP: continue;
case OP_GOTO:
case OP_JMP: goto taken;
case OP_JMP_R:
  target = REG(u64, op->src);
  goto indirect;
case OP_JMP_M: {
  LOADED(u64, to);
  target = to;
  goto indirect;
}
case OP_CALL: {
  PUSHABLE(into);
  poke<u64>(into, op->immediate);
  g_cpu.gpr[4] -= 8;
  goto taken;
}
case OP_CALL_R: {
  PUSHABLE(into);
  target = REG(u64, op->src);
  poke<u64>(into, op->immediate);
  g_cpu.gpr[4] -= 8;
  goto indirect;
}
case OP_CALL_M: {
  LOADED(u64, to);
  PUSHABLE(into);
  target = to;
  poke<u64>(into, op->immediate);
  g_cpu.gpr[4] -= 8;
  goto indirect;
}
case OP_RET: {
  POPPED(to);
  target = to;
  g_cpu.gpr[4] += 8 + op->immediate;
  goto indirect;
}
case OP_LOOP: {
  const u64 mask = op->displacement ? 0xffffffffu : ~u64{0};
  const u64 count = (g_cpu.gpr[1] - (op->immediate != 3)) & mask;
  if (op->immediate == 3) BRANCH_IF(count == 0)
  g_cpu.gpr[1] = count;
  BRANCH_IF(count != 0 && (op->immediate == 2 || flag_zero() == (op->immediate == 1)))
}
#ifdef FAST_STEPS
case OP_SYSCALL:
  g_cpu.rip = rip_of(op) + op->bytes();
  g_cpu.gpr[1] = g_cpu.rip;
  g_cpu.gpr[11] = pack_flags();
  return g_cpu.exit_reason = EXIT_SYSCALL;
case OP_TRAP:
  g_cpu.rip = rip_of(op) + op->bytes();
  return g_cpu.exit_reason = static_cast<u32>(op->immediate);

// Everything else
case OP_GENERIC: {
  const Generic& generic = *reinterpret_cast<const Generic*>(at(op->immediate));
  g_cpu.rip = generic.rip;
  CALLING(const bool done = generic.handler(g_cpu, generic.insn));
  if (UNLIKELY(!done)) goto fault;
  continue;
}
case OP_GENERIC_LEAVE: {
  const Generic& generic = *reinterpret_cast<const Generic*>(at(op->immediate));
  g_cpu.rip = generic.rip + op->bytes();  // a branch sets another one
  CALLING(const bool done = generic.handler(g_cpu, generic.insn));
  if (UNLIKELY(!done)) goto fault;
  return EXIT_NONE;
}
case OP_INVALID:
  CALLING(raise(g_cpu, EXIT_INVALID_OPCODE));
  goto fault;
case OP_UNIMPLEMENTED:
  CALLING(raise(g_cpu, EXIT_UNIMPLEMENTED, op->immediate));
  goto fault;
case OP_REGION:
  if (!jit::run_region()) {  // its first instruction needs us
    block = block_at(g.block->plain);
    goto enter;
  }
  if (g_cpu.exit_reason != EXIT_NONE) return g_cpu.exit_reason;
  target = g_cpu.rip;
  goto indirect;
case OP_RESYNC: return leave_at(op);
#endif
