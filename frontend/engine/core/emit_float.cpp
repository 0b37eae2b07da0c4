/// Floating point of SSE in wasm's. Both follow IEEE 754, but wasm has no MXCSR and leaves the bits of a NaN open. So an operation is done
/// directly only when nothing but the inexact flag could be raised, which is raised already: MXCSR must be as it is after a program's first
/// inexact result, operands normal numbers or 0. Everything else the interpreter does. While MXCSR is otherwise, handlers do all.
#include "emitter.h"
#include "translated.h"

using namespace wasm;

namespace jit {

namespace {

u32 pointer(const void* to) { return u32(reinterpret_cast<uintptr_t>(to)); }

enum class FloatKind : u8 { Sum, Product, Quotient };
struct FloatOperation {
  Mnemonic mnemonic;
  FloatKind kind;
  bool wide;    // double
  bool packed;
  u16 op;       // SIMD's; a scalar operation computes all lanes and keeps the first
};
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

/// A normal result is right (if inexact, then that is noted already). So is a sum below the normal numbers, which is exact, and 0 times something.
void Emitter::emit_float(const Insn& insn) {
  const FloatOperation& operation = *operation_of(insn);
  const bool wide = operation.wide;
  const u8 to = insn.operands[0].reg;
  const Operand& from = insn.operands[1];
  if (from.kind == OperandKind::Memory && !operation.packed) {
    push_operand(insn, from);
    w.simd(I64X2_SPLAT);
  } else {
    push_vector(insn, from);
  }
  w.set(VECTOR);
  get_xmm(to);
  w.get(VECTOR);
  w.simd(Simd(operation.op));
  w.set(RESULT);

  get_xmm(to);
  w.set(VECTOR2);
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
    lanes_of(w, wide, infinity(wide));
    w.get(VECTOR3);
    w.simd(Simd(greater(wide)));
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
  w.constant32(0);
  w.memory(I32_LOAD, pointer(&the_cpu()) + u32(offsetof(Cpu, mxcsr)));
  w.constant32(kMxcsrSeen);
  w.op(I32_AND);
  w.constant32(kMasks | kInexact);
  w.op(I32_NE);
  w.op(I32_OR);
  leave_before_if();
  if (operation.packed) {
    w.get(RESULT);
  } else {
    get_xmm(to);
    w.get(RESULT);
    w.simd(wide ? I64X2_EXTRACT_LANE : I32X4_EXTRACT_LANE);
    w.byte(0);
    w.simd(wide ? I64X2_REPLACE_LANE : I32X4_REPLACE_LANE);
    w.byte(0);
  }
  set_xmm(to);
}

}  // namespace jit
