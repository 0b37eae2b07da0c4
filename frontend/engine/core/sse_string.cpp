/// pcmpistri, pcmpistrm, pcmpestri, pcmpestrm: Intel SDM vol. 2, "Imm8 control byte operation".
#include "simd.h"

namespace {

/// Lanes as numbers.
struct Lanes {
  i32 of[16];
  u32 length;  // valid ones
};

Lanes lanes_of(const Xmm& value, u32 format) {
  Lanes lanes;
  for (u32 i = 0; i < (format & 1 ? 8u : 16u); i++)
    lanes.of[i] = format == 0 ? value.b[i] : format == 1 ? value.w[i] : format == 2 ? value.sb[i] : value.sw[i];
  return lanes;
}

/// Up to the first 0.
u32 implicit_length(const Lanes& lanes, u32 count) {
  u32 length = 0;
  while (length < count && lanes.of[length] != 0) length++;
  return length;
}
/// The absolute value of eax, rax.
u32 explicit_length(u64 value, bool wide, u32 count) {
  const i64 length = wide ? static_cast<i64>(value) : static_cast<i32>(value);
  if (length > static_cast<i64>(count) || length < -static_cast<i64>(count)) return count;
  return static_cast<u32>(length < 0 ? -length : length);
}

/// A bit for each lane of `b`.
u32 aggregate(const Lanes& a, const Lanes& b, u32 count, u32 mode) {
  u32 result = 0;
  for (u32 j = 0; j < count; j++) {
    bool bit = mode >= 2;
    switch (mode) {
      case 0:  // equal to any of a
        for (u32 i = 0; i < a.length; i++) bit |= a.of[i] == b.of[j];
        bit &= j < b.length;
        break;
      case 1:  // in one of a's ranges
        for (u32 i = 0; i + 1 < a.length; i += 2) bit |= a.of[i] <= b.of[j] && b.of[j] <= a.of[i + 1];
        bit &= j < b.length;
        break;
      case 2:  // equal at the same place; both beyond their ends counts as equal
        bit = j < a.length && j < b.length ? a.of[j] == b.of[j] : j >= a.length && j >= b.length;
        break;
      default:  // a begins here
        for (u32 i = 0; i < a.length && i + j < count; i++) bit &= i + j < b.length && a.of[i] == b.of[i + j];
    }
    result |= static_cast<u32>(bit) << j;
  }
  return result;
}

template <bool explicit_lengths, bool mask>
bool compare_strings(Cpu& cpu, const Insn& insn) {
  Xmm second;
  if (is_memory(insn.operands[1])) {
    if (!fetch_vector(cpu, insn, second)) return false;
  } else {
    second = cpu.xmm[insn.operands[1].reg];
  }
  const u32 control = static_cast<u32>(insn.immediate);
  const u32 count = control & 1 ? 8 : 16;
  Lanes a = lanes_of(cpu.xmm[insn.operands[0].reg], control & 3), b = lanes_of(second, control & 3);
  const bool wide = insn.operand_size == 8;
  a.length = explicit_lengths ? explicit_length(cpu.gpr[0], wide, count) : implicit_length(a, count);
  b.length = explicit_lengths ? explicit_length(cpu.gpr[2], wide, count) : implicit_length(b, count);

  u32 result = aggregate(a, b, count, control >> 2 & 3);
  const u32 all = (1u << count) - 1;
  if (control & 0x10) result ^= control & 0x20 ? (1u << b.length) - 1 : all;
  if constexpr (mask) {
    Xmm& into = cpu.xmm[0];
    into.q[0] = into.q[1] = 0;
    if (!(control & 0x40)) into.q[0] = result;
    else
      for (u32 i = 0; i < count; i++) {
        if (!(result >> i & 1)) continue;
        if (count == 8) into.w[i] = 0xffff;
        else into.b[i] = 0xff;
      }
  } else {
    cpu.gpr[1] = result == 0 ? count : static_cast<u32>(control & 0x40 ? 31 - __builtin_clz(result) : __builtin_ctz(result));
  }
  set_flags(cpu, kArithmeticFlags,
            (result ? FLAG_C : 0u) | (b.length < count ? FLAG_Z : 0u) | (a.length < count ? FLAG_S : 0u) | (result & 1 ? FLAG_O : 0u));
  return true;
}

}  // namespace

Handler sse_string_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Pcmpistri: return compare_strings<false, false>;
    case Mnemonic::Pcmpistrm: return compare_strings<false, true>;
    case Mnemonic::Pcmpestri: return compare_strings<true, false>;
    case Mnemonic::Pcmpestrm: return compare_strings<true, true>;
    default: return nullptr;
  }
}
