#include "flags.h"

#include "interpreter.h"

bool flag_carry() {
  const LazyFlags& lazy = g.lazy;
  switch (lazy.kind & ~3u) {
    case KIND_LOGIC: return false;
    case KIND_ADD: return lazy.result < lazy.a;
    case KIND_SUB: return lazy.result > lazy.a;
    case KIND_ADC: return lazy.result <= lazy.a;
    case KIND_SBB: return lazy.result >= lazy.a;
    default: return lazy.a & FLAG_C;
  }
}

/// The second operand, right in the operation's width.
static u64 second_operand() {
  const LazyFlags& lazy = g.lazy;
  switch (lazy.kind & ~3u) {
    case KIND_ADD: return lazy.result - lazy.a;
    case KIND_SUB: return lazy.a - lazy.result;
    case KIND_ADC: return lazy.result - lazy.a - 1;
    default: return lazy.a - lazy.result - 1;  // KIND_SBB
  }
}

static bool top_bit(u64 value) { return value >> ((8u << (g.lazy.kind & 3)) - 1) & 1; }

bool flag_overflow() {
  const LazyFlags& lazy = g.lazy;
  switch (lazy.kind & ~3u) {
    case KIND_LOGIC: return false;
    case KIND_ADD:
    case KIND_ADC: return top_bit((lazy.a ^ lazy.result) & (second_operand() ^ lazy.result));
    case KIND_SUB:
    case KIND_SBB: return top_bit((lazy.a ^ second_operand()) & (lazy.a ^ lazy.result));
    default: return lazy.a & FLAG_O;
  }
}

static bool flag_parity() {
  if (g.lazy.kind < KIND_PARTIAL) return g.lazy.a & FLAG_P;
  return !__builtin_parity(static_cast<u8>(g.lazy.result));
}

static bool flag_adjust() {
  const LazyFlags& lazy = g.lazy;
  switch (lazy.kind & ~3u) {
    case KIND_EXPLICIT:
    case KIND_PARTIAL: return lazy.a & FLAG_A;
    case KIND_LOGIC: return false;
    default: return (lazy.a ^ lazy.result ^ second_operand()) & 0x10;
  }
}

bool condition(u32 code) {
  bool holds;
  switch (code >> 1) {
    case 0: holds = flag_overflow(); break;
    case 1: holds = flag_carry(); break;
    case 2: holds = flag_zero(); break;
    case 3: holds = flag_carry() || flag_zero(); break;
    case 4: holds = flag_sign(); break;
    case 5: holds = flag_parity(); break;
    case 6: holds = flag_sign() != flag_overflow(); break;
    default: holds = flag_zero() || flag_sign() != flag_overflow(); break;
  }
  return holds != static_cast<bool>(code & 1);
}

u32 arithmetic_flags() {
  if ((g.lazy.kind & ~3u) == KIND_EXPLICIT) return static_cast<u32>(g.lazy.a) & kArithmeticFlags;
  u32 flags = 0;
  if (flag_carry()) flags |= FLAG_C;
  if (flag_parity()) flags |= FLAG_P;
  if (flag_adjust()) flags |= FLAG_A;
  if (flag_zero()) flags |= FLAG_Z;
  if (flag_sign()) flags |= FLAG_S;
  if (flag_overflow()) flags |= FLAG_O;
  return flags;
}

constexpr u32 kSystemFlags = FLAG_T | FLAG_D | FLAG_AC | FLAG_ID;
constexpr u32 kAlwaysSet = 2 | FLAG_I;

u64 pack_flags() { return arithmetic_flags() | g.system_flags | kAlwaysSet; }

void unpack_flags(u64 rflags) {
  g.lazy.kind = KIND_EXPLICIT;
  g.lazy.result = 0;
  g.lazy.a = rflags & kArithmeticFlags;
  g.system_flags = static_cast<u32>(rflags) & kSystemFlags;
}

u32 get_flags(const Cpu&) { return static_cast<u32>(pack_flags()); }

void set_flags(Cpu&, u32 mask, u32 value) {
  const u32 flags = (static_cast<u32>(pack_flags()) & ~mask) | (value & mask);
  unpack_flags(flags);
}
