/// Comparisons of SSE floating point: to masks, and to flags.
#include "sse_float.h"

namespace {

/// Predicates 0 to 7 of cmpps and its kin.
template <class B>
ALWAYS_INLINE B compare(B a, B b, u32 predicate, SseState& state) {
  bool holds;
  if (UNLIKELY(is_nan(a) || is_nan(b))) {
    // less-than forms signal for every NaN
    if ((predicate & 3) == 1 || (predicate & 3) == 2 || is_signaling(a) || is_signaling(b)) state.before |= INVALID_OPERATION;
    holds = predicate >= 3 && predicate != 7;
  } else {
    const auto x = as_float(state.operand(a)), y = as_float(state.operand(b));
    switch (predicate & 3) {
      case 0: holds = x == y; break;
      case 1: holds = x < y; break;
      case 2: holds = x <= y; break;
      default: holds = false;
    }
    if (predicate & 4) holds = !holds;
  }
  return holds ? ~B{0} : 0;
}

template <class B>
bool compare_scalar(Cpu& cpu, const Insn& insn) {
  B b;
  if (!scalar_source(cpu, insn, b)) return false;
  SseState state(cpu);
  Xmm& into = cpu.xmm[insn.operands[0].reg];
  const B result = compare(lane<B>(into, 0), b, insn.immediate & 7, state);
  if (!state.finish(cpu)) return false;
  set_lane<B>(into, 0, result);
  return true;
}

template <class B>
bool compare_vector(Cpu& cpu, const Insn& insn) {
  Xmm b;
  if (!packed_source(cpu, insn, b)) return false;
  SseState state(cpu);
  Xmm& into = cpu.xmm[insn.operands[0].reg];
  Xmm result;
  for (u32 i = 0; i < 16 / sizeof(B); i++) set_lane<B>(result, i, compare(lane<B>(into, i), lane<B>(b, i), insn.immediate & 7, state));
  if (!state.finish(cpu)) return false;
  into = result;
  return true;
}

template <class B, bool signals>
bool compare_flags(Cpu& cpu, const Insn& insn) {
  B b;
  if (!scalar_source(cpu, insn, b)) return false;
  SseState state(cpu);
  B a = lane<B>(cpu.xmm[insn.operands[0].reg], 0);
  u32 flags;
  if (UNLIKELY(is_nan(a) || is_nan(b))) {
    if (signals || is_signaling(a) || is_signaling(b)) state.before |= INVALID_OPERATION;
    flags = FLAG_Z | FLAG_P | FLAG_C;
  } else {
    const auto x = as_float(state.operand(a)), y = as_float(state.operand(b));
    flags = x < y ? FLAG_C : x == y ? FLAG_Z : 0;
  }
  if (!state.finish(cpu)) return false;
  set_flags(cpu, kArithmeticFlags, flags);
  return true;
}

}  // namespace

Handler compare_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Cmpss: return compare_scalar<u32>;
    case Mnemonic::Cmpsd: return compare_scalar<u64>;
    case Mnemonic::Cmpps: return compare_vector<u32>;
    case Mnemonic::Cmppd: return compare_vector<u64>;
    case Mnemonic::Ucomiss: return compare_flags<u32, false>;
    case Mnemonic::Ucomisd: return compare_flags<u64, false>;
    case Mnemonic::Comiss: return compare_flags<u32, true>;
    case Mnemonic::Comisd: return compare_flags<u64, true>;
    default: return nullptr;
  }
}
