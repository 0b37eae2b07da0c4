/// From decoded instructions to the interpreter's steps.
#include "select.h"

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

Handler handler_of(const Insn& insn) {
  Handler handler = integer_handler(insn);
  if (handler == nullptr) handler = sse_handler(insn);
  if (handler == nullptr) handler = mmx_handler(insn);
  if (handler == nullptr) handler = x87_handler(insn);
  return handler;
}

/// Whether what comes next is not simply behind it.
bool leaves(Mnemonic mnemonic) {
  switch (mnemonic) {
    case Mnemonic::Popf:
    case Mnemonic::Jcc:
    case Mnemonic::Loopne:
    case Mnemonic::Loope:
    case Mnemonic::Loop:
    case Mnemonic::Jrcxz:
    case Mnemonic::Jmp:
    case Mnemonic::Call:
    case Mnemonic::Jmpf:
    case Mnemonic::Callf:
    case Mnemonic::Retf:
    case Mnemonic::Iret: return true;
    default: return false;
  }
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
  op.code = leaves(insn.mnemonic) ? OP_GENERIC_LEAVE : OP_GENERIC;
  op.immediate = offset_of(generic);
}

void add_branch(Builder& build, u64 taken, u64 next) {
  Branch& branch = reinterpret_cast<Branch&>(build.ops[build.count++]);
  branch = Branch{OP_NOP, {}, static_cast<u32>(taken), static_cast<u32>(next), 0, 0};
}

/// Control flow: the block's last step. False: no control flow.
bool end_block(Builder& build, Op& op, const Insn& insn) {
  const u64 next = build.rip + insn.length;
  const u64 target = next + insn.immediate;
  const Operand& a = insn.operands[0];
  const auto trap = [&](Exit exit) { op.code = OP_TRAP, op.immediate = exit, build.count++; };
  // the places of branches are 32 bits wide; what is beyond can't be fetched anyway: generic
  if (a.kind == OperandKind::Relative && target >> 32) return false;
  switch (insn.mnemonic) {
    case Mnemonic::Jcc:
      if (build.count > 0) {
        Op& before = build.ops[build.count - 1];
        const u16 fused = before.size ? fused_code(before, insn.condition) : 0;
        if (fused) {
          before.code = fused;
          before.size = static_cast<u8>(before.size + kOneInstruction + insn.length);
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
      if (a.kind == OperandKind::Gpr) op.code = call ? OP_CALL_R : OP_JMP_R, op.src = gpr(a);
      else if (set_address(op, insn)) op.code = call ? OP_CALL_M : OP_JMP_M;
      else return false;  // a rare form of address: generic
      build.count++;
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

enum class Step { Next, End, Fault };

/// One instruction at build.rip.
Step translate_one(Builder& build, Insn& insn) {
  const u32 available = fetchable(build.rip);
  const int length = decode(guest(build.rip), available, insn);
  Op& op = build.ops[build.count];
  op = Op{};
  op.base = op.index = kNoIndex;
  op.size = kOneInstruction;
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
  op.size = static_cast<u8>(kOneInstruction + length);
  resolve_rip(insn, build.rip);
  if (end_block(build, op, insn)) return Step::End;
  if (!set_simple(op, insn)) {
    op = Op{};
    op.size = static_cast<u8>(kOneInstruction + length);
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
    if (op.size && (op.code == OP_GENERIC || op.code == OP_GENERIC_LEAVE)) op.immediate -= from - place;
  }
  done.arena_used = place + build.generics * static_cast<u32>(sizeof(Generic)) - offset_of(into);
  return true;
}
