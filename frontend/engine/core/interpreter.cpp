/// The interpreter: a switch over pre-decoded steps. What is hot is the pointer to the step, in a local; all else has a fixed address.
#include "interpreter.h"

#include "decoder.h"
#include "flags.h"
#include "ops.h"
#include "regions.h"
#include "steps.h"

/// rip of a step of the running block.
static u64 rip_of(const Op* op) {
  u64 rip = g.block->rip;
  for (const Op* step = g.block->code(); step < op; step++) rip += step->bytes();
  return rip;
}

/// Takes back what was counted when the block began: the instructions from `op` on.
static void uncount(const Op* op) {
  u32 done = 0;
  for (const Op* step = g.block->code(); step < op; step++) done += step->instructions();
  g_cpu.instructions -= g.block->instructions - done;
}

static u32 leave_at(const Op* op) {
  g_cpu.rip = rip_of(op);
  uncount(op);
  return g_cpu.exit_reason;
}

/// The block that a branch leads to, which is noted there for the next time.
static Block* follow(Branch* branch, bool taken) {
  const u64 rip = taken ? branch->taken : branch->next;
  const u32 flushes = g.flushes;
  Block* const block = find_block(rip);
  if (block == nullptr) g_cpu.rip = rip;
  else if (flushes == g.flushes) (taken ? branch->taken_block : branch->next_block) = offset_of(block);
  return block;
}

static Block* follow_rip(u64 rip) {
  Block* const block = find_block(rip);
  if (block == nullptr) g_cpu.rip = rip;
  return block;
}

enum class Stepped : u32 { Next, Fault, Taken, NotTaken, Indirect };

/// The step g.op whose access is not in one page that allows it.
NOINLINE static Stepped step_slowly() {
  Op* op = g.op;
  u64 target;
#define MUST(fast, slow) \
  if (!(fast) && !(slow)) goto fault
#define PLAIN(...)
  do {
    switch (op->code) {
#include "cases.h"
      default: __builtin_unreachable();
    }
  } while (false);
  return Stepped::Next;
taken: return Stepped::Taken;
not_taken: return Stepped::NotTaken;
indirect: g.target = target; return Stepped::Indirect;
misaligned: raise(g_cpu, EXIT_GENERAL_PROTECTION);
fault: return Stepped::Fault;
#undef MUST
#undef PLAIN
}
#include "cases_end.h"

/// Runs from `block` on until an exit or until the dispatcher is needed (EXIT_NONE); rip is set.
static u32 execute(Block* block) {
  Op* op;
  u64 target;
enter:
  if (UNLIKELY(g_cpu.instructions >= g.limit)) {
    g_cpu.rip = block->rip;
    return g_cpu.exit_reason = EXIT_BUDGET;
  }
  g_cpu.instructions += block->instructions;
  g.block = block;
  op = block->code();

#define FAST_STEPS
#define MUST(fast, slow) \
  if (UNLIKELY(!(fast))) goto slow_access
#define PLAIN(...) __VA_ARGS__
go_on:
  for (;; op++) {
    switch (op->code) {
#include "cases.h"
      default: __builtin_unreachable();
    }
  }

slow_access: {
  g.op = op;
  const Stepped stepped = step_slowly();
  op = g.op;
  switch (stepped) {
    case Stepped::Next: op++; goto go_on;
    case Stepped::Fault: goto fault;
    case Stepped::Taken: goto taken;
    case Stepped::NotTaken: goto not_taken;
    case Stepped::Indirect: target = g.target; goto indirect;
  }
}
taken: {
  Branch* const branch = reinterpret_cast<Branch*>(op + 1);
  block = block_at(branch->taken_block);
  if (LIKELY(branch->taken_block != 0)) {
    if (jit::count_branch(block)) goto look;
    goto enter;
  }
  block = follow(branch, true);
  if (block != nullptr) goto enter;
  return g_cpu.exit_reason;
}
not_taken: {
  Branch* const branch = reinterpret_cast<Branch*>(op + 1);
  block = block_at(branch->next_block);
  if (LIKELY(branch->next_block != 0)) {
    if (jit::count_branch(block)) goto look;
    goto enter;
  }
  block = follow(branch, false);
  if (block != nullptr) goto enter;
  return g_cpu.exit_reason;
}
indirect:
  block = block_at(hash_slot(target));
  if (UNLIKELY(block->rip != target)) {
    block = follow_rip(target);
    if (block == nullptr) return g_cpu.exit_reason;
  }
  if (LIKELY(!jit::count_branch(block))) goto enter;
look:
  g.block = block;  // so that it need not live in a local across the call
  jit::look_at(block);
  block = g.block;
  goto enter;
misaligned:
  raise(g_cpu, EXIT_GENERAL_PROTECTION);
fault:
  return leave_at(op);
}

/// Runs the next instruction. Its end is the budget's, or it leaves.
static void execute_one(Cpu& cpu) {
  Block* const block = single_block(cpu.rip);
  g.limit = cpu.instructions + 1;
  if (block != nullptr) execute(block);
  if (cpu.exit_reason == EXIT_NONE) cpu.exit_reason = EXIT_BUDGET;
}

/// Whether the access at `address` of the instruction at rip is one of the stack segment.
static bool is_in_stack_segment(const Cpu& cpu, u64 address) {
  constexpr u8 rsp = 4, rbp = 5;
  constexpr u64 near = 64;  // more than any of them moves
  Insn insn;
  const u32 in_page = kPageSize - (static_cast<u32>(cpu.rip) & (kPageSize - 1));
  if (decode(guest(cpu.rip), in_page < 15 ? in_page : 15, insn) <= 0) decode(guest(cpu.rip), 15, insn);
  switch (insn.mnemonic) {
    case Mnemonic::Enter:
    case Mnemonic::Leave: return true;
    case Mnemonic::Push:
    case Mnemonic::Pop:
    case Mnemonic::Pushf:
    case Mnemonic::Popf:
    case Mnemonic::Call:
    case Mnemonic::Ret:
    case Mnemonic::Callf:
    case Mnemonic::Retf:
    case Mnemonic::Iret:
      if (address - cpu.gpr[rsp] + near < 2 * near) return true;
      break;
    default: break;
  }
  for (const Operand& operand : insn.operands) {
    if (operand.kind == OperandKind::Memory) return (insn.base == rsp || insn.base == rbp) && !(insn.prefixes & (PREFIX_FS | PREFIX_GS));
  }
  return false;
}

u32 run_core(u64 budget, bool one) {
  Cpu& cpu = g_cpu;
  unpack_flags(cpu.rflags);
  cpu.rflags = 0;  // an address without an index takes it for one
  cpu.exit_reason = EXIT_NONE;
  g.limit = cpu.instructions + budget;
  while (cpu.exit_reason == EXIT_NONE) {
    const bool traps = g.system_flags & FLAG_T;
    if (one || traps) {
      execute_one(cpu);
      if (traps && cpu.exit_reason == EXIT_BUDGET) cpu.exit_reason = EXIT_TRAP;
      continue;
    }
    Block* const block = find_block(cpu.rip);
    if (block != nullptr) execute(block);
  }
  cpu.rflags = pack_flags();
  if (cpu.exit_reason == EXIT_STACK_FAULT) {
    raise(cpu, is_in_stack_segment(cpu, cpu.exit_address) ? EXIT_STACK_FAULT : EXIT_GENERAL_PROTECTION);
  }
  return cpu.exit_reason;
}
