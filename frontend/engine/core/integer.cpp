/// Arithmetic, logic and moves in the forms that have no step of their own: locked, with two segments' addresses, 16 bits.
#include "integer.h"

#include "steps.h"

namespace {

template <u64 (*calculate)(u32 size, u64 a, u64 b), bool writes = true>
bool binary(Cpu& cpu, const Insn& insn) {
  const Operand& into = insn.operands[0];
  u64 a, b;
  if (!read_operand(cpu, insn, insn.operands[1], b) || !(writes ? read_target : read_operand)(cpu, insn, into, a)) return false;
  const LazyFlags before = g.lazy;
  const u64 result = calculate(into.size, a, b);
  return !writes || write_with_flags(cpu, insn, into, result, before);
}

#define CALCULATE(name, operation)                                                                                        \
  u64 name##_sized(u32 size, u64 a, u64 b) {                                                                              \
    return by_size(size, [&](auto type) -> u64 {                                                                          \
      using T = decltype(type);                                                                                           \
      return operation<T>(static_cast<T>(a), static_cast<T>(b));                                                          \
    });                                                                                                                   \
  }
CALCULATE(add, add)
CALCULATE(sub, sub)
CALCULATE(adc, adc)
CALCULATE(sbb, sbb)
CALCULATE(and, bit_and)
CALCULATE(or, bit_or)
CALCULATE(xor, bit_xor)

template <u64 (*calculate)(u32 size, u64 a)>
bool unary(Cpu& cpu, const Insn& insn) {
  const Operand& into = insn.operands[0];
  u64 a;
  if (!read_target(cpu, insn, into, a)) return false;
  const LazyFlags before = g.lazy;
  return write_with_flags(cpu, insn, into, calculate(into.size, a), before);
}

#define CALCULATE_ONE(name, expression)                                                                                   \
  u64 name##_sized(u32 size, u64 value) {                                                                                 \
    return by_size(size, [&](auto type) -> u64 {                                                                          \
      using T = decltype(type);                                                                                           \
      const T a = static_cast<T>(value);                                                                                  \
      return expression;                                                                                                  \
    });                                                                                                                   \
  }
CALCULATE_ONE(inc, inc<T>(a))
CALCULATE_ONE(dec, dec<T>(a))
CALCULATE_ONE(neg, sub<T>(0, a))
CALCULATE_ONE(not, static_cast<T>(~a))

bool lea(Cpu& cpu, const Insn& insn) {
  Insn plain = insn;
  plain.prefixes &= static_cast<u8>(~(PREFIX_FS | PREFIX_GS));
  return write_operand(cpu, insn, insn.operands[0], effective_address(cpu, plain));
}

/// mov, movzx, movnti.
bool move(Cpu& cpu, const Insn& insn) {
  u64 value;
  return read_operand(cpu, insn, insn.operands[1], value) && write_operand(cpu, insn, insn.operands[0], value);
}

bool move_signed(Cpu& cpu, const Insn& insn) {
  u64 value;
  const Operand& from = insn.operands[1];
  if (!read_operand(cpu, insn, from, value)) return false;
  const u32 unused = 64 - from.size * 8;
  return write_operand(cpu, insn, insn.operands[0], static_cast<u64>(static_cast<i64>(value << unused) >> unused));
}

bool cmov(Cpu& cpu, const Insn& insn) {
  u64 value, old;
  if (!read_operand(cpu, insn, insn.operands[1], value) || !read_operand(cpu, insn, insn.operands[0], old)) return false;
  return write_operand(cpu, insn, insn.operands[0], condition(insn.condition) ? value : old);
}

bool setcc(Cpu& cpu, const Insn& insn) { return write_operand(cpu, insn, insn.operands[0], condition(insn.condition)); }

bool cbw(Cpu& cpu, const Insn& insn) {
  u64& rax = cpu.gpr[0];
  if (insn.operand_size == 2) rax = (rax & ~u64{0xffff}) | static_cast<u16>(static_cast<i8>(rax));
  else if (insn.operand_size == 4) rax = static_cast<u32>(static_cast<i16>(rax));
  else rax = static_cast<u64>(static_cast<i64>(static_cast<i32>(rax)));
  return true;
}

bool cwd(Cpu& cpu, const Insn& insn) {
  const u64 rax = cpu.gpr[0];
  u64& rdx = cpu.gpr[2];
  if (insn.operand_size == 2) rdx = (rdx & ~u64{0xffff}) | (rax & 0x8000 ? 0xffff : 0);
  else if (insn.operand_size == 4) rdx = rax & 0x80000000 ? 0xffffffff : 0;
  else rdx = rax >> 63 ? ~u64{0} : 0;
  return true;
}

bool bswap(Cpu& cpu, const Insn& insn) {
  u64& value = cpu.gpr[insn.operands[0].reg];
  if (insn.operand_size == 8) value = __builtin_bswap64(value);
  else if (insn.operand_size == 4) value = __builtin_bswap32(static_cast<u32>(value));
  else value &= ~u64{0xffff};  // undefined; what processors do
  return true;
}

bool xlat(Cpu& cpu, const Insn& insn) {
  Insn address = insn;
  address.base = 3;
  address.index = kNoRegister;
  address.displacement = static_cast<u8>(cpu.gpr[0]);
  u8 value;
  if (!load(cpu, effective_address(cpu, address), &value, 1)) return false;
  cpu.gpr[0] = (cpu.gpr[0] & ~u64{0xff}) | value;
  return true;
}

Handler arithmetic_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Add: return binary<add_sized>;
    case Mnemonic::Or: return binary<or_sized>;
    case Mnemonic::Adc: return binary<adc_sized>;
    case Mnemonic::Sbb: return binary<sbb_sized>;
    case Mnemonic::And: return binary<and_sized>;
    case Mnemonic::Sub: return binary<sub_sized>;
    case Mnemonic::Xor: return binary<xor_sized>;
    case Mnemonic::Cmp: return binary<sub_sized, false>;
    case Mnemonic::Test: return binary<and_sized, false>;
    case Mnemonic::Inc: return unary<inc_sized>;
    case Mnemonic::Dec: return unary<dec_sized>;
    case Mnemonic::Neg: return unary<neg_sized>;
    case Mnemonic::Not: return unary<not_sized>;
    case Mnemonic::Mov:
    case Mnemonic::Movzx:
    case Mnemonic::Movnti: return move;
    case Mnemonic::Movsx:
    case Mnemonic::Movsxd: return move_signed;
    case Mnemonic::Lea: return lea;
    case Mnemonic::Cmovcc: return cmov;
    case Mnemonic::Setcc: return setcc;
    case Mnemonic::Cbw: return cbw;
    case Mnemonic::Cwd: return cwd;
    case Mnemonic::Bswap: return bswap;
    case Mnemonic::Xlat: return xlat;
    default: return nullptr;
  }
}

}  // namespace

Handler integer_handler(const Insn& insn) {
  // segments first: they are operands of instructions that the others have, too
  constexpr Handler (*units[])(const Insn&) = {segment_handler, arithmetic_handler, multiply_handler, shift_handler, bit_handler,
                                               exchange_handler, stack_handler, repeat_handler, system_handler};
  for (const auto unit : units)
    if (const Handler handler = unit(insn)) return handler;
  return nullptr;
}
