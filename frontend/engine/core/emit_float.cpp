/// Floating point of SSE in wasm's. Both follow IEEE 754, but wasm has no MXCSR and leaves the bits of a NaN open. So an operation is done
/// directly only when nothing but the inexact flag could be raised, which is raised already: MXCSR must be as it is after a program's first
/// inexact result, operands normal numbers or 0. Everything else the interpreter does. Regions that were written while MXCSR was otherwise run handlers.
#include "emitter.h"
#include "ranges.h"
#include "translated.h"

using namespace wasm;

namespace jit {

enum class FloatKind : u8 { Sum, Product, Quotient };
struct FloatOperation {
  Mnemonic mnemonic;
  FloatKind kind;
  bool wide;    // double
  bool packed;
  u16 op;       // SIMD's
};

namespace {

u32 pointer(const void* to) { return u32(reinterpret_cast<uintptr_t>(to)); }

constexpr FloatOperation kOperations[] = {
    {Mnemonic::Addsd, FloatKind::Sum, true, false, 240}, {Mnemonic::Subsd, FloatKind::Sum, true, false, 241}, {Mnemonic::Mulsd, FloatKind::Product, true, false, 242}, {Mnemonic::Divsd, FloatKind::Quotient, true, false, 243},
    {Mnemonic::Addss, FloatKind::Sum, false, false, 228}, {Mnemonic::Subss, FloatKind::Sum, false, false, 229}, {Mnemonic::Mulss, FloatKind::Product, false, false, 230}, {Mnemonic::Divss, FloatKind::Quotient, false, false, 231},
    {Mnemonic::Addpd, FloatKind::Sum, true, true, 240},  {Mnemonic::Subpd, FloatKind::Sum, true, true, 241},  {Mnemonic::Mulpd, FloatKind::Product, true, true, 242},  {Mnemonic::Divpd, FloatKind::Quotient, true, true, 243},
    {Mnemonic::Addps, FloatKind::Sum, false, true, 228}, {Mnemonic::Subps, FloatKind::Sum, false, true, 229}, {Mnemonic::Mulps, FloatKind::Product, false, true, 230}, {Mnemonic::Divps, FloatKind::Quotient, false, true, 231},
};

const FloatOperation* operation_of(const Insn& insn) {
  for (const FloatOperation& row : kOperations) {
    if (row.mnemonic == insn.mnemonic) return &row;
  }
  return nullptr;
}

constexpr u32 kInexact = 0x20, kMasks = 0x1f80;
constexpr u32 kMxcsrSeen = kInexact | 0x40 /* DAZ */ | kMasks | 0x6000 /* rounding */ | 0x8000 /* FTZ */;


/// Constants of a vector: every lane that bit pattern.
void lanes_of(Writer& w, bool wide, u64 value) {
  w.simd(V128_CONST);
  for (u32 i = 0; i < 16; ++i) w.byte(u8(value >> 8 * (i % (wide ? 8 : 4))));
}

constexpr u64 magnitude(bool wide) { return wide ? 0x7fffffff'ffffffff : 0x7fffffff; }
constexpr u64 infinity(bool wide) { return wide ? 0x7ff00000'00000000 : 0x7f800000; }
constexpr u64 smallest_normal(bool wide) { return wide ? 0x00100000'00000000 : 0x00800000; }

constexpr u16 greater(bool wide) { return wide ? 217 : 59; }  // signed, of integers
constexpr u16 equal(bool wide) { return wide ? 214 : 55; }

}  // namespace

bool is_float_mnemonic(const Insn& insn) { return operation_of(insn) != nullptr || is_conversion_mnemonic(insn); }
bool is_float_operation(const Insn& insn) { return floats_are_direct() && operation_of(insn) != nullptr; }

bool floats_are_direct() { return (the_cpu().mxcsr & kMxcsrSeen) == (kMasks | kInexact); }

/// The magnitude of the vector in `local`, as integers that order like the numbers, into another local.
void Emitter::take_magnitude(u32 local, u32 into, bool wide) {
  w.get(local);
  lanes_of(w, wide, magnitude(wide));
  w.simd(V128_AND);
  w.set(into);
}

/// Pushes masks of lanes: magnitudes of normal numbers (not the smallest, if `rounded`: a result that was below it underflows); of 0.
void Emitter::push_is_normal(u32 local, bool wide, bool rounded) {
  w.get(local);
  lanes_of(w, wide, smallest_normal(wide) - !rounded);
  w.simd(Simd(greater(wide)));
  lanes_of(w, wide, infinity(wide));
  w.get(local);
  w.simd(Simd(greater(wide)));
  w.simd(V128_AND);
}

void Emitter::push_is_zero(u32 local, bool wide) {
  w.get(local);
  push_zero_vector();
  w.simd(Simd(equal(wide)));
}

/// A normal result is right (if inexact, then that is noted already). So is a sum that is 0, which is exact, and 0 times something. Of the vectors VECTOR2 op VECTOR = RESULT, or their first lanes.
void Emitter::leave_unless_harmless(const FloatOperation& operation) {
  const bool wide = operation.wide;
  take_magnitude(VECTOR2, VECTOR2, wide);
  take_magnitude(VECTOR, VECTOR, wide);
  take_magnitude(RESULT, VECTOR3, wide);
  const u32 operands[] = {VECTOR2, VECTOR};
  for (const u32 operand : operands) {
    push_is_normal(operand, wide);
    if (operation.kind != FloatKind::Quotient || operand == VECTOR2) {
      push_is_zero(operand, wide);
      w.simd(V128_OR);
    }
  }
  w.simd(V128_AND);
  if (operation.kind == FloatKind::Sum) {
    push_is_normal(VECTOR3, wide);
    push_is_zero(VECTOR3, wide);
    w.simd(V128_OR);
  } else {
    push_is_normal(VECTOR3, wide, true);
    push_is_zero(VECTOR2, wide);
    if (operation.kind == FloatKind::Product) {
      push_is_zero(VECTOR, wide);
      w.simd(V128_OR);
    }
    w.simd(V128_OR);
  }
  w.simd(V128_AND);
  w.simd(Simd(wide ? 196 : 164));  // bitmask
  const u32 lanes = operation.packed ? wide ? 3 : 15 : 1;
  w.constant32(lanes);
  w.op(I32_AND);
  w.constant32(lanes);
  w.op(I32_NE);
  leave_before_if();
}

/// Pushes whether the scalar is anything but a normal number above the smallest ones.
void Emitter::push_is_extraordinary(u32 local, bool wide) {
  // exponents 2 to the last of numbers, in the upper 32 bits without the sign
  w.get(local);
  if (wide) {
    w.op(I64_REINTERPRET_F64);
    w.constant(32);
    w.op(I64_SHR_U);
    w.op(I32_WRAP_I64);
  } else {
    w.op(I32_REINTERPRET_F32);
  }
  const u32 shift = wide ? 21 : 24;
  w.constant32(1);
  w.op(I32_SHL);
  w.constant32(2u << shift);
  w.op(I32_SUB);
  w.constant32(((wide ? 0x7ffu : 0xffu) - 2) << shift);
  w.op(I32_GE_U);
}

void Emitter::push_is_zero_scalar(u32 local, bool wide) {
  w.get(local);
  if (wide) w.constant_double(0);
  else w.constant_single(0);
  w.op(wide ? F64_EQ : F32_EQ);
}

/// Leaves if the scalar is below the normal numbers and not 0.
void Emitter::leave_if_denormal(u32 local, bool wide) {
  w.get(local);
  if (wide) {
    w.op(I64_REINTERPRET_F64);
    w.constant(1);
    w.op(I64_SHL);
    w.constant(1);
    w.op(I64_SUB);
    w.constant(53);
    w.op(I64_SHR_U);
    w.op(I64_EQZ);
  } else {
    w.op(I32_REINTERPRET_F32);
    w.constant32(1);
    w.op(I32_SHL);
    w.constant32(1);
    w.op(I32_SUB);
    w.constant32(24);
    w.op(I32_SHR_U);
    w.op(I32_EQZ);
  }
  leave_before_if();
}

/// The same of what was just loaded: processors test memory at once.
void Emitter::leave_if_loaded_denormal(u32 local, bool wide) {
  push_address();
  w.memory(I32_LOAD, kGuestBase + (wide ? 4 : 0));
  w.constant32(wide ? 0x7ff00000 : 0x7f800000);
  w.op(I32_AND);
  w.op(I32_EQZ);
  w.begin(IF);
  ++depth_;
  push_is_zero_scalar(local, wide);
  w.op(I32_EQZ);
  leave_before_if();
  w.end();
  --depth_;
}

/// Leaves unless the result is 0 and exactly so, which it is as a sum, and of a factor or dividend that is 0. Operands are locals in their order.
void Emitter::leave_unless_exact_zero(const FloatOperation& operation) {
  const bool wide = operation.wide;
  const u32 a = wide ? DOUBLE_A : SINGLE_A, b = a + 1, result = a + 2;
  push_is_zero_scalar(result, wide);
  if (operation.kind != FloatKind::Sum) {
    push_is_zero_scalar(a, wide);
    if (operation.kind == FloatKind::Product) {
      push_is_zero_scalar(b, wide);
      w.op(I32_OR);
    }
    w.op(I32_AND);
  }
  w.op(I32_EQZ);
  leave_before_if();
}

/// An ordinary result cannot come from infinities or NaNs, but from denormal operands. What an operation here has left is none.
void Emitter::emit_scalar_float(const Insn& insn, const FloatOperation& operation) {
  const bool wide = operation.wide;
  const u32 a = wide ? DOUBLE_A : SINGLE_A, b = a + 1, result = a + 2;
  const u8 to = insn.operands[0].reg;
  const Operand& from = insn.operands[1];
  const auto is_tame = [&](const Operand& operand) { return is_clean(operand, wide) || (wide && operand.kind == OperandKind::Xmm && tame_ >> operand.reg & 1); };
  push_scalar(insn, from, wide);
  w.set(b);
  if (from.kind == OperandKind::Memory) leave_if_loaded_denormal(b, wide);
  push_scalar(insn, insn.operands[0], wide);
  w.tee(a);
  w.get(b);
  w.byte(u8(wide ? 0xa0 + operation.op - 240 : 0x92 + operation.op - 228));
  w.set(result);
  push_is_extraordinary(result, wide);
  w.begin(IF);
  ++depth_;
  if (has_zeros(region_.entry)) {
    leave_unless_exact_zero(operation);
  } else {
    w.constant32(0);
    w.constant32(kMissedZero);
    w.memory(I32_STORE, pointer(&missed_range()));
    leave_before();
  }
  w.end();
  --depth_;
  if (!is_tame(insn.operands[0])) leave_if_denormal(a, wide);
  if (from.kind != OperandKind::Memory && !is_tame(from)) leave_if_denormal(b, wide);
  w.get(result);
  set_scalar(to, wide);
}

Clean Emitter::clean_after(const Insn& insn, Clean before) const {
  if (!is_translated_sse(insn)) return effect_of(insn).translated ? before : Clean{};
  const Operand& to = insn.operands[0];
  const Operand& from = insn.operands[1];
  if (to.kind != OperandKind::Xmm) return before;
  const u32 bit = 1u << to.reg;
  Clean after = {before.doubles & ~bit, before.singles & ~bit};
  const auto set = [&](bool doubles, bool singles) {
    if (doubles) after.doubles |= bit;
    if (singles) after.singles |= bit;
  };
  if (is_float_operation(insn)) {
    const FloatOperation& operation = *operation_of(insn);
    if (!operation.packed) set(operation.wide, !operation.wide);
    return after;
  }
  if (is_float_conversion(insn)) {
    if (is_comparison_mnemonic(insn)) return before;
    const bool wide = insn.mnemonic == Mnemonic::Cvtsi2sd || insn.mnemonic == Mnemonic::Cvtss2sd || insn.mnemonic == Mnemonic::Sqrtsd;
    const bool finite = insn.mnemonic != Mnemonic::Cvtss2sd;  // that keeps infinities
    set(wide && finite, !wide);
    return after;
  }
  if (from.kind != OperandKind::Xmm) return after;
  const bool double_was = before.doubles >> from.reg & 1, single_was = before.singles >> from.reg & 1;
  switch (insn.mnemonic) {
    case Mnemonic::Pxor:
    case Mnemonic::Xorps:
    case Mnemonic::Xorpd:
      set(to.reg == from.reg, to.reg == from.reg);
      return after;
    case Mnemonic::Movaps:
    case Mnemonic::Movapd:
    case Mnemonic::Movdqa:
    case Mnemonic::Movups:
    case Mnemonic::Movupd:
    case Mnemonic::Movdqu:
      set(double_was, single_was);
      return after;
    case Mnemonic::Movsd:
      set(double_was, false);
      return after;
    case Mnemonic::Movss:
      set(false, single_was);
      return after;
    default:
      return after;
  }
}

void Emitter::find_clean() {
  constexpr u32 all = 0xffff;
  for (u32 i = 1; i < region_.block_count; ++i) clean_in_[i] = {all, all};
  clean_in_[0] = {};
  for (bool changed = true; changed;) {
    changed = false;
    for (u32 i = 0; i < region_.block_count; ++i) {
      const RegionBlock& block = region_.blocks[i];
      Clean clean = clean_in_[i];
      const u32 plain = block.count - (block.ending == Ending::Falls ? 0 : 1);
      for (u32 k = 0; k < plain; ++k) clean = clean_after(region_.instructions[block.first + k], clean);
      const u8 successors[] = {block.next, block.taken};
      for (const u8 to : successors) {
        if (to == kNoBlock) continue;
        const Clean met = {clean_in_[to].doubles & clean.doubles, clean_in_[to].singles & clean.singles};
        changed |= met != clean_in_[to];
        clean_in_[to] = met;
      }
    }
  }
}

void Emitter::emit_float(const Insn& insn) {
  const FloatOperation& operation = *operation_of(insn);
  if (!operation.packed) return emit_scalar_float(insn, operation);
  const u8 to = insn.operands[0].reg;
  push_vector(insn, insn.operands[1]);
  w.set(VECTOR);
  get_xmm(to);
  w.tee(VECTOR2);
  w.get(VECTOR);
  w.simd(Simd(operation.op));
  w.set(RESULT);
  leave_unless_harmless(operation);
  w.get(RESULT);
  set_xmm(to);
}

}  // namespace jit
