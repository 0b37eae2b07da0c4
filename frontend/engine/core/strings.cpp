/// String instructions. With a repeat prefix, registers are moved as iterations are done, so that a fault leaves them where it goes on.
#include "integer.h"
#include "steps.h"

namespace {

/// Addresses and counts of one instruction, in 64 or 32 bits.
struct Strings {
  Cpu& cpu;
  const u64 mask;
  const u64 segment;  // of the source
  const u32 size;
  const i64 step;

  Strings(Cpu& c, const Insn& insn)
      : cpu(c),
        mask(insn.prefixes & PREFIX_ADDRESS32 ? 0xffffffffu : ~u64{0}),
        segment(insn.prefixes & PREFIX_FS ? c.fs_base : insn.prefixes & PREFIX_GS ? c.gs_base : 0),
        size(insn.operand_size),
        step(g.system_flags & FLAG_D ? -static_cast<i64>(size) : static_cast<i64>(size)) {}

  u64 source() const { return (cpu.gpr[6] & mask) + segment; }
  u64 target() const { return cpu.gpr[7] & mask; }
  u64 count() const { return cpu.gpr[1] & mask; }
  void move(u32 reg, u64 times) { cpu.gpr[reg] = (cpu.gpr[reg] + static_cast<u64>(step) * times) & mask; }
  void counted(u64 times) { cpu.gpr[1] = (cpu.gpr[1] - times) & mask; }
};

/// Iterations, upwards, that stay in the page of `address` and are at most `most`.
u64 in_page(u64 address, u32 size, u64 most) {
  const u64 fit = (kPageSize - (address & (kPageSize - 1))) / size;
  return fit < most ? fit : most;
}

bool movs_once(Strings& s) {
  u64 value;
  if (!load(s.cpu, s.source(), &value, s.size) || !store(s.cpu, s.target(), &value, s.size)) return false;
  s.move(6, 1);
  s.move(7, 1);
  return true;
}

bool movs(Cpu& cpu, const Insn& insn) {
  Strings s(cpu, insn);
  if (!(insn.prefixes & (PREFIX_REP | PREFIX_REPNE))) return movs_once(s);
  while (const u64 count = s.count()) {
    const u64 from = s.source(), into = s.target();
    u64 times = s.step > 0 ? in_page(from, s.size, in_page(into, s.size, count)) : 0;
    const u32 bytes = static_cast<u32>(times * s.size);
    // overlapping copies upwards repeat what they have written: one by one
    if (into > from && into - from < bytes) times = 0;
    if (times < 2) {
      if (!movs_once(s)) return false;
      s.counted(1);
      continue;
    }
    if (!prepare_load(from, bytes) || !prepare_store(into, bytes)) return false;
    __builtin_memmove(guest(into), guest(from), bytes);
    s.move(6, times);
    s.move(7, times);
    s.counted(times);
  }
  return true;
}

void fill(u8* into, u32 size, u64 times, u64 value) {
  if (size == 1) {
    __builtin_memset(into, static_cast<int>(value & 0xff), times);
    return;
  }
  for (u64 i = 0; i < times; i++, into += size) {
    if (size == 8) poke<u64>(into, value);
    else if (size == 4) poke<u32>(into, static_cast<u32>(value));
    else poke<u16>(into, static_cast<u16>(value));
  }
}

bool stos(Cpu& cpu, const Insn& insn) {
  Strings s(cpu, insn);
  const bool repeat = insn.prefixes & (PREFIX_REP | PREFIX_REPNE);
  const u64 value = cpu.gpr[0];
  u64 count = repeat ? s.count() : 1;
  while (count) {
    const u64 into = s.target();
    u64 times = s.step > 0 ? in_page(into, s.size, count) : 1;
    if (times == 0) times = 1;
    const u32 bytes = static_cast<u32>(times * s.size);
    if (!prepare_store(into, bytes)) return false;
    fill(guest(into), s.size, times, value);
    s.move(7, times);
    count -= times;
    if (repeat) s.counted(times);
  }
  return true;
}

bool lods(Cpu& cpu, const Insn& insn) {
  Strings s(cpu, insn);
  const bool repeat = insn.prefixes & (PREFIX_REP | PREFIX_REPNE);
  const Operand accumulator{OperandKind::Gpr, 0, static_cast<u16>(s.size)};
  for (u64 count = repeat ? s.count() : 1; count; count--) {
    u64 value = 0;
    if (!load(cpu, s.source(), &value, s.size)) return false;
    write_operand(cpu, insn, accumulator, value);
    s.move(6, 1);
    if (repeat) s.counted(1);
  }
  return true;
}

void compare(u32 size, u64 a, u64 b) {
  by_size(size, [&](auto type) -> u64 {
    using T = decltype(type);
    return sub<T>(static_cast<T>(a), static_cast<T>(b));
  });
}

/// scas and cmps: one iteration, flags made.
bool scan_once(Strings& s, bool two) {
  u64 a = s.cpu.gpr[0], b = 0;
  // of two faults, processors have that of the target
  if (!load(s.cpu, s.target(), &b, s.size)) return false;
  if (two) {
    a = 0;
    if (!load(s.cpu, s.source(), &a, s.size)) return false;
  }
  compare(s.size, a, b);
  if (two) s.move(6, 1);
  s.move(7, 1);
  return true;
}

template <bool two>
bool scan(Cpu& cpu, const Insn& insn) {
  Strings s(cpu, insn);
  if (!(insn.prefixes & (PREFIX_REP | PREFIX_REPNE))) return scan_once(s, two);
  const bool while_equal = insn.prefixes & PREFIX_REP;
  while (s.count()) {
    if (!scan_once(s, two)) return false;
    s.counted(1);
    if (flag_zero() != while_equal) break;
  }
  return true;
}

}  // namespace

Handler repeat_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Movs: return movs;
    case Mnemonic::Stos: return stos;
    case Mnemonic::Lods: return lods;
    case Mnemonic::Scas: return scan<false>;
    case Mnemonic::Cmps: return scan<true>;
    default: return nullptr;
  }
}
