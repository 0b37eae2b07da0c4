/// Groups of instructions that nobody has added yet.
#include "interpreter.h"
#include "run.h"

__attribute__((weak)) Handler sse_handler(const Insn&) { return nullptr; }
__attribute__((weak)) Handler mmx_handler(const Insn&) { return nullptr; }
__attribute__((weak)) Handler x87_handler(const Insn&) { return nullptr; }
__attribute__((weak)) void save_fpu(const Cpu&, u8*) {}
__attribute__((weak)) void load_fpu(Cpu&, const u8*) {}
