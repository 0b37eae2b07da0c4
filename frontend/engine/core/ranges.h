/// Ranges of guest memory that translated functions may access without a look at the page table: what its pages allowed when they were last
/// looked at. Whoever takes rights from pages must forget them.
#pragma once
#include "memory.h"

namespace jit {

struct Range {
  u64 start;
  u64 starts;  // so many addresses from `start` on: up to kWidest bytes there lie in the range. 0: nothing is known
  u64 missed;  // an address that was not in it, but allowed
  u32 learned;   // how often since the last time that ranges were forgotten
  u32 changing;  // the place is now here, now there: what is translated from now on looks at the page table
};

constexpr u32 kRanges = 4096;
constexpr u64 kWidest = 16;

/// The range of the place with that hash; there may be others with the same.
constexpr u32 range_number(u32 place, bool store) { return ((place * 0x9e3779b1u) >> 21) * 2 + store; }
Range& range_at(u32 number);
/// The number of a range that was missed last, plus 1; or 0.
u32& missed_range();

/// Makes the range that was missed fit. False: its place changes too often.
bool learn_missed_range();

/// Instead of a range: an operation of floating point in the region with that entry had no ordinary result.
constexpr u32 kMissedZero = kRanges + 1;
/// Whether that has happened often. Most have none; code for it would be in the way.
bool has_zeros(u64 entry);
/// Notes one more. False: that is too often for code without.
bool note_zero(u64 entry);
void forget_ranges();

}  // namespace jit
