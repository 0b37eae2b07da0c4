#include "emitter.h"
#include "translated.h"

using namespace wasm;

namespace jit {

namespace {

/// dst = dst op src, both whole registers (or 16 bytes of memory), with wasm's instruction of the same meaning.
struct Pairwise {
  Mnemonic mnemonic;
  u16 op;
};
constexpr Pairwise kPairwise[] = {
    {Mnemonic::Pxor, V128_XOR},    {Mnemonic::Xorps, V128_XOR},  {Mnemonic::Xorpd, V128_XOR},  {Mnemonic::Por, V128_OR},
    {Mnemonic::Orps, V128_OR},     {Mnemonic::Orpd, V128_OR},    {Mnemonic::Pand, V128_AND},   {Mnemonic::Andps, V128_AND},
    {Mnemonic::Andpd, V128_AND},   {Mnemonic::Paddb, 110},       {Mnemonic::Paddw, 142},       {Mnemonic::Paddd, 174},
    {Mnemonic::Paddq, 206},        {Mnemonic::Psubb, 113},       {Mnemonic::Psubw, 145},       {Mnemonic::Psubd, 177},
    {Mnemonic::Psubq, 209},        {Mnemonic::Paddsb, 111},      {Mnemonic::Paddusb, 112},     {Mnemonic::Psubsb, 114},
    {Mnemonic::Psubusb, 115},      {Mnemonic::Paddsw, 143},      {Mnemonic::Paddusw, 144},     {Mnemonic::Psubsw, 146},
    {Mnemonic::Psubusw, 147},      {Mnemonic::Pcmpeqb, 35},      {Mnemonic::Pcmpeqw, 45},      {Mnemonic::Pcmpeqd, 55},
    {Mnemonic::Pcmpgtb, 39},       {Mnemonic::Pcmpgtw, 49},      {Mnemonic::Pcmpgtd, 59},      {Mnemonic::Pminub, 119},
    {Mnemonic::Pmaxub, 121},       {Mnemonic::Pminsw, 150},      {Mnemonic::Pmaxsw, 152},      {Mnemonic::Pmullw, 149},
    {Mnemonic::Pavgb, 123},        {Mnemonic::Pavgw, 155},       {Mnemonic::Packsswb, 101},    {Mnemonic::Packuswb, 102},
    {Mnemonic::Packssdw, 133},     {Mnemonic::Packusdw, 134},    {Mnemonic::Pmaddwd, 186},     {Mnemonic::Pmulld, 181},
    {Mnemonic::Pcmpeqq, 214},      {Mnemonic::Pcmpgtq, 217},     {Mnemonic::Pminsb, 118},      {Mnemonic::Pmaxsb, 120},
    {Mnemonic::Pminuw, 151},       {Mnemonic::Pmaxuw, 153},      {Mnemonic::Pminsd, 182},      {Mnemonic::Pminud, 183},
    {Mnemonic::Pmaxsd, 184},       {Mnemonic::Pmaxud, 185},
};

/// Interleavings: elements of `size` bytes of both registers' lower or upper halves.
struct Interleaving {
  Mnemonic mnemonic;
  u8 size;
  bool high;
};
constexpr Interleaving kInterleavings[] = {
    {Mnemonic::Punpcklbw, 1, false},  {Mnemonic::Punpcklwd, 2, false}, {Mnemonic::Punpckldq, 4, false}, {Mnemonic::Punpcklqdq, 8, false},
    {Mnemonic::Punpckhbw, 1, true},   {Mnemonic::Punpckhwd, 2, true},  {Mnemonic::Punpckhdq, 4, true},  {Mnemonic::Punpckhqdq, 8, true},
    {Mnemonic::Unpcklps, 4, false},   {Mnemonic::Unpcklpd, 8, false},  {Mnemonic::Unpckhps, 4, true},   {Mnemonic::Unpckhpd, 8, true},
};

/// Shifts of all elements by an immediate.
struct Shift {
  Mnemonic mnemonic;
  u16 op;
  u8 bits;
  bool arithmetic;
};
constexpr Shift kShifts[] = {
    {Mnemonic::Psllw, 139, 16, false}, {Mnemonic::Pslld, 171, 32, false}, {Mnemonic::Psllq, 203, 64, false}, {Mnemonic::Psrlw, 141, 16, false},
    {Mnemonic::Psrld, 173, 32, false}, {Mnemonic::Psrlq, 205, 64, false}, {Mnemonic::Psraw, 140, 16, true},  {Mnemonic::Psrad, 172, 32, true},
};

template <class Row, u32 count>
const Row* row_of(const Row (&rows)[count], Mnemonic mnemonic) {
  for (const Row& row : rows) {
    if (row.mnemonic == mnemonic) return &row;
  }
  return nullptr;
}

bool is_xmm(const Operand& operand) { return operand.kind == OperandKind::Xmm; }
bool is_memory(const Operand& operand) { return operand.kind == OperandKind::Memory; }

bool moves_whole(Mnemonic mnemonic) {
  switch (mnemonic) {
    case Mnemonic::Movaps:
    case Mnemonic::Movapd:
    case Mnemonic::Movups:
    case Mnemonic::Movupd:
    case Mnemonic::Movdqa:
    case Mnemonic::Movdqu:
    case Mnemonic::Lddqu:
      return true;
    default:
      return false;
  }
}

bool moves_part(Mnemonic mnemonic) {
  return mnemonic == Mnemonic::Movss || mnemonic == Mnemonic::Movd || mnemonic == Mnemonic::Movq;
}

}  // namespace

bool is_translated_sse(const Insn& insn) {
  if (insn.operand_count < 2) return false;
  const Operand& to = insn.operands[0];
  const Operand& from = insn.operands[1];
  const bool wide = is_xmm(to) || is_xmm(from);
  if (!wide || to.kind == OperandKind::Mmx || from.kind == OperandKind::Mmx) return false;
  if (moves_whole(insn.mnemonic) || moves_part(insn.mnemonic) || insn.mnemonic == Mnemonic::Movsd || is_float_operation(insn) || is_float_conversion(insn)) return true;
  if (is_shuffle(insn)) return true;
  if (insn.mnemonic == Mnemonic::Pmovmskb || insn.mnemonic == Mnemonic::Pshufd || insn.mnemonic == Mnemonic::Pandn) return true;
  if (row_of(kPairwise, insn.mnemonic) || row_of(kInterleavings, insn.mnemonic)) return true;
  if (from.kind != OperandKind::Immediate) return false;
  return row_of(kShifts, insn.mnemonic) || insn.mnemonic == Mnemonic::Pslldq || insn.mnemonic == Mnemonic::Psrldq;
}

void Emitter::get_xmm(u8 number) {
  used_xmm_ |= 1u << number;
  if (apart_ >> number & 1) join_lane(number);
  apart_ &= ~(1u << number);
  w.get(XMM + number);
}

void Emitter::set_xmm(u8 number) {
  used_xmm_ |= 1u << number;
  written_xmm_ |= 1u << number;
  apart_ &= ~(1u << number);
  tame_ &= ~(1u << number);
  w.set(XMM + number);
}

void Emitter::push_vector(const Insn& insn, const Operand& operand) {
  if (is_xmm(operand)) return get_xmm(operand.reg);
  find_address(insn);
  leave_unless_direct(16, PAGE_READ, form_aligned(insn.form));
  push_address();
  w.memory(V128_LOAD, kGuestBase);
}

void Emitter::pop_vector(const Insn& insn, const Operand& operand) {
  if (is_xmm(operand)) return set_xmm(operand.reg);
  w.set(VECTOR);
  find_address(insn);
  leave_unless_direct(16, PAGE_WRITE, form_aligned(insn.form));
  push_address();
  w.get(VECTOR);
  w.memory(V128_STORE, kGuestBase);
}

void Emitter::push_zero_vector() {
  w.simd(V128_CONST);
  for (u32 i = 0; i < 16; ++i) w.byte(0);
}

/// Between memory and the first lane of a register, the rest of which becomes zero, or between two of those, where it stays.
void Emitter::move_double(const Insn& insn) {
  const Operand& to = insn.operands[0];
  const Operand& from = insn.operands[1];
  if (is_memory(to)) {
    find_address(insn);
    leave_unless_direct(8, PAGE_WRITE);
    push_address();
    push_double(from.reg);
    return w.memory(F64_STORE, kGuestBase);
  }
  push_scalar(insn, from, true);
  if (!is_memory(from)) return set_double(to.reg);
  const bool tame = is_calculated_with(to.reg);
  w.set(DOUBLE_A);
  if (tame) leave_if_loaded_denormal(DOUBLE_A, true);
  w.get(ZERO);
  set_xmm(to.reg);
  w.get(DOUBLE_A);
  set_double(to.reg);
  if (tame) tame_ |= 1u << to.reg;
}

/// Whether an operation of this block has the register's first double as it is now for an operand.
bool Emitter::is_calculated_with(u8 number) const {
  const RegionBlock& block = region_.blocks[block_];
  const auto is_it = [&](const Operand& operand) { return is_xmm(operand) && operand.reg == number; };
  for (u32 i = index_ + 1; i < u32(block.first + block.count); ++i) {
    const Insn& insn = region_.instructions[i];
    if (insn.operand_count < 2) continue;
    const bool is_target = is_it(insn.operands[0]);
    if (is_float_operation(insn)) {
      if (is_target || is_it(insn.operands[1])) return true;
    } else if (is_target) {
      return false;
    }
  }
  return false;
}

/// A part of 4 or 8 bytes between registers and memory. From memory (and movd, movq from a register) the rest becomes zero;
/// between two XMM registers movss keeps it, movq clears it.
void Emitter::emit_part_move(const Insn& insn) {
  const Operand& to = insn.operands[0];
  const Operand& from = insn.operands[1];
  const bool scalar = insn.mnemonic == Mnemonic::Movss;
  const u32 size = insn.mnemonic == Mnemonic::Movss ? 4 : insn.mnemonic == Mnemonic::Movd ? is_xmm(to) ? from.size : to.size : 8;
  auto lane = [&](u16 op) {
    w.simd(Simd(op));
    w.byte(0);
  };
  if (is_xmm(to) && is_memory(from)) {
    find_address(insn);
    leave_unless_direct(size, PAGE_READ);
    push_address();
    w.memory(size == 4 ? V128_LOAD32_ZERO : V128_LOAD64_ZERO, kGuestBase);
    return set_xmm(to.reg);
  }
  if (is_xmm(to)) {
    if (scalar && is_xmm(from)) {
      get_xmm(to.reg);
    } else {
      push_zero_vector();
    }
    if (is_xmm(from)) {
      get_xmm(from.reg);
      lane(size == 4 ? I32X4_EXTRACT_LANE : I64X2_EXTRACT_LANE);
    } else {
      push_operand(insn, from);
      if (size == 4) w.op(I32_WRAP_I64);
    }
    lane(size == 4 ? I32X4_REPLACE_LANE : I64X2_REPLACE_LANE);
    return set_xmm(to.reg);
  }
  if (is_memory(to)) find_address(insn);
  get_xmm(from.reg);
  lane(size == 4 ? I32X4_EXTRACT_LANE : I64X2_EXTRACT_LANE);
  if (size == 4) w.op(I64_EXTEND_I32_U);
  pop_operand(to);
}

void Emitter::shuffle(const u8* lanes) {
  w.simd(I8X16_SHUFFLE);
  w.raw(lanes, 16);
}

bool Emitter::emit_sse(const Insn& insn) {
  if (!is_translated_sse(insn)) return false;
  const Operand& to = insn.operands[0];
  const Operand& from = insn.operands[1];
  u8 lanes[16];
  if (is_float_operation(insn)) {
    emit_float(insn);
  } else if (is_float_conversion(insn)) {
    emit_conversion(insn);
  } else if (is_shuffle(insn)) {
    emit_shuffle(insn);
  } else if (moves_whole(insn.mnemonic)) {
    push_vector(insn, from);
    pop_vector(insn, to);
  } else if (insn.mnemonic == Mnemonic::Movsd) {
    move_double(insn);
  } else if (moves_part(insn.mnemonic)) {
    emit_part_move(insn);
  } else if (insn.mnemonic == Mnemonic::Pmovmskb) {
    get_xmm(from.reg);
    w.simd(I8X16_BITMASK);
    w.op(I64_EXTEND_I32_U);
    set_register(to.reg);
  } else if (insn.mnemonic == Mnemonic::Pandn) {
    push_vector(insn, from);
    get_xmm(to.reg);
    w.simd(V128_ANDNOT);
    set_xmm(to.reg);
  } else if (insn.mnemonic == Mnemonic::Pshufd) {
    push_vector(insn, from);
    w.tee(VECTOR);
    w.get(VECTOR);
    for (u32 i = 0; i < 16; ++i) lanes[i] = u8((insn.immediate >> (i / 4 * 2) & 3) * 4 + i % 4);
    shuffle(lanes);
    set_xmm(to.reg);
  } else if (const Pairwise* pair = row_of(kPairwise, insn.mnemonic)) {
    push_vector(insn, from);
    w.set(VECTOR);
    get_xmm(to.reg);
    w.get(VECTOR);
    w.simd(Simd(pair->op));
    set_xmm(to.reg);
  } else if (const Interleaving* mix = row_of(kInterleavings, insn.mnemonic)) {
    push_vector(insn, from);
    w.set(VECTOR);
    get_xmm(to.reg);
    w.get(VECTOR);
    for (u32 i = 0; i < 16; ++i) {
      const u32 element = i / mix->size;
      const u32 byte = element / 2 * mix->size + i % mix->size + (mix->high ? 8 : 0);
      lanes[i] = u8(byte + (element & 1 ? 16 : 0));
    }
    shuffle(lanes);
    set_xmm(to.reg);
  } else if (const Shift* shift = row_of(kShifts, insn.mnemonic)) {
    u32 count = u32(insn.immediate & 0xff);
    if (count >= shift->bits && !shift->arithmetic) {
      push_zero_vector();
    } else {
      if (count >= shift->bits) count = shift->bits - 1u;
      get_xmm(to.reg);
      w.constant32(count);
      w.simd(Simd(shift->op));
    }
    set_xmm(to.reg);
  } else {
    const u32 count = insn.immediate & 0xff;
    const bool left = insn.mnemonic == Mnemonic::Pslldq;
    get_xmm(to.reg);
    push_zero_vector();
    for (u32 i = 0; i < 16; ++i) {
      const u32 source = left ? i - count : i + count;
      lanes[i] = u8(source < 16 ? source : 16);
    }
    shuffle(lanes);
    set_xmm(to.reg);
  }
  return true;
}

}  // namespace jit
