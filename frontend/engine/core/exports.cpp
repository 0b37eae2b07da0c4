/// What the core offers: CoreExports of linux/abi.ts, and in the native library the same names with `core_` in front.
#include "blocks.h"
#include "flags.h"
#include "ranges.h"
#include "regions.h"
#include "run.h"

#ifdef __wasm__
#define EXPORT(name) extern "C" __attribute__((export_name(#name)))
#else
#define EXPORT(name) extern "C" __attribute__((visibility("default")))
#endif

alignas(64) Cpu g_cpu;
alignas(64) State g;

#ifndef __wasm__
/// The 4 GiB that are a wasm memory elsewhere.
EXPORT(core_memory) void core_memory(u8* memory) { g_memory = memory; }
#endif

EXPORT(initialize) void core_initialize() {
#ifndef __wasm__
  // There a memory is new, and zeros: writing them would only cost its pages. Here it may have been used before.
  __builtin_memset(page_table(), 0, kPageCount);
  jit::forget_ranges();
  __builtin_memset(at(kPageListsAt), 0, kPageListsSize * 4);
  __builtin_memset(&g_cpu, 0, sizeof(g_cpu));
  __builtin_memset(&g, 0, sizeof(g));
#endif
  flush_blocks();
  g_cpu.rflags = 2 | FLAG_I;
  g_cpu.fpu_control = 0x37f;
  g_cpu.mxcsr = 0x1f80;
}
EXPORT(cpu) Cpu* core_cpu() { return &g_cpu; }
EXPORT(pages) u8* core_pages() { return page_table(); }
EXPORT(run) u32 core_run(u32 budget) { return run_core(budget, false); }
EXPORT(step) u32 core_step() { return run_core(1, true); }
EXPORT(setPages) void core_setPages(u32 first, u32 count, u32 bits) { set_pages(first, count, static_cast<u8>(bits)); }
EXPORT(wrote) void core_wrote(u32 address, u32 length) { wrote(address, length); }
EXPORT(clean) void core_clean(u32 first, u32 count) { clean_pages(first, count); }
EXPORT(flush) void core_flush() { flush_blocks(); }
/// Translates what begins there now, hot or not; whether it could.
EXPORT(translate) u32 core_translate(u32 rip) {
  Block* const block = find_block(rip);
  g_cpu.exit_reason = EXIT_NONE;
  return block != nullptr && jit::heat(block, false, true);
}
EXPORT(scratch) u8* core_scratch() { return at(kScratchAt); }
EXPORT(saveFpu) void core_saveFpu(u8* into) { save_fpu(g_cpu, into); }
EXPORT(loadFpu) void core_loadFpu(const u8* from) { load_fpu(g_cpu, from); }
