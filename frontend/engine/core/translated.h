/// What translated functions call and where they find the core's state. Functions are called through the table.
#pragma once
#include "decoder.h"
#include "translator.h"

namespace jit {

Cpu& the_cpu();
u8* the_pages();

/// Keeps an instruction that a function runs by its handler; its number, or ~0 when there is no room.
u32 hold(const Insn&);

/// Table indexes of: (i32 number of a held instruction) -> 0 done, 1 done and translated code was thrown away, 2 an exit was set.
u32 helper_execute();
/// (i32 condition) -> 0 or 1, of the flags in `left_flags`.
u32 helper_condition();

}  // namespace jit
