/// Conditions of jumps, sets and moves, from what the flags were made of where that is known.
#include "emitter.h"
#include "translated.h"

using namespace wasm;

namespace jit {

namespace {

/// Conditions without their lowest bit, which negates.
enum : u8 {
  CONDITION_OVERFLOW,
  CONDITION_BELOW,
  CONDITION_ZERO,
  CONDITION_BELOW_OR_EQUAL,
  CONDITION_SIGN,
  CONDITION_PARITY,
  CONDITION_LESS,
  CONDITION_LESS_OR_EQUAL,
};

}  // namespace

/// Of an inc or dec, which are the last that set the zero, sign and (without a rotation) overflow flags. The carry is not theirs.
bool Emitter::push_step_condition(u8 pair) {
  const u32 size = 1u << (kinds_.step - 1) % 4;
  const bool down = kinds_.step > 4;
  switch (pair) {
    case CONDITION_ZERO:
      w.get(STEP_RESULT);
      w.op(I64_EQZ);
      return true;
    case CONDITION_SIGN:
      w.get(STEP_RESULT);
      push_sign_extended(size);
      w.constant(0);
      w.op(I64_LT_S);
      return true;
    case CONDITION_LESS:
    case CONDITION_LESS_OR_EQUAL:
      // The exact result is below 0 when the operand is below 1 (dec) or -1 (inc).
      if (kinds_.turn == kUnknown || kinds_.turn & kTurnLast) return false;
      w.get(STEP_RESULT);
      w.constant(down ? 1 : u64(-1));
      w.op(I64_ADD);
      push_sign_extended(size);
      w.constant(u64((down ? 1 : -1) + (pair == CONDITION_LESS_OR_EQUAL)));
      w.op(I64_LT_S);
      return true;
    default:
      return false;
  }
}

bool Emitter::push_known_condition(u8 pair) {
  if (pair == CONDITION_BELOW) {
    if (kinds_.turn == kUnknown) return false;
    if (!kinds_.turn) return push_base_condition(pair);
    const u32 turn = kinds_.turn & ~kTurnLast;
    w.get(TURN_RESULT);
    w.constant(turn > 4 ? (8u << (turn - 1) % 4) - 1 : 0);
    w.op(I64_SHR_U);
    w.op(I32_WRAP_I64);
    w.constant32(1);
    w.op(I32_AND);
    return true;
  }
  if (kinds_.step == kUnknown) return false;
  if (kinds_.step) return push_step_condition(pair);
  if (kinds_.turn && pair != CONDITION_ZERO && pair != CONDITION_SIGN) return false;
  return push_base_condition(pair);
}

/// As if nothing had changed flags since the last that set all.
bool Emitter::push_base_condition(u8 pair) {
  if (kinds_.base == kUnknown || kinds_.base < 4) return false;
  const FlagKind kind = FlagKind(kinds_.base / 4);
  const u32 size = 1u << (kinds_.base % 4);
  const auto push_part = [&](u32 local, bool sign) {
    w.get(local);
    if (size == 4) w.op(I32_WRAP_I64);
    else if (sign) push_sign_extended(size);
    else mask_to(size);
  };
  // Operations are i64's; i32's comparisons have the same order.
  const auto compare = [&](Op op, bool sign, u32 a, u32 b) {
    push_part(a, sign);
    push_part(b, sign);
    w.op(size == 4 ? Op(op - I64_EQ + I32_EQ) : op);
  };
  const auto result_is_zero = [&] {
    push_part(FLAG_RESULT_LOCAL, true);
    w.op(size == 4 ? I32_EQZ : I64_EQZ);
    return true;
  };
  const auto compare_result = [&](Op op) {
    push_part(FLAG_RESULT_LOCAL, true);
    if (size == 4) w.constant32(0);
    else w.constant(0);
    w.op(size == 4 ? Op(op - I64_EQ + I32_EQ) : op);
    return true;
  };
  if (kind == FlagKind::Order) {
    constexpr u32 bits[] = {FLAG_O, FLAG_C, FLAG_Z, FLAG_C | FLAG_Z, FLAG_S, FLAG_P, FLAG_S, FLAG_S | FLAG_Z};
    w.get(FLAG_RESULT_LOCAL);
    w.op(I32_WRAP_I64);
    w.constant32(bits[pair]);
    w.op(I32_AND);
    w.constant32(0);
    w.op(I32_NE);
    return true;
  }
  if (kind == FlagKind::Imul && pair != CONDITION_ZERO && pair != CONDITION_SIGN) return false;
  if (pair == CONDITION_SIGN) return compare_result(I64_LT_S);
  if (kind == FlagKind::Sub && pair != CONDITION_OVERFLOW && pair != CONDITION_PARITY) {
    constexpr Op comparisons[] = {I64_EQ, I64_LT_U, I64_EQ, I64_LE_U, I64_EQ, I64_EQ, I64_LT_S, I64_LE_S};
    compare(comparisons[pair], pair >= CONDITION_LESS, FLAG_A_LOCAL, FLAG_B_LOCAL);
    return true;
  }
  if (pair == CONDITION_ZERO) return result_is_zero();
  if (kind == FlagKind::Mul) {
    if (pair != CONDITION_BELOW && pair != CONDITION_OVERFLOW) return false;
    w.get(FLAG_B_LOCAL);
    w.constant(0);
    w.op(I64_NE);
    return true;
  }
  if (kind == FlagKind::Logic) {
    switch (pair) {
      case CONDITION_OVERFLOW:
      case CONDITION_BELOW:
        w.constant32(0);
        return true;
      case CONDITION_BELOW_OR_EQUAL:
        return result_is_zero();
      case CONDITION_LESS:
      case CONDITION_LESS_OR_EQUAL:
        return compare_result(pair == CONDITION_LESS ? I64_LT_S : I64_LE_S);
      default:
        return false;
    }
  }
  if (pair == CONDITION_BELOW && kind == FlagKind::Add) {
    compare(I64_LT_U, false, FLAG_RESULT_LOCAL, FLAG_A_LOCAL);
    return true;
  }
  return false;
}

void Emitter::push_condition(u8 condition) {
  if (!push_known_condition(condition >> 1)) {
    settle_kinds();
    spill_flags();
    w.constant32(condition & 0xe);
    call_helper(helper_condition());
  }
  if (condition & 1) w.op(I32_EQZ);
}

}  // namespace jit
