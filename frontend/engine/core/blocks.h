/// Pre-decoded blocks: straight runs of instructions, found by rip, chained directly to each other.
#pragma once
#include "instruction.h"
#include "interpreter.h"
#include "state.h"

/// One step of the interpreter. Registers are byte offsets in `Cpu`, so that ah is rax + 1, the segment bases can be part of an address, and
/// kNoIndex (rflags, which is 0 while the processor runs) is what an address does not have.
struct Op {
  u16 code;
  u8 dst, src;
  u8 base, index;
  u8 shift;  // of the index, 0 to 3
  u8 size;   // how many instructions this is, times 32, and their bytes
  i64 displacement;
  u64 immediate;

  u32 bytes() const { return size & 31; }
  u32 instructions() const { return size >> 5; }
};
constexpr u8 kOneInstruction = 32;
static_assert(sizeof(Op) == 24);

/// Where a branch goes: in the place behind its Op. Blocks are offsets in the memory; 0: not known yet.
struct Branch {
  u16 code;
  u8 zeros[6];
  u32 taken, next;  // guest addresses
  u32 taken_block, next_block;
};
static_assert(sizeof(Branch) == sizeof(Op) && offsetof(Branch, zeros[5]) == offsetof(Op, size));

/// What a generic Op's `immediate` points to (an offset).
struct Generic {
  Handler handler;
  u64 rip;
  Insn insn;
};

constexpr u8 kNoIndex = offsetof(Cpu, rflags);

/// Whether a translated function has floating point, and whether it was written for the usual MXCSR.
enum Floats : u32 { FLOATS_NONE, FLOATS_BY_HANDLER, FLOATS_DIRECT };

/// Its Ops follow it.
struct Block {
  u64 rip;
  u32 instructions;
  u32 ops;
  u32 next_in_hash;
  u32 dropped;
  u32 heat;    // times that a branch led here, until it is looked at
  u32 region;  // table index of its function, when its first step is OP_REGION
  u32 plain;   // the same block without it
  u32 floats;  // Floats of the function

  Op* code() { return reinterpret_cast<Op*>(this + 1); }
};
static_assert(sizeof(Block) == 40);

/// That a block has code in a page: a list for each page's number modulo kPageListsSize.
struct PageNote {
  u32 page, block, next;
};

ALWAYS_INLINE u32 offset_of(const void* pointer) { return static_cast<u32>(static_cast<const u8*>(pointer) - at(0)); }
ALWAYS_INLINE Block* block_at(u32 offset) { return reinterpret_cast<Block*>(at(offset)); }
ALWAYS_INLINE u32& hash_slot(u64 rip) {
  const u32 low = static_cast<u32>(rip);
  return reinterpret_cast<u32*>(at(kHashAt))[(low ^ low >> 16) & (kHashSize - 1)];
}

/// The block at `rip`, decoded if need be. nullptr: the first instruction can't be fetched, exit set.
Block* find_block(u64 rip);
/// The same if it is decoded already, else nullptr.
Block* known_block(u64 rip);
/// One with only one instruction, for single steps; not found again.
Block* single_block(u64 rip);
/// Another one of what `find_block` finds, which no branch leads to.
Block* twin_block(u64 rip);
/// Forgets what was decoded from a page. A block that runs goes on at its next instruction with fresh code.
void drop_blocks(u32 page);
void flush_blocks();

/// Decodes instructions from `rip` on into Ops at `into` (at most `most` instructions; kBlockBytes are free there); see translate.cpp.
struct Translation {
  u32 instructions;
  u32 ops;
  u32 bytes;       // of guest code
  u32 arena_used;  // bytes from `into`
};
constexpr u32 kBlockBytes = 16384;
bool translate(u64 rip, u32 most, Op* into, Translation& done);

void set_pages(u32 first, u32 count, u8 bits);
void wrote(u64 address, u64 length);
void clean_pages(u32 first, u32 count);
