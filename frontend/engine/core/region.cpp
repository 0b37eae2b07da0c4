#include "region.h"

#include "translator.h"

namespace jit {

namespace {

constexpr u32 kDeepest = 5;

/// While a region is formed: what else is known of its instructions, which are in the order in which they were found.
struct Found {
  bool leader;
  u8 callee;  // the context of the function that it calls, or 0
};
Found found[kRegionInstructions];

/// Instructions by address and context: numbers, plus 1.
constexpr u32 kSlots = 4096;
u16 slots[kSlots];

u32 slot_of(const Region& region, u64 address, u8 context) {
  u32 slot = (u32(address) * 31 + context * 977u) % kSlots;
  while (slots[slot] && (region.addresses[slots[slot] - 1] != address || region.contexts[slots[slot] - 1] != context)) slot = (slot + 1) % kSlots;
  return slot;
}

int index_of(const Region& region, u64 address, u8 context) { return int(slots[slot_of(region, address, context)]) - 1; }

bool is_relative(const Insn& insn) { return insn.operands[0].kind == OperandKind::Relative; }

bool is_direct_jump(const Insn& insn) { return insn.mnemonic == Mnemonic::Jmp && is_relative(insn); }

/// Control flow that the region's function does, though what it leads to may not be in the region.
bool goes_elsewhere(const Insn& insn) {
  return insn.mnemonic == Mnemonic::Ret || insn.mnemonic == Mnemonic::Call || insn.mnemonic == Mnemonic::Jmp;
}

u64 target_of(const Region& region, u32 i) {
  const Insn& insn = region.instructions[i];
  return region.addresses[i] + insn.length + insn.immediate;
}

/// Where code is still to be followed.
struct Queue {
  struct Place {
    u64 address;
    u8 context;
  };
  Place places[kRegionInstructions * 2 + 1];
  u32 count;
  bool all;
  u32 most;  // instructions

  void add(u64 address, u8 context) {
    if (all || is_warm(address)) places[count++] = {address, context};
  }
};
Queue queue;

/// A context for the function that is called there; 0 if it is not to be part of the region.
u8 enter_function(Region& region, u32 call) {
  const u8 caller = region.contexts[call];
  const u64 target = target_of(region, call);
  if (region.context_count == kContexts || region.context[caller].depth == kDeepest) return 0;
  if (!queue.all && !is_warm(target)) return 0;
  for (u8 active = caller;; active = region.context[active].parent) {
    if (region.context[active].entry == target) return 0;  // recursion
    if (active == 0) break;
  }
  const u64 behind = region.addresses[call] + region.instructions[call].length;
  region.context[region.context_count] = {target, behind, caller, u8(region.context[caller].depth + 1)};
  return u8(region.context_count++);
}

/// Decodes along the straight line from there until it joins what is known, and queues what its branches lead to.
void follow(Region& region, u64 address, u8 context) {
  for (bool first = true;; first = false) {
    const u32 slot = slot_of(region, address, context);
    if (slots[slot]) {
      found[slots[slot] - 1].leader = true;
      return;
    }
    if (region.instruction_count == queue.most) return;
    Insn insn;
    if (!fetch_for_translation(address, insn)) return;
    const u32 i = region.instruction_count++;
    region.instructions[i] = insn;
    region.addresses[i] = address;
    region.contexts[i] = context;
    slots[slot] = u16(i + 1);
    found[i] = {first, 0};
    address += insn.length;
    if (insn.mnemonic == Mnemonic::Jcc) {
      queue.add(target_of(region, i), context);
      queue.add(address, context);
      return;
    }
    if (is_direct_jump(insn)) queue.add(target_of(region, i), context);
    if (insn.mnemonic == Mnemonic::Call && is_relative(insn)) {
      found[i].callee = enter_function(region, i);
      if (found[i].callee) queue.add(target_of(region, i), found[i].callee);
    }
    if (insn.mnemonic == Mnemonic::Ret && context) queue.add(region.context[context].return_address, region.context[context].parent);
    if (is_control(insn)) return;
  }
}

/// By context and address.
void sort_instructions(Region& region) {
  static u16 order[kRegionInstructions];
  const auto before = [&](u32 a, u32 b) {
    return region.contexts[a] != region.contexts[b] ? region.contexts[a] < region.contexts[b] : region.addresses[a] < region.addresses[b];
  };
  // Insertion: lines are found in long ascending runs.
  for (u32 i = 0; i < region.instruction_count; ++i) {
    u32 j = i;
    for (; j > 0 && before(i, order[j - 1]); --j) order[j] = order[j - 1];
    order[j] = u16(i);
  }
  static Insn instructions[kRegionInstructions];
  static u64 addresses[kRegionInstructions];
  static u8 contexts[kRegionInstructions];
  static Found sorted[kRegionInstructions];
  for (u32 i = 0; i < region.instruction_count; ++i) {
    instructions[i] = region.instructions[order[i]];
    addresses[i] = region.addresses[order[i]];
    contexts[i] = region.contexts[order[i]];
    sorted[i] = found[order[i]];
  }
  const u32 count = region.instruction_count;
  __builtin_memcpy(region.instructions, instructions, count * sizeof *instructions);
  __builtin_memcpy(region.addresses, addresses, count * sizeof *addresses);
  __builtin_memcpy(region.contexts, contexts, count);
  __builtin_memcpy(found, sorted, count * sizeof *sorted);
  __builtin_memset(slots, 0, sizeof slots);
  for (u32 i = 0; i < count; ++i) slots[slot_of(region, addresses[i], contexts[i])] = u16(i + 1);
}

u8 block_at(const Region& region, u64 address, u8 context) {
  for (u32 i = 0; i < region.block_count; ++i) {
    const RegionBlock& block = region.blocks[i];
    if (block.start == address && region.contexts[block.first] == context) return u8(i);
  }
  return kNoBlock;
}

bool make_blocks(Region& region) {
  for (u32 i = 0; i < region.instruction_count; ++i) {
    if (region.instructions[i].mnemonic != Mnemonic::Jcc && !is_direct_jump(region.instructions[i])) continue;
    const int target = index_of(region, target_of(region, i), region.contexts[i]);
    if (target >= 0) found[target].leader = true;
    const int behind = index_of(region, region.addresses[i] + region.instructions[i].length, region.contexts[i]);
    if (behind >= 0) found[behind].leader = true;
  }
  region.block_count = 0;
  for (u32 i = 0; i < region.instruction_count;) {
    if (region.block_count == kRegionBlocks) return false;
    RegionBlock& block = region.blocks[region.block_count++];
    block = {};
    block.start = region.addresses[i];
    block.first = u16(i);
    for (;;) {
      const Insn& insn = region.instructions[i];
      const u64 behind = region.addresses[i] + insn.length;
      block.next_address = behind;
      if (is_control(insn)) {
        if (insn.mnemonic == Mnemonic::Jcc) {
          block.ending = Ending::Branches;
          block.taken_address = target_of(region, i);
        } else if (is_direct_jump(insn)) {
          block.ending = Ending::Jumps;
          block.next_address = target_of(region, i);
        } else if (insn.mnemonic == Mnemonic::Call && found[i].callee) {
          block.ending = Ending::Calls;
          block.next_address = target_of(region, i);
        } else if (insn.mnemonic == Mnemonic::Ret && region.contexts[i]) {
          block.ending = Ending::Returns;
          block.next_address = region.context[region.contexts[i]].return_address;
        } else if (goes_elsewhere(insn)) {
          block.ending = Ending::Goes;
        } else {
          block.ending = Ending::Leaves;
          block.next_address = region.addresses[i];
        }
        block.count = u16(++i - block.first);
        break;
      }
      block.ending = Ending::Falls;
      block.count = u16(++i - block.first);
      if (i == region.instruction_count || found[i].leader || region.addresses[i] != behind || region.contexts[i] != region.contexts[i - 1]) break;
    }
  }
  for (u32 i = 0; i < region.block_count; ++i) {
    RegionBlock& block = region.blocks[i];
    const bool ends = block.ending == Ending::Leaves || block.ending == Ending::Goes;
    const u8 context = region.contexts[block.first];
    u8 next_context = context;
    if (block.ending == Ending::Calls) next_context = found[block.first + block.count - 1].callee;
    if (block.ending == Ending::Returns) next_context = region.context[context].parent;
    block.next = ends ? kNoBlock : block_at(region, block.next_address, next_context);
    block.taken = block.ending == Ending::Branches ? block_at(region, block.taken_address, context) : kNoBlock;
  }
  return true;
}

/// Reverse postorder from the entry; blocks that it does not reach are dropped.
void order_blocks(Region& region) {
  u8 postorder[kRegionBlocks];
  u8 stack[kRegionBlocks];
  u8 stage[kRegionBlocks] = {};
  bool seen[kRegionBlocks] = {};
  u32 done = 0;
  u32 depth = 0;
  const u8 entry = block_at(region, region.entry, 0);
  stack[depth++] = entry;
  seen[entry] = true;
  while (depth) {
    const u8 at = stack[depth - 1];
    const RegionBlock& block = region.blocks[at];
    // What is fallen into is visited last, so it comes right behind in the order.
    const u8 successors[2] = {block.taken, block.next};
    if (stage[at] < 2) {
      const u8 to = successors[stage[at]++];
      if (to != kNoBlock && !seen[to]) {
        seen[to] = true;
        stack[depth++] = to;
      }
    } else {
      postorder[done++] = at;
      --depth;
    }
  }
  static RegionBlock ordered[kRegionBlocks];
  u8 order[kRegionBlocks];
  for (u32 i = 0; i < kRegionBlocks; ++i) order[i] = kNoBlock;
  for (u32 i = 0; i < done; ++i) order[postorder[done - 1 - i]] = u8(i);
  for (u32 i = 0; i < done; ++i) {
    ordered[i] = region.blocks[postorder[done - 1 - i]];
    if (ordered[i].next != kNoBlock) ordered[i].next = order[ordered[i].next];
    if (ordered[i].taken != kNoBlock) ordered[i].taken = order[ordered[i].taken];
    ordered[i].order = u8(i);
  }
  for (u32 i = 0; i < done; ++i) region.blocks[i] = ordered[i];
  region.block_count = done;
}

/// Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm (2001).
void find_dominators(Region& region) {
  for (u32 i = 0; i < region.block_count; ++i) region.blocks[i].dominator = kNoBlock;
  region.blocks[0].dominator = 0;
  auto meet = [&](u8 a, u8 b) {
    while (a != b) {
      while (a > b) a = region.blocks[a].dominator;
      while (b > a) b = region.blocks[b].dominator;
    }
    return a;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (u32 i = 1; i < region.block_count; ++i) {
      u8 best = kNoBlock;
      for (u32 p = 0; p < region.block_count; ++p) {
        const RegionBlock& from = region.blocks[p];
        if ((from.next != i && from.taken != i) || from.dominator == kNoBlock) continue;
        best = best == kNoBlock ? u8(p) : meet(best, u8(p));
      }
      if (region.blocks[i].dominator != best) {
        region.blocks[i].dominator = best;
        changed = true;
      }
    }
  }
}

bool dominates(const Region& region, u8 a, u8 b) {
  while (b > a) b = region.blocks[b].dominator;
  return a == b;
}

/// A backward edge to a block that does not dominate its source enters a loop at its side: cut.
bool cut_irreducible(Region& region) {
  bool cut = false;
  for (u32 i = 0; i < region.block_count; ++i) {
    RegionBlock& block = region.blocks[i];
    u8* const edges[] = {&block.next, &block.taken};
    for (u8* edge : edges) {
      if (*edge == kNoBlock || *edge > i || dominates(region, *edge, u8(i))) continue;
      *edge = kNoBlock;
      cut = true;
    }
  }
  return cut;
}

void count_entries(Region& region) {
  for (u32 i = 0; i < region.block_count; ++i) {
    const RegionBlock& block = region.blocks[i];
    const u8 successors[] = {block.next, block.taken};
    for (const u8 to : successors) {
      if (to == kNoBlock) continue;
      if (to <= i) {
        region.blocks[to].loop = true;
      } else {
        region.blocks[to].entries += 1;
      }
    }
  }
}

}  // namespace

bool form_region(Region& region, u64 entry, u32 most, bool all) {
  region.entry = entry;
  region.instruction_count = 0;
  region.context_count = 1;
  region.context[0] = {entry, 0, 0, 0};
  __builtin_memset(slots, 0, sizeof slots);
  queue.count = 1;
  queue.all = all;
  queue.most = most;
  queue.places[0] = {entry, 0};
  for (u32 i = 0; i < queue.count; ++i) follow(region, queue.places[i].address, queue.places[i].context);
  if (!region.instruction_count) return false;
  sort_instructions(region);
  if (!make_blocks(region)) return false;
  do {
    order_blocks(region);
    find_dominators(region);
  } while (cut_irreducible(region));
  count_entries(region);
  return region.blocks[0].ending != Ending::Leaves || region.blocks[0].count > 1;
}

}  // namespace jit
