#include "regions.h"

#include "flags.h"
#include "interpreter.h"
#include "decoder.h"
#include "decoder_tables.h"
#include "emitter.h"
#include "ops.h"
#include "ranges.h"
#include "translated.h"

#ifdef __wasm__
/// Compiles a module with the core's memory and table; the table index of its function `run`, or 0.
extern "C" __attribute__((import_module("env"), import_name("translate"))) u32 imported_translate(const u8* bytes, u32 size);
/// Frees a table index.
extern "C" __attribute__((import_module("env"), import_name("discard"))) void imported_discard(u32 index);
#else
/// A native core runs no wasm; regions are written all the same, for the sanitizers.
static u32 imported_translate(const u8*, u32) { return 0; }
static void imported_discard(u32) {}
#endif

namespace jit {

LeftFlags left_flags;
u32 drops = 0;

namespace {

constexpr u32 kRegions = 2048;
/// Instructions of a region with a loop, and of one that needs none.
constexpr u32 kWithLoop = 320, kWithoutLoop = 120;
/// What branches have led to less often is left out of regions.
constexpr u32 kWarm = 16;
constexpr u32 kPagesOfRegion = 24;
/// A call stays in the code it began in, and engines optimise a function between its calls (no on-stack replacement).
constexpr u32 kMostAtOnce = 1 << 17;
constexpr u32 kHeldInstructions = 4096;

struct Translated {
  u32 block;      // offset; 0: free
  u16 code;       // of its first step before
  u8 page_count;
  u32 index;      // of the table
  u32 pages[kPagesOfRegion];
};

Translated translated[kRegions];
u32 translated_count = 0;
/// Instructions that translated functions run by handlers.
Insn held[kHeldInstructions];
u32 held_count = 0;

Handler handler_of(const Insn& insn) {
  if (const Handler handler = integer_handler(insn)) return handler;
  if (const Handler handler = sse_handler(insn)) return handler;
  if (const Handler handler = mmx_handler(insn)) return handler;
  return x87_handler(insn);
}

/// Takes over what a function has left of the flags.
void take_flags() {
  if (left_flags.kind < 4 && !left_flags.step && !left_flags.turn) return;
  g.lazy.a = flags_of(left_flags, arithmetic_flags());
  g.lazy.kind = KIND_EXPLICIT;
  g.lazy.result = 0;
  left_flags.kind = left_flags.step = left_flags.turn = 0;
}

/// 0 done, 1 done and translated code was dropped, 2 an exit was set.
u32 execute_held(u32 which) {
  take_flags();
  const Insn& insn = held[which];
  const u32 before = drops;
  if (!handler_of(insn)(g_cpu, insn)) return 2;
  return drops != before;
}

bool is_held_by_nobody(const Insn& insn) { return !effect_of(insn).translated && !handler_of(insn); }

u32 condition_slowly(u32 code) {
  take_flags();
  return condition(code);
}

bool note_pages(const Region& region, Translated& entry) {
  entry.page_count = 0;
  for (u32 i = 0; i < region.instruction_count; ++i) {
    const u64 last = region.addresses[i] + region.instructions[i].length - 1;
    const u64 both[] = {region.addresses[i], last};
    for (const u64 address : both) {
      const u32 page = static_cast<u32>(address >> kPageShift);
      u32 known = 0;
      while (known < entry.page_count && entry.pages[known] != page) ++known;
      if (known < entry.page_count) continue;
      if (entry.page_count == kPagesOfRegion) return false;
      entry.pages[entry.page_count++] = page;
    }
  }
  return true;
}

bool has_loop(const Region& region) {
  for (u32 i = 0; i < region.block_count; ++i) {
    if (region.blocks[i].loop) return true;
  }
  return false;
}

void discard(Translated& entry) {
  imported_discard(entry.index);
  Block* const block = block_at(entry.block);
  if (!block->dropped) block->code()->code = entry.code;
  entry.block = 0;
  ++drops;
}

Floats floats_of(const Region& region) {
  for (u32 i = 0; i < region.instruction_count; ++i) {
    if (is_float_mnemonic(region.instructions[i])) return floats_are_direct() ? FLOATS_DIRECT : FLOATS_BY_HANDLER;
  }
  return FLOATS_NONE;
}

/// The block's function goes; it will be translated anew when it has become hot again.
void forget(Block* block) {
  block->heat = 0;
  for (u32 i = 0; i < translated_count; ++i) {
    if (translated[i].block == offset_of(block)) discard(translated[i]);
  }
}

Translated* free_entry() {
  for (u32 i = 0; i < translated_count; ++i) {
    if (!translated[i].block) return &translated[i];
  }
  if (translated_count == kRegions) drop_all_regions();
  return &translated[translated_count++];
}

template <class Function>
u32 table_index(Function* function) {
  return static_cast<u32>(reinterpret_cast<uintptr_t>(function));
}

}  // namespace

Cpu& the_cpu() { return g_cpu; }
u8* the_pages() { return page_table(); }
u32 helper_execute() { return table_index(&execute_held); }
u32 helper_condition() { return table_index(&condition_slowly); }

/// Whether what the translator takes for granted, MXCSR's modes, TF and the segments' bases, may be otherwise afterwards.
static bool changes_modes(const Insn& insn) {
  return changes_segments(insn) || insn.mnemonic == Mnemonic::Popf || insn.mnemonic == Mnemonic::Ldmxcsr || insn.mnemonic == Mnemonic::Fxrstor;
}

bool is_control(const Insn& insn) {
  constexpr u16 ends = FORM_BRANCH | FORM_PRIVILEGED | FORM_UNDEFINED;
  return (form_attributes(insn.form) & ends) || changes_modes(insn) || is_held_by_nobody(insn);
}

bool is_warm(u64 address) {
  const Block* const block = known_block(address);
  return block != nullptr && block->heat >= kWarm;
}

bool fetch_for_translation(u64 address, Insn& insn) {
  const u8* const pages = page_table();
  auto executable = [&](u64 at) { return at < kGuestEnd && (pages[at >> kPageShift] & PAGE_EXEC); };
  if (!executable(address)) return false;
  const u32 here = kPageSize - (static_cast<u32>(address) & (kPageSize - 1));
  const u32 available = here < 15 && executable(address + here) ? 15 : here;
  if (decode(guest(address), available < 15 ? available : 15, insn) <= 0) return false;
  if ((insn.prefixes & PREFIX_LOCK) && !(form_attributes(insn.form) & FORM_LOCK && insn.operands[0].kind == OperandKind::Memory)) return false;
  if (insn.base == kRip) {
    insn.base = kNoRegister;
    insn.displacement += static_cast<i64>(address + insn.length);
  }
  return true;
}

/// Stores into these pages must be noted.
static void mark_code(const Translated& entry) {
  for (u32 i = 0; i < entry.page_count; ++i) {
    u8& bits = page_table()[entry.pages[i]];
    if (bits & PAGE_WRITE) forget_ranges();
    bits = static_cast<u8>((bits | PAGE_CODE) & ~PAGE_WRITE);
  }
}

u32 hold(const Insn& insn) {
  if (held_count == kHeldInstructions || !handler_of(insn)) return ~0u;
  held[held_count] = insn;
  return held_count++;
}

void drop_regions(u32 page) {
  for (u32 i = 0; i < translated_count; ++i) {
    if (!translated[i].block) continue;
    for (u32 k = 0; k < translated[i].page_count; ++k) {
      if (translated[i].pages[k] != page) continue;
      discard(translated[i]);
      break;
    }
  }
}

void drop_all_regions() {
  for (u32 i = 0; i < translated_count; ++i) {
    if (translated[i].block) discard(translated[i]);
  }
  translated_count = 0;
  held_count = 0;
}

bool heat(Block* block, bool needs_loop, bool all) {
  static Region region;
  if (block->code()->code == OP_REGION) return true;
  if (block->dropped || !form_region(region, block->rip, needs_loop ? kWithLoop : kWithoutLoop, all) || (needs_loop && !has_loop(region))) return false;
  if (held_count > kHeldInstructions - kRegionInstructions) drop_all_regions();
  Translated made{};
  if (!note_pages(region, made)) return false;
  u8* const module = at(kModuleAt);
  const u32 size = write_region(region, module, kModuleCapacity);
  if (!size) return false;
  if (g.arena_next + kBlockBytes > kArenaEnd) return false;  // else the blocks, this one too, would be flushed
  Block* const plain = twin_block(block->rip);
  if (plain == nullptr) return false;
  made.index = imported_translate(module, size);
  if (!made.index) return false;
  made.block = offset_of(block);
  made.code = block->code()->code;
  *free_entry() = made;
  block->region = made.index;
  block->plain = offset_of(plain);
  block->floats = floats_of(region);
  mark_code(made);
  block->code()->code = OP_REGION;
  return true;
}

void look_at(Block* block) {
  if (block->heat == kHot) heat(block, true, false);
  else if (block->heat == kVeryHot) heat(block, false, false);
}

/// From what a function has missed. False: it should be translated anew.
static bool learn(const Block* block) {
  if (missed_range() != kMissedZero) return learn_missed_range();
  missed_range() = 0;
  return note_zero(block->rip);
}

bool run_region() {
  g_cpu.instructions -= g.block->instructions;
  Block* block = g.block;
  bool any = false;
  while (g_cpu.instructions < g.limit) {
    if (block->floats != FLOATS_NONE && (block->floats == FLOATS_DIRECT) != floats_are_direct()) {
      forget(block);
      break;
    }
    const u64 left = g.limit - g_cpu.instructions;
    const i32 budget = static_cast<i32>(left < kMostAtOnce ? left : kMostAtOnce);
    const auto function = reinterpret_cast<i32 (*)(i32)>(static_cast<uintptr_t>(block->region));
    const i64 done = static_cast<i64>(budget) - function(budget);
    if (UNLIKELY(missed_range()) && !learn(block)) forget(block);
    g_cpu.instructions += static_cast<u64>(done);
    const u64 rip = g_cpu.rip;
    any |= done != 0 || rip != block->rip || g_cpu.exit_reason != EXIT_NONE;
    if (g_cpu.exit_reason != EXIT_NONE) break;
    Block* const next = block_at(hash_slot(rip));
    if (next->rip != rip || next->code()->code != OP_REGION || (done == 0 && next == block)) break;
    block = next;
  }
  take_flags();
  return any;
}

}  // namespace jit
