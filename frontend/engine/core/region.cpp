#include "region.h"

#include "translator.h"

namespace jit {

namespace {

/// While a region is formed: instructions by address, in the order in which they were found.
struct Found {
  u64 address;
  bool leader;
};

Found found[kRegionInstructions];

int index_of(const Region& region, u64 address) {
  for (u32 i = 0; i < region.instruction_count; ++i) {
    if (found[i].address == address) return int(i);
  }
  return -1;
}

bool is_direct_jump(const Insn& insn) {
  return insn.mnemonic == Mnemonic::Jmp && insn.operands[0].kind == OperandKind::Relative;
}

/// Control flow that the region's function does, though what it leads to is not in the region.
bool goes_elsewhere(const Insn& insn) {
  if (insn.mnemonic == Mnemonic::Ret) return true;
  return insn.mnemonic == Mnemonic::Call || insn.mnemonic == Mnemonic::Jmp;
}

u64 target_of(const Region& region, u32 i) {
  const Insn& insn = region.instructions[i];
  return region.addresses[i] + insn.length + insn.immediate;
}

/// Decodes along the straight line from `address` until it joins what is known, and queues the targets of its jumps.
void follow(Region& region, u64 address, u64* queue, u32& queued) {
  for (bool first = true;; first = false) {
    const int known = index_of(region, address);
    if (known >= 0) {
      found[known].leader = true;
      return;
    }
    if (region.instruction_count == kRegionInstructions) return;
    Insn insn;
    if (!fetch_for_translation(address, insn)) return;
    const u32 i = region.instruction_count++;
    region.instructions[i] = insn;
    region.addresses[i] = address;
    found[i] = {address, first};
    if (is_direct_jump(insn) || insn.mnemonic == Mnemonic::Jcc) {
      queue[queued++] = target_of(region, i);
    }
    if (is_control(insn) && insn.mnemonic != Mnemonic::Jcc) return;
    address += insn.length;
    if (insn.mnemonic == Mnemonic::Jcc) first = true;
  }
}

void swap_instructions(Region& region, u32 a, u32 b) {
  const Insn insn = region.instructions[a];
  const u64 address = region.addresses[a];
  const Found mark = found[a];
  region.instructions[a] = region.instructions[b];
  region.addresses[a] = region.addresses[b];
  found[a] = found[b];
  region.instructions[b] = insn;
  region.addresses[b] = address;
  found[b] = mark;
}

/// By address (insertion sort: lines are found in long ascending runs).
void sort_instructions(Region& region) {
  for (u32 i = 1; i < region.instruction_count; ++i) {
    for (u32 j = i; j > 0 && region.addresses[j - 1] > region.addresses[j]; --j) swap_instructions(region, j - 1, j);
  }
}

u8 block_at(const Region& region, u64 address) {
  for (u32 i = 0; i < region.block_count; ++i) {
    if (region.blocks[i].start == address) return u8(i);
  }
  return kNoBlock;
}

bool make_blocks(Region& region) {
  for (u32 i = 0; i < region.instruction_count; ++i) {
    if (region.instructions[i].mnemonic != Mnemonic::Jcc && !is_direct_jump(region.instructions[i])) continue;
    const int target = index_of(region, target_of(region, i));
    if (target >= 0) found[target].leader = true;
    const int behind = index_of(region, region.addresses[i] + region.instructions[i].length);
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
      if (i == region.instruction_count || found[i].leader || region.addresses[i] != behind) break;
    }
  }
  for (u32 i = 0; i < region.block_count; ++i) {
    RegionBlock& block = region.blocks[i];
    const bool ends = block.ending == Ending::Leaves || block.ending == Ending::Goes;
    block.next = ends ? kNoBlock : block_at(region, block.next_address);
    block.taken = block.ending == Ending::Branches ? block_at(region, block.taken_address) : kNoBlock;
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
  const u8 entry = block_at(region, region.entry);
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

bool form_region(Region& region, u64 entry) {
  region.entry = entry;
  region.instruction_count = 0;
  u64 queue[kRegionInstructions + 1];
  u32 queued = 0;
  queue[queued++] = entry;
  for (u32 i = 0; i < queued; ++i) follow(region, queue[i], queue, queued);
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
