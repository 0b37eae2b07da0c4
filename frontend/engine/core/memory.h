/// Guest memory and the core's own: where things lie, and the checks of every access.
#pragma once
#include "abi.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define NOINLINE __attribute__((noinline))
#define ALWAYS_INLINE inline __attribute__((always_inline))

/// Offsets in the wasm memory. The stack and the core's variables are in the first 4 MiB.
constexpr u32 kPagesAt = 4u << 20;                       // a byte for each page of the 4 GiB
constexpr u32 kPageCount = 1u << (32 - kPageShift);
constexpr u32 kHashAt = kPagesAt + kPageCount;           // blocks by rip: u32 each
constexpr u32 kHashSize = 1u << 16;
constexpr u32 kPageListsAt = kHashAt + kHashSize * 4;    // blocks by page: u32 each
constexpr u32 kPageListsSize = 1u << 14;
constexpr u32 kScratchAt = kPageListsAt + kPageListsSize * 4;
constexpr u32 kScratchSize = 128u << 10;
// What the translator writes. Not variables: those are filled with zeros whenever an instance is made.
constexpr u32 kModuleAt = kScratchAt + kScratchSize;
constexpr u32 kModuleCapacity = 768u << 10;
constexpr u32 kBodyAt = kModuleAt + kModuleCapacity;
constexpr u32 kBodyCapacity = 512u << 10;
constexpr u32 kArenaAt = 7u << 20;                       // decoded blocks
constexpr u32 kArenaEnd = kGuestBase;
static_assert(kBodyAt + kBodyCapacity <= kArenaAt);

#ifdef __wasm__
ALWAYS_INLINE u8* at(u64 offset) { return reinterpret_cast<u8*>(static_cast<uintptr_t>(offset)); }
#else
extern u8* g_memory;  // 4 GiB
ALWAYS_INLINE u8* at(u64 offset) { return g_memory + offset; }
#endif

ALWAYS_INLINE u8* page_table() { return at(kPagesAt); }
ALWAYS_INLINE u8* guest(u64 address) { return at(kGuestBase) + static_cast<u32>(address); }

/// Any alignment.
template <class T>
ALWAYS_INLINE T peek(const void* from) {
  T value;
  __builtin_memcpy(&value, from, sizeof(T));
  return value;
}
template <class T>
ALWAYS_INLINE void poke(void* into, T value) {
  __builtin_memcpy(into, &value, sizeof(T));
}

/// Whether an access of `size` bytes lies in one page below 4 GiB that has all of `bits`. Pages from kGuestEnd on have none.
template <u32 size, u8 bits>
ALWAYS_INLINE bool page_allows(u64 address) {
  constexpr u64 mask = ~u64{0xffffffff} | (kPageSize - 1);
  return LIKELY((address & mask) <= kPageSize - size) &&
         LIKELY(page_table()[static_cast<u32>(address) >> kPageShift] & bits);
}

/// What the checks above refuse: other pages, two pages, faults (exit set, false). After `true` the bytes may be accessed; before a store
/// the pages are noted as dirty and what was decoded from them is dropped.
bool prepare_load(u64 address, u32 size);
/// A store to pages that Linux lets be written.
void note_store(u64 address, u32 size);
bool prepare_store(u64 address, u32 size);

template <class T>
ALWAYS_INLINE bool can_load_fast(u64 address) {
  return page_allows<sizeof(T), PAGE_READ>(address);
}
template <class T>
ALWAYS_INLINE bool can_store_fast(u64 address) {
  return page_allows<sizeof(T), PAGE_WRITE>(address);
}
