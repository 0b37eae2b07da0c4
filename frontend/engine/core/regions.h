/// The regions that were translated: from a block that became hot to a function of the table, and back when its code changes.
#pragma once
#include "blocks.h"

namespace jit {

/// A block is looked at whenever branches have led to it so often again: first for loops only, later for what is worth less.
constexpr u32 kHot = 8192;
constexpr u32 kVeryHot = 2 * kHot;

/// Counts a branch that leads to the block; true: it is to be looked at.
ALWAYS_INLINE bool count_branch(Block* block) { return UNLIKELY((++block->heat & (kHot - 1)) == 0); }
void look_at(Block* block);

/// Translates the region that begins at the block (`all`: also what is hardly executed), if it has a loop (or needs none) and the machine
/// outside can compile. True: the block's first step is OP_REGION now.
bool heat(Block* block, bool needs_loop, bool all);
/// Runs the region whose entry is the running block, which has just been counted, and those that follow it directly. rip is set; exit_reason if there is one.
/// False: nothing was done, and the block itself must run.
bool run_region();
/// Regions with code on the page are forgotten. `drops` counts them.
void drop_regions(u32 page);
void drop_all_regions();
extern u32 drops;

}  // namespace jit
