/// The entries of SSE and MMX.
#include "simd.h"

namespace {

bool emms(Cpu& cpu, const Insn&) {
  if (!no_pending_fpu_error(cpu)) return false;
  cpu.fpu_status &= static_cast<u16>(~0x3800);
  cpu.fpu_tags = 0;
  return true;
}

/// In the order of how often programs use them. Most groups have instructions of both register files.
constexpr Handler (*kGroups[])(const Insn&) = {
  move_handler, lanes_handler, shuffle_handler, float_handler, compare_handler, convert_handler, sse4_handler, sse_string_handler,
};

}  // namespace

Handler sse_handler(const Insn& insn) {
  for (const auto group : kGroups)
    if (const Handler handler = group(insn)) return handler;
  return nullptr;
}

Handler mmx_handler(const Insn& insn) { return insn.mnemonic == Mnemonic::Emms ? emms : nullptr; }
