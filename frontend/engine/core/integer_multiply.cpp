/// mul, imul, div, idiv.
#include "integer.h"
#include "steps.h"

namespace {

/// rax (al, ax, eax) and rdx of the operand size.
u64 half(u64 reg, u32 size) { return size == 8 ? reg : reg & ((u64{1} << size * 8) - 1); }
void set_half(u64& reg, u32 size, u64 value) {
  if (size == 8) reg = value;
  else if (size == 4) reg = static_cast<u32>(value);
  else reg = (reg & ~u64{0xffff}) | static_cast<u16>(value);
}

void set_product(Cpu& cpu, u32 size, u64 low, u64 high) {
  if (size == 1) return set_half(cpu.gpr[0], 2, (high << 8) | (low & 0xff));
  set_half(cpu.gpr[0], size, low);
  set_half(cpu.gpr[2], size, high);
}

void note_product(u32 size, u64 low, bool overflow) {
  by_size(size, [&](auto type) -> u64 {
    note_partial(static_cast<decltype(type)>(low), overflow ? FLAG_C | FLAG_O : 0);
    return 0;
  });
}

bool mul(Cpu& cpu, const Insn& insn) {
  const u32 size = insn.operands[0].size;
  u64 b;
  if (!read_operand(cpu, insn, insn.operands[0], b)) return false;
  const u128 product = static_cast<u128>(half(cpu.gpr[0], size)) * b;
  const u64 high = static_cast<u64>(product >> size * 8);
  set_product(cpu, size, static_cast<u64>(product), high);
  note_product(size, static_cast<u64>(product), half(high, size) != 0);
  return true;
}

i64 extend(u64 value, u32 size) {
  const u32 unused = 64 - size * 8;
  return static_cast<i64>(value << unused) >> unused;
}

bool imul_wide(Cpu& cpu, const Insn& insn) {
  const u32 size = insn.operands[0].size;
  u64 b;
  if (!read_operand(cpu, insn, insn.operands[0], b)) return false;
  const i128 product = static_cast<i128>(extend(cpu.gpr[0], size)) * extend(b, size);
  const u64 low = static_cast<u64>(product);
  set_product(cpu, size, low, static_cast<u64>(product >> size * 8));
  note_product(size, low, product != extend(low, size));
  return true;
}

bool imul_short(Cpu& cpu, const Insn& insn) {
  const Operand& into = insn.operands[0];
  u64 a, b;
  if (!read_operand(cpu, insn, insn.operands[1], b)) return false;
  if (insn.operand_count == 3) a = insn.immediate;
  else if (!read_operand(cpu, insn, into, a)) return false;
  const u64 result = by_size(into.size, [&](auto type) -> u64 {
    using T = decltype(type);
    return imul<T>(static_cast<T>(a), static_cast<T>(b));
  });
  return write_operand(cpu, insn, into, result);
}

/// The dividend: ax, or rdx:rax.
u128 dividend(const Cpu& cpu, u32 size) {
  if (size == 1) return static_cast<u16>(cpu.gpr[0]);
  return static_cast<u128>(half(cpu.gpr[2], size)) << size * 8 | half(cpu.gpr[0], size);
}

void set_quotient(Cpu& cpu, u32 size, u64 quotient, u64 rest) {
  if (size == 1) return set_half(cpu.gpr[0], 2, (rest & 0xff) << 8 | (quotient & 0xff));
  set_half(cpu.gpr[0], size, quotient);
  set_half(cpu.gpr[2], size, rest);
}

/// 128 by 64 bits; the quotient fits.
u64 divide_wide(u128 value, u64 by, u64& rest) {
  u64 high = static_cast<u64>(value >> 64), low = static_cast<u64>(value);
  if (high == 0) {
    rest = low % by;
    return low / by;
  }
  // Knuth's algorithm D with digits of 32 bits
  const int shift = __builtin_clzll(by);
  by <<= shift;
  if (shift) high = high << shift | low >> (64 - shift), low <<= shift;
  const u64 top = by >> 32, bottom = static_cast<u32>(by);
  u64 quotient = 0;
  for (int digit = 1; digit >= 0; digit--) {
    const u64 next = digit ? low >> 32 : static_cast<u32>(low);
    u64 guess = high / top, left = high % top;
    while (guess >> 32 || guess * bottom > (left << 32 | next)) {
      guess--;
      left += top;
      if (left >> 32) break;
    }
    high = (high << 32 | next) - guess * by;
    quotient = quotient << 32 | guess;
  }
  rest = high >> shift;
  return quotient;
}

bool div(Cpu& cpu, const Insn& insn) {
  const u32 size = insn.operands[0].size;
  u64 by, rest;
  if (!read_operand(cpu, insn, insn.operands[0], by)) return false;
  const u128 value = dividend(cpu, size);
  if (by == 0 || static_cast<u64>(value >> size * 8) >= by) return raise(cpu, EXIT_DIVIDE_ERROR);
  const u64 quotient = divide_wide(value, by, rest);
  set_quotient(cpu, size, quotient, rest);
  return true;
}

bool idiv(Cpu& cpu, const Insn& insn) {
  const u32 size = insn.operands[0].size;
  u64 operand, rest;
  if (!read_operand(cpu, insn, insn.operands[0], operand)) return false;
  const i64 by = extend(operand, size);
  const u32 unused = 128 - size * 16;
  const i128 value = static_cast<i128>(dividend(cpu, size) << unused) >> unused;
  const u128 magnitude = value < 0 ? -static_cast<u128>(value) : static_cast<u128>(value);
  const u64 divisor = by < 0 ? -static_cast<u64>(by) : static_cast<u64>(by);
  if (divisor == 0 || static_cast<u64>(magnitude >> 64) >= divisor) return raise(cpu, EXIT_DIVIDE_ERROR);
  const u64 quotient = divide_wide(magnitude, divisor, rest);
  const bool negative = (value < 0) != (by < 0);
  const u64 most = u64{1} << (size * 8 - 1);
  if (quotient > (negative ? most : most - 1)) return raise(cpu, EXIT_DIVIDE_ERROR);
  set_quotient(cpu, size, negative ? -quotient : quotient, value < 0 ? -rest : rest);
  return true;
}

}  // namespace

Handler multiply_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Mul: return mul;
    case Mnemonic::Imul: return insn.operand_count == 1 ? imul_wide : imul_short;
    case Mnemonic::Div: return div;
    case Mnemonic::Idiv: return idiv;
    default: return nullptr;
  }
}
