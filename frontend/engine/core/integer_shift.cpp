/// Shifts and rotations. Flags that processors leave undefined are those of the last step of one bit; A is clear.
#include "integer.h"
#include "steps.h"

namespace {

enum class Shift { Shl, Shr, Sar, Rol, Ror, Rcl, Rcr };

template <class T>
T shift_left(T a, u32 count) {
  constexpr u32 bits = sizeof(T) * 8;
  if (count < bits) return shl<T>(a, count);
  const u32 carry = count == bits ? a & 1 : 0;
  note_partial<T>(0, carry | carry << 11);
  return 0;
}

template <class T>
T shift_right(T a, u32 count) {
  constexpr u32 bits = sizeof(T) * 8;
  if (count < bits) return shr<T>(a, count);
  note_partial<T>(0, count == bits ? static_cast<u32>(a >> (bits - 1)) : 0);
  return 0;
}

template <class T>
T shift_arithmetic(T a, u32 count) {
  constexpr u32 bits = sizeof(T) * 8;
  if (count < bits) return sar<T>(a, count);
  const T result = static_cast<T>(static_cast<signed_of<T>>(a) >> (bits - 1));
  note_partial<T>(result, result & 1);
  return result;
}

/// Through the carry, by `count` modulo width + 1.
template <class T>
T rotate_carry(T a, u32 count, bool left) {
  constexpr u32 bits = sizeof(T) * 8;
  count %= bits + 1;
  if (count == 0) return a;
  // in one number of width + 1 bits, the carry on top
  const u128 wide = static_cast<u128>(flag_carry()) << bits | a;
  const u32 by = left ? count : bits + 1 - count;
  const u128 turned = wide << by | wide >> (bits + 1 - by);
  const T result = static_cast<T>(turned);
  note_rotation<T>(static_cast<u32>(turned >> bits) & 1, static_cast<u32>((a ^ result) >> (bits - 1)) & 1);
  return result;
}

template <class T>
T calculate(Shift kind, T a, u32 count) {
  switch (kind) {
    case Shift::Shl: return shift_left<T>(a, count);
    case Shift::Shr: return shift_right<T>(a, count);
    case Shift::Sar: return shift_arithmetic<T>(a, count);
    case Shift::Rol: return rol<T>(a, count);
    case Shift::Ror: return ror<T>(a, count);
    case Shift::Rcl: return rotate_carry<T>(a, count, true);
    default: return rotate_carry<T>(a, count, false);
  }
}

template <Shift kind>
bool shift(Cpu& cpu, const Insn& insn) {
  const Operand& into = insn.operands[0];
  u64 a, by;
  if (!read_operand(cpu, insn, insn.operands[1], by) || !read_target(cpu, insn, into, a)) return false;
  const u32 count = by & (into.size == 8 ? 63 : 31);
  const LazyFlags before = g.lazy;
  const u64 result = count == 0 ? a : by_size(into.size, [&](auto type) -> u64 {
    using T = decltype(type);
    return calculate<T>(kind, static_cast<T>(a), count);
  });
  return write_with_flags(cpu, insn, into, result, before);
}

/// shld's result; of 16 bits by more than 16, the first operand follows the second again.
u64 shifted_left(u32 size, u64 a, u64 b, u32 count) {
  if (count == 0) return a;
  if (size == 2) return static_cast<u16>((a << 32 | b << 16 | a) >> (32 - count));
  return a << count | b >> (size * 8 - count);
}
u64 shifted_right(u32 size, u64 a, u64 b, u32 count) {
  if (count == 0) return a;
  if (size == 2) return static_cast<u16>((a << 32 | b << 16 | a) >> count);
  return a >> count | b << (size * 8 - count);
}

template <bool left>
bool shift_double(Cpu& cpu, const Insn& insn) {
  const Operand& into = insn.operands[0];
  u64 a, b, by;
  if (!read_operand(cpu, insn, insn.operands[2], by) || !read_operand(cpu, insn, insn.operands[1], b) ||
      !read_target(cpu, insn, into, a))
    return false;
  const u32 count = by & (into.size == 8 ? 63 : 31);
  if (count == 0) return write_operand(cpu, insn, into, a);
  const auto shifted = left ? shifted_left : shifted_right;
  const u64 last = shifted(into.size, a, b, count - 1);
  const u64 result = shifted(into.size, a, b, count);
  const u32 top = into.size * 8 - 1;
  const u32 carry = static_cast<u32>(left ? last >> top : last) & 1;
  const u32 overflow = static_cast<u32>((last ^ result) >> top) & 1;
  const LazyFlags before = g.lazy;
  by_size(into.size, [&](auto type) -> u64 {
    note_partial(static_cast<decltype(type)>(result), carry | overflow << 11);
    return 0;
  });
  return write_with_flags(cpu, insn, into, result, before);
}

}  // namespace

Handler shift_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Shl: return shift<Shift::Shl>;
    case Mnemonic::Shr: return shift<Shift::Shr>;
    case Mnemonic::Sar: return shift<Shift::Sar>;
    case Mnemonic::Rol: return shift<Shift::Rol>;
    case Mnemonic::Ror: return shift<Shift::Ror>;
    case Mnemonic::Rcl: return shift<Shift::Rcl>;
    case Mnemonic::Rcr: return shift<Shift::Rcr>;
    case Mnemonic::Shld: return shift_double<true>;
    case Mnemonic::Shrd: return shift_double<false>;
    default: return nullptr;
  }
}
