/// Moves to, from and between XMM and MMX registers.
#include "simd.h"

namespace {

Xmm& xmm(Cpu& cpu, const Operand& operand) { return cpu.xmm[operand.reg]; }

bool vector_rr(Cpu& cpu, const Insn& insn) {
  xmm(cpu, insn.operands[0]) = xmm(cpu, insn.operands[1]);
  return true;
}
bool vector_load(Cpu& cpu, const Insn& insn) { return fetch_vector(cpu, insn, xmm(cpu, insn.operands[0])); }
bool vector_load_aligned(Cpu& cpu, const Insn& insn) { return fetch_aligned(cpu, insn, xmm(cpu, insn.operands[0])); }
bool vector_store(Cpu& cpu, const Insn& insn) { return put(effective_address(cpu, insn), xmm(cpu, insn.operands[1])); }
bool vector_store_aligned(Cpu& cpu, const Insn& insn) {
  const u64 address = effective_address(cpu, insn);
  if (UNLIKELY(address & 15)) return raise(cpu, EXIT_GENERAL_PROTECTION);
  return put(address, xmm(cpu, insn.operands[1]));
}

Handler vector_move(const Insn& insn, bool aligned) {
  if (is_memory(insn.operands[0])) return aligned ? vector_store_aligned : vector_store;
  if (is_memory(insn.operands[1])) return aligned ? vector_load_aligned : vector_load;
  return vector_rr;
}

/// The low part of a register: merged between registers (movss, movsd), zero-extended from memory and for movq and movd.
template <class T>
bool merge_low(Cpu& cpu, const Insn& insn) {
  poke<T>(&xmm(cpu, insn.operands[0]), peek<T>(&xmm(cpu, insn.operands[1])));
  return true;
}
template <class T>
bool load_low(Cpu& cpu, const Insn& insn) {
  T value;
  if (!fetch(effective_address(cpu, insn), value)) return false;
  Xmm& into = xmm(cpu, insn.operands[0]);
  into.q[0] = value;
  into.q[1] = 0;
  return true;
}
template <class T>
bool store_low(Cpu& cpu, const Insn& insn) {
  return put(effective_address(cpu, insn), peek<T>(&xmm(cpu, insn.operands[1])));
}
template <class T>
bool extend_low(Cpu& cpu, const Insn& insn) {
  Xmm& into = xmm(cpu, insn.operands[0]);
  into.q[0] = peek<T>(&xmm(cpu, insn.operands[1]));
  into.q[1] = 0;
  return true;
}
template <class T>
bool from_gpr(Cpu& cpu, const Insn& insn) {
  Xmm& into = xmm(cpu, insn.operands[0]);
  into.q[0] = static_cast<T>(cpu.gpr[insn.operands[1].reg]);
  into.q[1] = 0;
  return true;
}
template <class T>
bool to_gpr(Cpu& cpu, const Insn& insn) {
  cpu.gpr[insn.operands[0].reg] = peek<T>(&xmm(cpu, insn.operands[1]));
  return true;
}
template <class T>
Handler scalar_move(const Insn& insn) {
  if (is_memory(insn.operands[0])) return store_low<T>;
  return is_memory(insn.operands[1]) ? load_low<T> : merge_low<T>;
}

/// Eight bytes between memory or a half of a register and half `into` of a register; the other half stays.
template <u32 into, u32 from>
bool half_move(Cpu& cpu, const Insn& insn) {
  Xmm& target = xmm(cpu, insn.operands[0]);
  if (is_memory(insn.operands[1])) return fetch(effective_address(cpu, insn), target.q[into]);
  target.q[into] = xmm(cpu, insn.operands[1]).q[from];
  return true;
}
bool store_high(Cpu& cpu, const Insn& insn) { return put(effective_address(cpu, insn), xmm(cpu, insn.operands[1]).q[1]); }

bool movddup(Cpu& cpu, const Insn& insn) {
  u64 value;
  if (!scalar_source(cpu, insn, value)) return false;
  Xmm& into = xmm(cpu, insn.operands[0]);
  into.q[0] = into.q[1] = value;
  return true;
}
template <u32 odd>
bool duplicate_singles(Cpu& cpu, const Insn& insn) {
  Xmm from;
  if (!packed_source(cpu, insn, from)) return false;
  Xmm& into = xmm(cpu, insn.operands[0]);
  into.d[0] = into.d[1] = from.d[odd];
  into.d[2] = into.d[3] = from.d[2 + odd];
  return true;
}

template <u32 size>  // bytes of a lane
bool move_mask(Cpu& cpu, const Insn& insn) {
  const Xmm& from = xmm(cpu, insn.operands[1]);
  u32 mask = 0;
  for (u32 i = 0; i < 16 / size; i++) mask |= static_cast<u32>(from.b[i * size + size - 1] >> 7) << i;
  cpu.gpr[insn.operands[0].reg] = mask;
  return true;
}

/// Bytes of `from` whose mask byte is negative go to rdi; all must be writable, as on AMD's processors.
bool store_masked(Cpu& cpu, const Insn& insn, const u8* from, const u8* mask, u32 count) {
  u64 address = cpu.gpr[7];
  if (insn.prefixes & PREFIX_ADDRESS32) address = static_cast<u32>(address);
  if (insn.prefixes & PREFIX_FS) address += cpu.fs_base;
  if (insn.prefixes & PREFIX_GS) address += cpu.gs_base;
  if (!can_store(cpu, address, count)) return false;
  for (u32 i = 0; i < count; i++)
    if (mask[i] & 0x80 && !put(address + i, from[i])) return false;
  return true;
}
bool maskmovdqu(Cpu& cpu, const Insn& insn) {
  return store_masked(cpu, insn, xmm(cpu, insn.operands[0]).b, xmm(cpu, insn.operands[1]).b, 16);
}

// MMX

u64& mmx(Cpu& cpu, const Operand& operand) { return cpu.st[operand.reg].significand; }

/// Between MMX registers, memory, general and XMM registers; T is what moves.
template <class T>
bool mmx_load(Cpu& cpu, const Insn& insn) {
  const Operand& source = insn.operands[1];
  T value;
  if (!no_pending_fpu_error(cpu)) return false;
  if (is_memory(source)) {
    if (!fetch(effective_address(cpu, insn), value)) return false;
  } else if (is_mmx(source)) {
    value = static_cast<T>(mmx(cpu, source));
  } else if (is_xmm(source)) {
    value = peek<T>(&xmm(cpu, source));
  } else {
    value = static_cast<T>(cpu.gpr[source.reg]);
  }
  enter_mmx(cpu);
  write_mmx(cpu, insn.operands[0].reg, value);
  return true;
}
template <class T>
bool mmx_store(Cpu& cpu, const Insn& insn) {
  const Operand& into = insn.operands[0];
  const T value = static_cast<T>(mmx(cpu, insn.operands[1]));
  if (!no_pending_fpu_error(cpu)) return false;
  if (is_memory(into)) {
    if (!put(effective_address(cpu, insn), value)) return false;
  } else if (is_xmm(into)) {
    xmm(cpu, into).q[0] = value;
    xmm(cpu, into).q[1] = 0;
  } else {
    cpu.gpr[into.reg] = value;
  }
  enter_mmx(cpu);
  return true;
}
bool mmx_move_mask(Cpu& cpu, const Insn& insn) {
  if (!no_pending_fpu_error(cpu)) return false;
  const u64 value = mmx(cpu, insn.operands[1]);
  u32 mask = 0;
  for (u32 i = 0; i < 8; i++) mask |= static_cast<u32>(value >> (8 * i + 7) & 1) << i;
  cpu.gpr[insn.operands[0].reg] = mask;
  enter_mmx(cpu);
  return true;
}
bool maskmovq(Cpu& cpu, const Insn& insn) {
  if (!no_pending_fpu_error(cpu)) return false;
  const u64 from = mmx(cpu, insn.operands[0]), mask = mmx(cpu, insn.operands[1]);
  if (!store_masked(cpu, insn, reinterpret_cast<const u8*>(&from), reinterpret_cast<const u8*>(&mask), 8)) return false;
  enter_mmx(cpu);
  return true;
}

/// movd and movq: T is their size.
template <class T>
Handler part_move(const Insn& insn) {
  const Operand &into = insn.operands[0], &from = insn.operands[1];
  if (is_mmx(into)) return mmx_load<T>;
  if (is_mmx(from)) return mmx_store<T>;
  if (is_memory(into)) return store_low<T>;
  if (is_memory(from)) return load_low<T>;
  if (from.kind == OperandKind::Gpr) return from_gpr<T>;
  return into.kind == OperandKind::Gpr ? to_gpr<T> : extend_low<T>;
}

}  // namespace

Handler move_handler(const Insn& insn) {
  const bool to_memory = insn.operand_count && is_memory(insn.operands[0]);
  switch (insn.mnemonic) {
    case Mnemonic::Movups:
    case Mnemonic::Movupd:
    case Mnemonic::Movdqu:
    case Mnemonic::Lddqu: return vector_move(insn, false);
    case Mnemonic::Movaps:
    case Mnemonic::Movapd:
    case Mnemonic::Movdqa:
    case Mnemonic::Movntps:
    case Mnemonic::Movntpd:
    case Mnemonic::Movntdq:
    case Mnemonic::Movntdqa: return vector_move(insn, true);
    case Mnemonic::Movss: return scalar_move<u32>(insn);
    case Mnemonic::Movsd: return scalar_move<u64>(insn);
    case Mnemonic::Movd: return part_move<u32>(insn);
    case Mnemonic::Movq:
    case Mnemonic::Movntq:
    case Mnemonic::Movq2dq:
    case Mnemonic::Movdq2q: return part_move<u64>(insn);
    case Mnemonic::Movlps:
    case Mnemonic::Movlpd:
      if (to_memory) return store_low<u64>;
      return half_move<0, 0>;
    case Mnemonic::Movhps:
    case Mnemonic::Movhpd:
      if (to_memory) return store_high;
      return half_move<1, 0>;
    case Mnemonic::Movhlps: return half_move<0, 1>;
    case Mnemonic::Movlhps: return half_move<1, 0>;
    case Mnemonic::Movddup: return movddup;
    case Mnemonic::Movsldup: return duplicate_singles<0>;
    case Mnemonic::Movshdup: return duplicate_singles<1>;
    case Mnemonic::Movmskps: return move_mask<4>;
    case Mnemonic::Movmskpd: return move_mask<8>;
    case Mnemonic::Pmovmskb: return is_mmx(insn.operands[1]) ? mmx_move_mask : move_mask<1>;
    case Mnemonic::Maskmovdqu: return maskmovdqu;
    case Mnemonic::Maskmovq: return maskmovq;
    default: return nullptr;
  }
}
