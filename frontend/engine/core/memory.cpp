#include "memory.h"

#include "blocks.h"
#include "interpreter.h"
#include "ranges.h"
#include "state.h"

#ifndef __wasm__
u8* g_memory;
#endif

static bool canonical(u64 address) {
  const i64 high = static_cast<i64>(address) >> 47;
  return high == 0 || high == -1;
}

/// Whether all pages of the access have `bit`; the exit is set for the first that has not.
static bool check_pages(u64 address, u32 size, u8 bit) {
  // #SS or #GP: run_core looks at the instruction.
  if (!canonical(address) || !canonical(address + size - 1)) return raise(g_cpu, EXIT_STACK_FAULT, address);
  if (address + size - 1 < address) return raise(g_cpu, EXIT_PAGE_FAULT, address, bit);  // around the end of all
  const u64 last = (address + size - 1) >> kPageShift;
  for (u64 page = address >> kPageShift; page <= last; page++) {
    if (page >= kGuestEnd >> kPageShift || !(page_table()[page] & bit)) {
      const u64 start = page << kPageShift;
      return raise(g_cpu, EXIT_PAGE_FAULT, start > address ? start : address, bit);
    }
  }
  return true;
}

void note_store(u64 address, u32 size) {
  const u32 last = static_cast<u32>((address + size - 1) >> kPageShift);
  for (u32 page = static_cast<u32>(address >> kPageShift); page <= last; page++) {
    u8& bits = page_table()[page];
    if (bits & PAGE_WRITE) continue;
    if (bits & PAGE_CODE) drop_blocks(page);
    bits |= PAGE_DIRTY;
    // read-modify-write looks at PAGE_WRITE alone
    if (bits & PAGE_READ) bits |= PAGE_WRITE;
  }
}

NOINLINE bool prepare_load(u64 address, u32 size) { return check_pages(address, size, PAGE_READ); }

NOINLINE bool prepare_store(u64 address, u32 size) {
  if (!check_pages(address, size, PAGE_WRITABLE)) return false;
  note_store(address, size);
  return true;
}

bool can_store(Cpu&, u64 address, u32 size) { return check_pages(address, size, PAGE_WRITABLE); }

static void copy(void* into, const void* from, u32 size) {
  switch (size) {
    case 1: __builtin_memcpy(into, from, 1); break;
    case 2: __builtin_memcpy(into, from, 2); break;
    case 4: __builtin_memcpy(into, from, 4); break;
    case 8: __builtin_memcpy(into, from, 8); break;
    case 16: __builtin_memcpy(into, from, 16); break;
    default: __builtin_memcpy(into, from, size);
  }
}

bool load(Cpu&, u64 address, void* into, u32 size) {
  const u64 page = address >> kPageShift;
  const bool fast = page < kPageCount && (address & (kPageSize - 1)) + size <= kPageSize && page_table()[page] & PAGE_READ;
  if (!fast && !prepare_load(address, size)) return false;
  copy(into, guest(address), size);
  return true;
}

bool store(Cpu&, u64 address, const void* from, u32 size) {
  const u64 page = address >> kPageShift;
  const bool fast = page < kPageCount && (address & (kPageSize - 1)) + size <= kPageSize && page_table()[page] & PAGE_WRITE;
  if (!fast && !prepare_store(address, size)) return false;
  copy(guest(address), from, size);
  return true;
}

void set_pages(u32 first, u32 count, u8 bits) {
  constexpr u8 given = PAGE_READ | PAGE_WRITABLE | PAGE_EXEC | PAGE_DIRTY;
  for (u32 page = first; page - first < count && page < kGuestEnd >> kPageShift; page++) {
    u8& entry = page_table()[page];
    if (entry & PAGE_CODE) drop_blocks(page);
    if (entry & (PAGE_READ | PAGE_WRITE)) jit::forget_ranges();
    entry = page == 0 ? 0 : bits & given;
  }
}

void wrote(u64 address, u64 length) {
  if (length == 0) return;
  const u64 last = (address + length - 1) >> kPageShift;
  for (u64 page = address >> kPageShift; page <= last && page < kPageCount; page++) {
    u8& entry = page_table()[page];
    if (entry & PAGE_CODE) drop_blocks(static_cast<u32>(page));
    if (entry) entry |= PAGE_DIRTY;
  }
}

void clean_pages(u32 first, u32 count) {
  jit::forget_ranges();
  for (u32 page = first; page - first < count && page < kPageCount; page++)
    page_table()[page] &= static_cast<u8>(~(PAGE_DIRTY | PAGE_WRITE));
}
