/// The interpreter's entry, and what the machine outside provides.
#pragma once
#include "fpu.h"

/// Runs about `budget` instructions, or exactly `one`; why it ended.
u32 run_core(u64 budget, bool one);

/// The time stamp counter.
u64 host_tsc();
