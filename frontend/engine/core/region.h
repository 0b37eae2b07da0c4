/// What the translator turns into one wasm function: a piece of a guest's function as a graph of basic blocks.
#pragma once
#include "instruction.h"

namespace jit {

constexpr u32 kRegionInstructions = 1000;
constexpr u32 kRegionBlocks = 250;
constexpr u8 kNoBlock = 0xff;

enum class Ending : u8 {
  Falls,      // into `next`
  Jumps,      // unconditionally to `next`
  Branches,   // to `taken` when the condition of its last instruction holds, else to `next`
  Calls,      // a function whose code follows in the region: `next`
  Returns,    // from such a function to `next`, if the address on the stack is that
  Goes,       // out of the region, where its last instruction says: calls, returns, jumps through a register or memory
  Leaves,     // out of the region, at `next_address`, to the interpreter
};

struct RegionBlock {
  u64 start;
  u64 next_address;
  u64 taken_address;
  u16 first;  // of the region's instructions
  u16 count;
  Ending ending;
  u8 next, taken;  // blocks, or kNoBlock: out of the region at the address
  // Of the graph:
  u8 dominator;
  u8 order;         // in reverse postorder
  u8 entries;       // forward edges that lead here
  bool loop;        // a backward edge leads here
};

/// A function that is in the region as often as it is called from different places. Context 0 is that of the entry.
struct Context {
  u64 entry;
  u64 return_address;
  u8 parent;
  u8 depth;
};
constexpr u32 kContexts = 48;

/// Blocks are in reverse postorder; block 0 is the entry.
struct Region {
  u64 entry;
  u32 block_count;
  u32 instruction_count;
  RegionBlock blocks[kRegionBlocks];
  Insn instructions[kRegionInstructions];
  u64 addresses[kRegionInstructions];
  u8 contexts[kRegionInstructions];
  u32 context_count;
  Context context[kContexts];
};

/// Follows the code from `entry`, into calls too, up to `most` instructions, and orders it; what is hardly executed is left out, unless `all` is wanted.
/// Edges that would make the graph irreducible leave the region. False when there is nothing worth translating.
bool form_region(Region& region, u64 entry, u32 most, bool all);

}  // namespace jit
