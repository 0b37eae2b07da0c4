#include "blocks.h"

#include "ops.h"
#include "ranges.h"
#include "regions.h"

/// Blocks are kept until the arena is full; then all go. Offset 0 is nobody's block: what is there has no valid rip.
static u32& page_slot(u32 page) { return reinterpret_cast<u32*>(at(kPageListsAt))[page & (kPageListsSize - 1)]; }

void flush_blocks() {
  jit::drop_all_regions();
  for (u32 i = 0; i < kPageListsSize; i++) {
    for (u32 link = page_slot(i); link != 0;) {
      const PageNote& note = *reinterpret_cast<PageNote*>(at(link));
      page_table()[note.page] &= static_cast<u8>(~PAGE_CODE);
      link = note.next;
    }
    page_slot(i) = 0;
  }
  // the block of an empty slot
  Block* const nobody = block_at(kArenaAt);
  *nobody = Block{};
  nobody->rip = ~u64{0};
  for (u32 i = 0; i < kHashSize; i++) reinterpret_cast<u32*>(at(kHashAt))[i] = kArenaAt;
  g.arena_next = kArenaAt + 64;
  g.flushes++;
}

/// Room for one more block.
static void make_room() {
  if (g.arena_next + kBlockBytes > kArenaEnd) flush_blocks();
}

static bool canonical_rip(u64 rip) {
  const i64 high = static_cast<i64>(rip) >> 47;
  return high == 0 || high == -1;
}

static bool may_fetch(u64 rip) {
  if (!canonical_rip(rip)) return raise(g_cpu, EXIT_GENERAL_PROTECTION);
  if (rip >= kGuestEnd || !(page_table()[rip >> kPageShift] & PAGE_EXEC)) return raise(g_cpu, EXIT_PAGE_FAULT, rip, PAGE_EXEC);
  return true;
}

static void note_code(Block* block, u32 bytes) {
  const u32 first = static_cast<u32>(block->rip >> kPageShift);
  const u32 last = static_cast<u32>((block->rip + bytes - 1) >> kPageShift);
  for (u32 page = first; page <= last; page++) {
    u8& bits = page_table()[page];
    if (bits & PAGE_WRITE) jit::forget_ranges();
    bits = static_cast<u8>((bits | PAGE_CODE) & ~PAGE_WRITE);
    PageNote* const note = reinterpret_cast<PageNote*>(at(g.arena_next));
    *note = {page, offset_of(block), page_slot(page)};
    page_slot(page) = g.arena_next;
    g.arena_next += 16;
  }
}

/// Decodes a block at the arena's end. It is not in the hash table.
static Block* decode_block(u64 rip, u32 most) {
  if (!may_fetch(rip)) return nullptr;
  make_room();
  Block* const block = block_at(g.arena_next);
  Translation done;
  if (!translate(rip, most, block->code(), done)) return nullptr;
  *block = {rip, done.instructions, done.ops, 0, 0, 0, 0, 0, 0};
  g.arena_next += (static_cast<u32>(sizeof(Block)) + done.arena_used + 15) & ~15u;
  note_code(block, done.bytes);
  return block;
}

NOINLINE Block* find_block(u64 rip) {
  u32& head = hash_slot(rip);
  Block* before = nullptr;
  for (Block* block = block_at(head); block->rip != ~u64{0}; before = block, block = block_at(block->next_in_hash)) {
    if (block->rip != rip) continue;
    if (before != nullptr) {  // to the front, where indirect branches look
      before->next_in_hash = block->next_in_hash;
      block->next_in_hash = head;
      head = offset_of(block);
    }
    return block;
  }
  Block* const block = decode_block(rip, ~0u);
  if (block == nullptr) return nullptr;
  block->next_in_hash = head;
  head = offset_of(block);
  return block;
}

Block* known_block(u64 rip) {
  for (Block* block = block_at(hash_slot(rip)); block->rip != ~u64{0}; block = block_at(block->next_in_hash)) {
    if (block->rip == rip) return block;
  }
  return nullptr;
}

Block* single_block(u64 rip) { return decode_block(rip, 1); }
Block* twin_block(u64 rip) { return decode_block(rip, ~0u); }

static void remove_from_hash(Block* block) {
  for (u32* link = &hash_slot(block->rip); *link != kArenaAt; link = &block_at(*link)->next_in_hash) {
    if (block_at(*link) == block) {
      *link = block->next_in_hash;
      return;
    }
  }
}

/// Chains lead to a dropped block still, and it may be running: all its steps become OP_RESYNC.
static void drop_block(Block* block) {
  if (block->dropped) return;
  block->dropped = 1;
  remove_from_hash(block);
  Op* const code = block->code();
  for (u32 i = 0; i < block->ops; i++) code[i].code = OP_RESYNC;
}

void drop_blocks(u32 page) {
  for (u32* link = &page_slot(page); *link != 0;) {
    PageNote& note = *reinterpret_cast<PageNote*>(at(*link));
    if (note.page != page) {
      link = &note.next;
      continue;
    }
    drop_block(block_at(note.block));
    *link = note.next;
  }
  jit::drop_regions(page);
  page_table()[page] &= static_cast<u8>(~PAGE_CODE);
}
