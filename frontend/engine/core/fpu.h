/// FXSAVE's area, for frames of signals.
#pragma once
#include "abi.h"

constexpr u32 kFxsaveSize = 512;
/// Writes the first 416 bytes; the others stay.
void save_fpu(const Cpu&, u8* area);
/// False: MXCSR has reserved bits; nothing is changed.
bool load_fpu(Cpu&, const u8* area);
