/// The interpreter's entry, and what the machine outside provides.
#pragma once
#include "abi.h"

/// Runs about `budget` instructions; why it ended.
u32 run_core(u64 budget);

/// FXSAVE's 512 bytes.
void save_fpu(const Cpu&, u8* into);
void load_fpu(Cpu&, const u8* from);

/// The time stamp counter.
u64 host_tsc();
