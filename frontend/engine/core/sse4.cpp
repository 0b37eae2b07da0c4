/// SSE4 instructions of no other group: tests, sums of differences, the minimum, CRC32.
#include "simd.h"

namespace {

bool ptest(Cpu& cpu, const Insn& insn) {
  Xmm b;
  if (!packed_source(cpu, insn, b)) return false;
  const Xmm& a = cpu.xmm[insn.operands[0].reg];
  const bool no_common = ((a.q[0] & b.q[0]) | (a.q[1] & b.q[1])) == 0;
  const bool contained = ((~a.q[0] & b.q[0]) | (~a.q[1] & b.q[1])) == 0;
  set_flags(cpu, kArithmeticFlags, (no_common ? FLAG_Z : 0u) | (contained ? FLAG_C : 0u));
  return true;
}

/// Eight sums of four absolute differences: four bytes of `b` against each place in eleven of `a`.
bool mpsadbw(Cpu& cpu, const Insn& insn) {
  Xmm b;
  if (!packed_source(cpu, insn, b)) return false;
  Xmm& into = cpu.xmm[insn.operands[0].reg];
  const u8* const block = b.b + 4 * (insn.immediate & 3);
  const Xmm a = into;
  const u8* const window = a.b + (insn.immediate & 4);
  for (u32 i = 0; i < 8; i++) {
    u32 sum = 0;
    for (u32 k = 0; k < 4; k++) {
      const i32 difference = window[i + k] - block[k];
      sum += static_cast<u32>(difference < 0 ? -difference : difference);
    }
    into.w[i] = static_cast<u16>(sum);
  }
  return true;
}

bool phminposuw(Cpu& cpu, const Insn& insn) {
  Xmm b;
  if (!packed_source(cpu, insn, b)) return false;
  u32 place = 0;
  for (u32 i = 1; i < 8; i++)
    if (b.w[i] < b.w[place]) place = i;
  Xmm& into = cpu.xmm[insn.operands[0].reg];
  into.q[0] = b.w[place] | place << 16;
  into.q[1] = 0;
  return true;
}

/// CRC-32C (Castagnoli), reflected, of each byte.
constexpr u32 kPolynomial = 0x82f63b78;
struct CrcTable {
  u32 of[256];
  constexpr CrcTable() : of{} {
    for (u32 i = 0; i < 256; i++) {
      u32 value = i;
      for (u32 bit = 0; bit < 8; bit++) value = value & 1 ? value >> 1 ^ kPolynomial : value >> 1;
      of[i] = value;
    }
  }
};
constexpr CrcTable kCrc;

bool crc32(Cpu& cpu, const Insn& insn) {
  u64 value;
  if (!read_operand(cpu, insn, insn.operands[1], value)) return false;
  u32 crc = static_cast<u32>(cpu.gpr[insn.operands[0].reg]);
  for (u32 i = 0; i < insn.operands[1].size; i++, value >>= 8) crc = kCrc.of[static_cast<u8>(crc ^ value)] ^ crc >> 8;
  cpu.gpr[insn.operands[0].reg] = crc;
  return true;
}

}  // namespace

Handler sse4_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Ptest: return ptest;
    case Mnemonic::Mpsadbw: return mpsadbw;
    case Mnemonic::Phminposuw: return phminposuw;
    case Mnemonic::Crc32: return crc32;
    default: return nullptr;
  }
}
