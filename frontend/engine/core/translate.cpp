/// From decoded instructions to the interpreter's steps.
#include "ops.h"

namespace {

constexpr u32 kMostInstructions = 64;
/// Steps and generic data that one more instruction, and the end of the block, can need.
constexpr u32 kMostBytesOfOne = 4 * sizeof(Op) + sizeof(Generic) + 16;
static_assert(kMostInstructions * kMostBytesOfOne < kBlockBytes);

/// What a block is made of while it is decoded.
struct Builder {
  Op* ops;
  u32 count = 0;
  u64 rip = 0;  // of the instruction
  u32 generics = 0;
  Generic* generic = nullptr;  // they grow down from the end of the free bytes
};

u8 gpr(u32 number) { return static_cast<u8>(number * 8); }
u8 gpr(const Operand& operand) {
  return static_cast<u8>(operand.kind == OperandKind::GprHigh ? operand.reg * 8 + 1 : operand.reg * 8);
}
bool is_gpr(const Operand& operand) { return operand.kind == OperandKind::Gpr || operand.kind == OperandKind::GprHigh; }
bool is_memory(const Operand& operand) { return operand.kind == OperandKind::Memory; }
bool is_immediate(const Operand& operand) { return operand.kind == OperandKind::Immediate; }

u32 log2_size(u32 size) { return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3; }

/// The address of the memory operand, if a step can have it: at most two of base, index and segment.
bool set_address(Op& op, const Insn& insn) {
  if (insn.prefixes & PREFIX_ADDRESS32) return false;
  op.base = insn.base == kNoRegister ? kNoIndex : gpr(insn.base);
  op.index = insn.index == kNoRegister ? kNoIndex : gpr(insn.index);
  op.shift = static_cast<u8>((insn.index == kNoRegister ? 0 : log2_size(insn.scale)) | 64);
  op.displacement = insn.displacement;
  if (insn.prefixes & (PREFIX_FS | PREFIX_GS)) {
    const u8 segment = insn.prefixes & PREFIX_FS ? offsetof(Cpu, fs_base) : offsetof(Cpu, gs_base);
    if (op.base == kNoIndex) op.base = segment;
    else if (op.index == kNoIndex) op.index = segment;
    else return false;
  }
  return true;
}

/// The form of a two-operand instruction, with registers, address and immediate set; -1: none of them.
int set_form(Op& op, const Insn& insn) {
  const Operand &a = insn.operands[0], &b = insn.operands[1];
  if (is_gpr(a)) {
    op.dst = gpr(a);
    if (is_gpr(b)) return op.src = gpr(b), FORM_RR;
    if (is_immediate(b)) return op.immediate = insn.immediate, FORM_RI;
    if (is_memory(b)) return set_address(op, insn) ? FORM_RM : -1;
    return -1;
  }
  if (!is_memory(a) || !set_address(op, insn)) return -1;
  if (is_gpr(b)) return op.src = gpr(b), FORM_MR;
  if (is_immediate(b)) return op.immediate = insn.immediate, FORM_MI;
  return -1;
}

bool alu_of(Mnemonic mnemonic, u32& alu) {
  switch (mnemonic) {
    case Mnemonic::Add: alu = ALU_Add; return true;
    case Mnemonic::Or: alu = ALU_Or; return true;
    case Mnemonic::Adc: alu = ALU_Adc; return true;
    case Mnemonic::Sbb: alu = ALU_Sbb; return true;
    case Mnemonic::And: alu = ALU_And; return true;
    case Mnemonic::Sub: alu = ALU_Sub; return true;
    case Mnemonic::Xor: alu = ALU_Xor; return true;
    case Mnemonic::Cmp: alu = ALU_Cmp; return true;
    case Mnemonic::Test: alu = ALU_Test; return true;
    default: return false;
  }
}

/// mov, movzx and relatives; lea.
bool set_move(Op& op, const Insn& insn) {
  const Operand &a = insn.operands[0], &b = insn.operands[1];
  const bool memory = is_memory(b);
  const bool wide = a.size == 8;
  switch (insn.mnemonic) {
    case Mnemonic::Mov: {
      const int form = set_form(op, insn);
      if (form < 0) return false;
      op.code = static_cast<u16>(OP_MOV + static_cast<u32>(form) * kSizes + log2_size(a.size));
      return true;
    }
    case Mnemonic::Lea:
      if (a.size < 4 || (insn.prefixes & (PREFIX_FS | PREFIX_GS)) || !set_address(op, insn)) return false;
      op.dst = gpr(a);
      op.code = wide ? op.index == kNoIndex ? OP_ADDRESS : OP_LEA_64 : OP_LEA_32;
      return true;
    case Mnemonic::Movzx:
    case Mnemonic::Movsx:
    case Mnemonic::Movsxd: {
      if (a.size < 4 || set_form(op, insn) < 0) return false;
      const bool byte = b.size == 1;
      if (insn.mnemonic == Mnemonic::Movzx) op.code = memory ? byte ? OP_MOVZX_M8 : OP_MOVZX_M16 : byte ? OP_MOVZX_R8 : OP_MOVZX_R16;
      else if (b.size == 4) {
        if (!wide) return op.code = static_cast<u16>(OP_MOV + (memory ? FORM_RM : FORM_RR) * kSizes + 2), true;
        op.code = memory ? OP_MOVSX64_M32 : OP_MOVSX64_R32;
      } else if (wide) op.code = memory ? byte ? OP_MOVSX64_M8 : OP_MOVSX64_M16 : byte ? OP_MOVSX64_R8 : OP_MOVSX64_R16;
      else op.code = memory ? byte ? OP_MOVSX32_M8 : OP_MOVSX32_M16 : byte ? OP_MOVSX32_R8 : OP_MOVSX32_R16;
      return true;
    }
    case Mnemonic::Cbw:
      if (insn.operand_size != 8) return false;
      op.code = OP_CDQE;
      return true;
    case Mnemonic::Cwd:
      if (insn.operand_size < 4) return false;
      op.code = insn.operand_size == 8 ? OP_CQO : OP_CDQ;
      return true;
    case Mnemonic::Cmovcc:
      if (a.size < 4 || set_form(op, insn) < 0) return false;
      if (memory) {
        op.code = OP_CMOV_RM;
        op.src = static_cast<u8>(a.size);
        op.immediate = insn.condition;
      } else op.code = static_cast<u16>((wide ? OP_CMOV_RR64 : OP_CMOV_RR32) + insn.condition);
      return true;
    case Mnemonic::Setcc:
      if (is_gpr(a)) {
        op.dst = gpr(a);
        op.code = static_cast<u16>(OP_SETCC_R + insn.condition);
        return true;
      }
      op.code = OP_SETCC_M;
      op.src = insn.condition;
      return set_address(op, insn);
    default: return false;
  }
}

/// Shifts, products and what has one operand: 32 and 64 bits.
bool set_arithmetic(Op& op, const Insn& insn) {
  const Operand &a = insn.operands[0], &b = insn.operands[1];
  if (!is_gpr(a) || a.size < 4) return false;
  const bool wide = a.size == 8;
  op.dst = gpr(a);
  const auto shift = [&](OpCode immediate, OpCode by_cl) {
    if (is_immediate(b)) {
      op.src = static_cast<u8>(insn.immediate & (wide ? 63 : 31));
      op.code = static_cast<u16>(immediate + wide);
      return op.src != 0;
    }
    op.code = static_cast<u16>(by_cl + wide);
    return by_cl != OP_NOP;
  };
  const auto one = [&](OpCode code) { return op.code = static_cast<u16>(code + wide), true; };
  switch (insn.mnemonic) {
    case Mnemonic::Shl: return shift(OP_SHL_I32, OP_SHL_C32);
    case Mnemonic::Shr: return shift(OP_SHR_I32, OP_SHR_C32);
    case Mnemonic::Sar: return shift(OP_SAR_I32, OP_SAR_C32);
    case Mnemonic::Rol: return is_immediate(b) && shift(OP_ROL_I32, OP_NOP);
    case Mnemonic::Ror: return is_immediate(b) && shift(OP_ROR_I32, OP_NOP);
    case Mnemonic::Bswap: return one(OP_BSWAP_32);
    case Mnemonic::Inc: return one(OP_INC_R32);
    case Mnemonic::Dec: return one(OP_DEC_R32);
    case Mnemonic::Neg: return one(OP_NEG_R32);
    case Mnemonic::Not: return one(OP_NOT_R32);
    case Mnemonic::Imul:
      if (insn.operand_count == 3) {
        if (!is_gpr(b)) return false;
        op.src = gpr(b);
        op.immediate = insn.immediate;
        return one(OP_IMUL_RRI32);
      }
      if (insn.operand_count != 2) return false;
      if (is_memory(b)) return set_address(op, insn) && one(OP_IMUL_RM32);
      op.src = gpr(b);
      return one(OP_IMUL_RR32);
    default: return false;
  }
}

bool set_stack(Op& op, const Insn& insn) {
  if (insn.operand_size != 8) return false;
  const Operand& a = insn.operands[0];
  switch (insn.mnemonic) {
    case Mnemonic::Push:
      if (a.kind == OperandKind::Gpr) return op.code = OP_PUSH_R, op.src = gpr(a), true;
      if (is_immediate(a)) return op.code = OP_PUSH_I, op.immediate = insn.immediate, true;
      if (is_memory(a)) return op.code = OP_PUSH_M, set_address(op, insn);
      return false;
    case Mnemonic::Pop: return op.code = OP_POP_R, op.dst = gpr(a), a.kind == OperandKind::Gpr;
    case Mnemonic::Leave: return op.code = OP_LEAVE, true;
    default: return false;
  }
}

/// A step without a place for branches. False: the instruction is a generic one.
bool set_simple(Op& op, const Insn& insn) {
  if (insn.prefixes & PREFIX_LOCK) return false;
  u32 alu;
  if (alu_of(insn.mnemonic, alu)) {
    const int form = set_form(op, insn);
    if (form < 0) return false;
    op.code = static_cast<u16>(OP_ALU + (alu * kAluForms + static_cast<u32>(form)) * kSizes + log2_size(insn.operands[0].size));
    return true;
  }
  switch (insn.mnemonic) {
    case Mnemonic::Nop:
    case Mnemonic::Pause:
    case Mnemonic::Prefetch: op.code = OP_NOP; return true;
    default: return set_move(op, insn) || set_stack(op, insn) || set_arithmetic(op, insn);
  }
}

Handler handler_of(const Insn& insn) {
  Handler handler = integer_handler(insn);
  if (handler == nullptr) handler = sse_handler(insn);
  if (handler == nullptr) handler = mmx_handler(insn);
  if (handler == nullptr) handler = x87_handler(insn);
  return handler;
}

void set_generic(Builder& build, Op& op, const Insn& insn) {
  const Handler handler = handler_of(insn);
  if (handler == nullptr) {
    op.code = OP_UNIMPLEMENTED;
    op.immediate = static_cast<u64>(insn.mnemonic);
    return;
  }
  Generic* const generic = build.generic - ++build.generics;
  generic->handler = handler;
  generic->rip = build.rip;
  generic->insn = insn;
  op.code = insn.mnemonic == Mnemonic::Popf ? OP_GENERIC_LEAVE : OP_GENERIC;
  op.immediate = offset_of(generic);
}

void add_branch(Builder& build, u64 taken, u64 next) {
  Branch& branch = reinterpret_cast<Branch&>(build.ops[build.count++]);
  branch = Branch{OP_NOP, {}, static_cast<u32>(taken), static_cast<u32>(next), 0, 0};
}

/// A comparison just before that can be done with the jump: its step's code plus the condition, or 0.
u16 fused_code(const Op& op, u8 condition) {
  const u32 first = OP_ALU + ALU_Cmp * kAluForms * kSizes;
  if (op.code < first || op.code >= OP_ALU + kAlus * kAluForms * kSizes) return 0;
  const u32 place = (op.code - first) % (kAluForms * kSizes);
  const u32 form = place / kSizes, size = place % kSizes;
  const bool test = op.code - first >= kAluForms * kSizes;
  if (size == 1 || (size == 0 && (form == FORM_RM || form == FORM_MR))) return 0;
  u32 code = condition;
  if (test) {  // C and O are clear
    if (code == 12) code = 8;
    if (code == 13) code = 9;
    if (code == 6) code = 4;
    if (code == 7) code = 5;
    if (code != 4 && code != 5 && code != 8 && code != 9 && code != 14 && code != 15) return 0;
  } else if (code < 2 || code == 10 || code == 11) {
    return 0;
  }
  return static_cast<u16>((test ? OP_TEST_JCC : OP_CMP_JCC) + place * kConditions + code);
}

/// Control flow: the block's last step. False: no control flow.
bool end_block(Builder& build, Op& op, const Insn& insn) {
  const u64 next = build.rip + insn.length;
  const u64 target = next + insn.immediate;
  const Operand& a = insn.operands[0];
  const auto trap = [&](Exit exit) { op.code = OP_TRAP, op.immediate = exit, build.count++; };
  // the places of branches are 32 bits wide; what is beyond can't be fetched anyway
  const bool far = target >> 32 || next >> 32;
  switch (insn.mnemonic) {
    case Mnemonic::Jcc:
      if (build.count > 0) {
        Op& before = build.ops[build.count - 1];
        const u16 fused = before.length ? fused_code(before, insn.condition) : 0;
        if (fused) {
          before.code = fused;
          before.length = static_cast<u8>(before.length + insn.length);
          before.shift = static_cast<u8>(before.shift + 64);
          add_branch(build, target, next);
          return true;
        }
      }
      op.code = static_cast<u16>(OP_JCC + insn.condition);
      break;
    case Mnemonic::Loopne:
    case Mnemonic::Loope:
    case Mnemonic::Loop:
    case Mnemonic::Jrcxz:
      op.code = OP_LOOP;
      op.immediate = insn.mnemonic == Mnemonic::Loopne ? 0 : insn.mnemonic == Mnemonic::Loope ? 1 : insn.mnemonic == Mnemonic::Loop ? 2 : 3;
      op.displacement = (insn.prefixes & PREFIX_ADDRESS32) != 0;
      break;
    case Mnemonic::Jmp:
    case Mnemonic::Call: {
      const bool call = insn.mnemonic == Mnemonic::Call;
      op.immediate = next;
      if (a.kind == OperandKind::Relative) {
        op.code = call ? OP_CALL : OP_JMP;
        break;
      }
      build.count++;
      if (a.kind == OperandKind::Gpr) op.code = call ? OP_CALL_R : OP_JMP_R, op.src = gpr(a);
      else if (set_address(op, insn)) op.code = call ? OP_CALL_M : OP_JMP_M;
      else op.code = OP_UNIMPLEMENTED, op.immediate = static_cast<u64>(insn.mnemonic);
      return true;
    }
    case Mnemonic::Ret:
      op.code = OP_RET;
      op.immediate = insn.operand_count ? insn.immediate & 0xffff : 0;
      build.count++;
      return true;
    case Mnemonic::Syscall: op.code = OP_SYSCALL; build.count++; return true;
    case Mnemonic::Int3: trap(EXIT_BREAKPOINT); return true;
    case Mnemonic::Int1: trap(EXIT_TRAP); return true;
    case Mnemonic::Int:
      if ((insn.immediate & 0xff) == 0x80) trap(EXIT_INT80);
      else if ((insn.immediate & 0xff) == 3) trap(EXIT_BREAKPOINT);
      else return false;
      return true;
    case Mnemonic::Ud2: op.code = OP_INVALID; build.count++; return true;
    default: return false;
  }
  if (far) op.code = OP_UNIMPLEMENTED, op.immediate = static_cast<u64>(insn.mnemonic);
  build.count++;
  add_branch(build, target, next);
  return true;
}

/// rip-relative operands become absolute.
void resolve_rip(Insn& insn, u64 rip) {
  if (insn.base != kRip) return;
  insn.base = kNoRegister;
  insn.displacement += static_cast<i64>(rip + insn.length);
}

/// Bytes that can be fetched from `rip` on, up to the 15 of an instruction.
u32 fetchable(u64 rip) {
  const u32 here = kPageSize - (static_cast<u32>(rip) & (kPageSize - 1));
  if (here >= 15) return 15;
  const u64 next = (rip >> kPageShift) + 1;
  return next < kGuestEnd >> kPageShift && page_table()[next] & PAGE_EXEC ? 15 : here;
}

/// What a step that cannot fault does with flags.
enum class FlagUse { None, WritesAll, Other };

FlagUse flag_use(const Op& op) {
  const u32 code = op.code;
  if (code >= OP_ALU && code < OP_CMP_JCC) {
    const u32 alu = (code - OP_ALU) / (kAluForms * kSizes), form = (code - OP_ALU) / kSizes % kAluForms;
    const bool reads = alu == ALU_Adc || alu == ALU_Sbb;
    return !reads && (form == FORM_RR || form == FORM_RI) ? FlagUse::WritesAll : FlagUse::Other;
  }
  if (code >= OP_CMP_JCC) {
    const u32 form = (code - OP_CMP_JCC) / (kSizes * kConditions) % kAluForms;
    return form == FORM_RR || form == FORM_RI ? FlagUse::WritesAll : FlagUse::Other;
  }
  if (code >= OP_MOV && code < OP_CMOV_RR32) {
    const u32 form = (code - OP_MOV) / kSizes;
    return form == FORM_RR || form == FORM_RI ? FlagUse::None : FlagUse::Other;
  }
  if ((code >= OP_SHL_I32 && code <= OP_SAR_I64) || (code >= OP_IMUL_RR32 && code <= OP_IMUL_RR64)) return FlagUse::WritesAll;
  const bool plain = code == OP_LEA_32 || code == OP_LEA_64 || code == OP_ADDRESS || code == OP_MOVZX_R8 || code == OP_MOVZX_R16 ||
                     (code >= OP_ROL_I32 && code <= OP_ROR_I64) || (code >= OP_SHL_N32 && code <= OP_BSWAP_64);
  return plain ? FlagUse::None : FlagUse::Other;
}

/// Shifts and rotations whose flags the same block makes anew before anything can see them.
void drop_dead_flags(Op* ops, u32 count) {
  bool dead = false;
  for (u32 i = count; i-- > 0;) {
    Op& op = ops[i];
    if (op.length == 0) continue;  // a Branch, or the end
    const FlagUse use = flag_use(op);
    if (dead && op.code >= OP_SHL_I32 && op.code <= OP_ROR_I64) op.code = static_cast<u16>(op.code + (OP_SHL_N32 - OP_SHL_I32));
    if (use == FlagUse::WritesAll) dead = true;
    else if (use == FlagUse::Other) dead = false;
  }
}

enum class Step { Next, End, Fault };

/// One instruction at build.rip.
Step translate_one(Builder& build, Insn& insn) {
  const u32 available = fetchable(build.rip);
  const int length = decode(guest(build.rip), available, insn);
  Op& op = build.ops[build.count];
  op = Op{};
  op.base = op.index = kNoIndex;
  op.shift = 64;
  if (length <= 0) {
    const bool missing = length == 0 && available < 15;
    if (missing && build.count > 0) return Step::Next;  // what comes before is a block of its own
    if (missing) return raise(g_cpu, EXIT_PAGE_FAULT, build.rip + available, PAGE_EXEC), Step::Fault;
    insn = Insn{};
    insn.length = static_cast<u8>(available);  // the block is dropped when any of them changes
    if (length == 0) {  // longer than 15 bytes
      if (build.count > 0) return Step::Next;
      return raise(g_cpu, EXIT_GENERAL_PROTECTION), Step::Fault;
    }
    op.code = OP_INVALID;
    build.count++;
    return Step::End;
  }
  op.length = static_cast<u8>(length);
  resolve_rip(insn, build.rip);
  if (end_block(build, op, insn)) return Step::End;
  if (!set_simple(op, insn)) {
    const u8 bytes = op.length;
    op = Op{};
    op.shift = 64;
    op.length = bytes;
    set_generic(build, op, insn);
  }
  build.count++;
  return op.code == OP_GENERIC_LEAVE || op.code == OP_UNIMPLEMENTED ? Step::End : Step::Next;
}

}  // namespace

bool translate(u64 rip, u32 most, Op* into, Translation& done) {
  Builder build{into, 0, rip, 0, nullptr};
  const u32 end = (offset_of(into) + kBlockBytes - 64) & ~15u;
  build.generic = reinterpret_cast<Generic*>(at(end));
  const u64 page = rip >> kPageShift;
  u32 instructions = 0;
  Step step = Step::Next;
  while (step == Step::Next && instructions < most && instructions < kMostInstructions && build.rip >> kPageShift == page) {
    Insn insn{};
    const u32 before = build.count;
    step = translate_one(build, insn);
    if (step == Step::Fault) return false;
    if (build.count == before && step == Step::Next) break;
    instructions++;
    build.rip += insn.length;
  }
  if (step == Step::Next) {
    Op& op = build.ops[build.count++];
    op = Op{};
    op.code = OP_GOTO;
    add_branch(build, build.rip, build.rip);
  }
  drop_dead_flags(into, build.count);
  done = {instructions, build.count, static_cast<u32>(build.rip - rip), build.count * static_cast<u32>(sizeof(Op))};
  if (build.generics == 0) return true;
  // generic data was put at the end: it goes right behind the steps
  const u32 place = (offset_of(build.ops + build.count) + 15) & ~15u;
  const u32 from = offset_of(build.generic - build.generics);
  __builtin_memmove(at(place), at(from), build.generics * sizeof(Generic));
  for (u32 i = 0; i < build.count; i++) {
    Op& op = build.ops[i];
    if (op.length && (op.code == OP_GENERIC || op.code == OP_GENERIC_LEAVE)) op.immediate -= from - place;
  }
  done.arena_used = place + build.generics * static_cast<u32>(sizeof(Generic)) - offset_of(into);
  return true;
}
