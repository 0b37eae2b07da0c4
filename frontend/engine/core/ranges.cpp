#include "ranges.h"

namespace jit {

namespace {

Range ranges[kRanges];
static_assert(range_number(~0u, true) < kRanges);
u32 missed = 0;
bool any = false;

/// Pages that are looked at in each direction.
constexpr u32 kMostPages = 1024;
constexpr u32 kMostLearned = 32;

constexpr u32 kZeros = 1024;
u8 zeros[kZeros];
constexpr u8 kOften = 32;

u8& zeros_of(u64 entry) { return zeros[(static_cast<u32>(entry) * 0x9e3779b1u) >> 22]; }

}  // namespace

bool has_zeros(u64 entry) { return zeros_of(entry) >= kOften; }

bool note_zero(u64 entry) {
  u8& count = zeros_of(entry);
  if (count < kOften) ++count;
  return count < kOften;
}

Range& range_at(u32 number) { return ranges[number]; }
u32& missed_range() { return missed; }

NOINLINE bool learn_missed_range() {
  const u32 number = missed - 1;
  missed = 0;
  Range& range = ranges[number];
  const bool stores = number & 1;
  const u8 bit = stores ? PAGE_WRITE : PAGE_READ;
  const u8* const pages = page_table();
  if (range.missed >= kGuestEnd) return true;
  const u32 at = static_cast<u32>(range.missed >> kPageShift);
  // A page that is about to be stored to for the first time.
  constexpr u8 bits = PAGE_READ | PAGE_WRITABLE;
  if (stores && (pages[at] & (bits | PAGE_WRITE | PAGE_CODE)) == bits) note_store(range.missed, 1);
  if (!(pages[at] & bit)) return true;
  u32 first = at, end = at + 1;
  while (at - first < kMostPages && pages[first - 1] & bit) --first;  // page 0 has no bits
  while (end - at < kMostPages && end < kPageCount && pages[end] & bit) ++end;
  const u64 start = u64{first} << kPageShift, size = u64{end - first} << kPageShift, starts = size - (kWidest - 1);
  const bool grows = start <= range.start && range.start + range.starts <= start + starts && starts > range.starts;
  range.start = start;
  range.starts = starts;
  any = true;
  if (!grows && ++range.learned == kMostLearned) range.changing = true;
  return !range.changing;
}

void forget_ranges() {
  if (!any) return;
  any = false;
  for (Range& range : ranges) range.starts = range.learned = 0;
}

}  // namespace jit
