/// Packed data in another order: unpack, pack, shuffle, insert, extract, blend, widen.
#include "packed.h"

namespace {

/// Lanes of both operands in turn, from `a`'s and `b`'s low or high half.
#define INTERLEAVE(name, lane, high)                                          \
  struct name {                                                               \
    template <u32 bytes>                                                      \
    static ALWAYS_INLINE void apply(Xmm& a, const Xmm& b) {                   \
      constexpr u32 half = bytes / sizeof(a.lane[0]) / 2;                     \
      const Xmm first = a;                                                    \
      for (u32 i = 0; i < half; i++) {                                        \
        a.lane[2 * i] = first.lane[i + (high ? half : 0)];                    \
        a.lane[2 * i + 1] = b.lane[i + (high ? half : 0)];                    \
      }                                                                       \
    }                                                                         \
  };
INTERLEAVE(Punpcklbw, b, false) INTERLEAVE(Punpcklwd, w, false) INTERLEAVE(Punpckldq, d, false)
INTERLEAVE(Punpcklqdq, q, false) INTERLEAVE(Punpckhbw, b, true) INTERLEAVE(Punpckhwd, w, true)
INTERLEAVE(Punpckhdq, d, true) INTERLEAVE(Punpckhqdq, q, true)
#undef INTERLEAVE

/// Lanes of `a`, then of `b`, saturated to half the size.
#define PACK(name, from, into, type, low, high)                                              \
  struct name {                                                                              \
    template <u32 bytes>                                                                     \
    static ALWAYS_INLINE void apply(Xmm& a, const Xmm& b) {                                  \
      constexpr u32 count = bytes / sizeof(a.from[0]);                                       \
      const Xmm first = a;                                                                   \
      for (u32 i = 0; i < count; i++) a.into[i] = clamp<type>(first.from[i], low, high);     \
      for (u32 i = 0; i < count; i++) a.into[count + i] = clamp<type>(b.from[i], low, high); \
    }                                                                                        \
  };
PACK(Packsswb, sw, sb, i8, -128, 127) PACK(Packuswb, sw, b, u8, 0, 255)
PACK(Packssdw, sd, sw, i16, -32768, 32767) PACK(Packusdw, sd, w, u16, 0, 65535)
#undef PACK

struct Pshufb {
  template <u32 bytes>
  static ALWAYS_INLINE void apply(Xmm& a, const Xmm& b) {
    const Xmm from = a;
    for (u32 i = 0; i < bytes; i++) a.b[i] = b.b[i] & 0x80 ? 0 : from.b[b.b[i] & (bytes - 1)];
  }
};

#define WITH_IMMEDIATE(name, ...)                                                     \
  struct name {                                                                       \
    template <u32 bytes>                                                              \
    static ALWAYS_INLINE void apply(Xmm& a, const Xmm& b, u32 immediate) {            \
      __VA_ARGS__                                                                     \
    }                                                                                 \
  };
WITH_IMMEDIATE(Pshufd, for (u32 i = 0; i < 4; i++) a.d[i] = b.d[immediate >> 2 * i & 3];)
WITH_IMMEDIATE(Pshuflw, a.q[1] = b.q[1]; for (u32 i = 0; i < 4; i++) a.w[i] = b.w[immediate >> 2 * i & 3];)
WITH_IMMEDIATE(Pshufhw, a.q[0] = b.q[0]; for (u32 i = 0; i < 4; i++) a.w[4 + i] = b.w[4 + (immediate >> 2 * i & 3)];)
WITH_IMMEDIATE(Pshufw, for (u32 i = 0; i < 4; i++) a.w[i] = b.w[immediate >> 2 * i & 3];)
WITH_IMMEDIATE(Shufps, const Xmm first = a; for (u32 i = 0; i < 4; i++) {
  a.d[i] = (i < 2 ? first : b).d[immediate >> 2 * i & 3];
})
WITH_IMMEDIATE(Shufpd, a.q[0] = a.q[immediate & 1]; a.q[1] = b.q[immediate >> 1 & 1];)
WITH_IMMEDIATE(Palignr, u8 wide[64] = {}; __builtin_memcpy(wide, &b, bytes); __builtin_memcpy(wide + bytes, &a, bytes);
               __builtin_memcpy(&a, wide + (immediate < 2 * bytes ? immediate : 2 * bytes), bytes);)
WITH_IMMEDIATE(Blendps, for (u32 i = 0; i < 4; i++) a.d[i] = immediate >> i & 1 ? b.d[i] : a.d[i];)
WITH_IMMEDIATE(Blendpd, for (u32 i = 0; i < 2; i++) a.q[i] = immediate >> i & 1 ? b.q[i] : a.q[i];)
WITH_IMMEDIATE(Pblendw, for (u32 i = 0; i < 8; i++) a.w[i] = immediate >> i & 1 ? b.w[i] : a.w[i];)
#undef WITH_IMMEDIATE

/// The lanes of `b` where the top bit of xmm0's lane is set.
#define BLEND(name, lane, top)                                                                   \
  bool name(Cpu& cpu, const Insn& insn) {                                                        \
    Xmm b;                                                                                       \
    if (!packed_source(cpu, insn, b)) return false;                                              \
    Xmm& a = cpu.xmm[insn.operands[0].reg];                                                      \
    const Xmm mask = cpu.xmm[0];                                                                 \
    for (u32 i = 0; i < 16 / sizeof(a.lane[0]); i++) a.lane[i] = mask.lane[i] < 0 ? b.lane[i] : a.lane[i]; \
    return true;                                                                                 \
  }
BLEND(pblendvb, sb, 7) BLEND(blendvps, sd, 31) BLEND(blendvpd, sq, 63)
#undef BLEND

/// Low lanes extended to bigger ones.
template <class From, class Into>
bool widen(Cpu& cpu, const Insn& insn) {
  constexpr u32 count = 16 / sizeof(Into);
  From from[count];
  struct Packed {
    From lanes[count];
  } value;
  if (!scalar_source(cpu, insn, value)) return false;
  __builtin_memcpy(from, &value, sizeof from);
  Into into[count];
  for (u32 i = 0; i < count; i++) into[i] = from[i];
  __builtin_memcpy(&cpu.xmm[insn.operands[0].reg], into, 16);
  return true;
}

/// A lane from a general register or memory. T: the lane.
template <class T>
bool insert(Cpu& cpu, const Insn& insn) {
  T value;
  if (is_memory(insn.operands[1])) {
    if (!fetch(effective_address(cpu, insn), value)) return false;
  } else {
    value = static_cast<T>(cpu.gpr[insn.operands[1].reg]);
  }
  const u32 lane = insn.immediate & (16 / sizeof(T) - 1);
  poke<T>(cpu.xmm[insn.operands[0].reg].b + lane * sizeof(T), value);
  return true;
}
bool insert_mmx(Cpu& cpu, const Insn& insn) {
  if (!no_pending_fpu_error(cpu)) return false;
  u16 value = static_cast<u16>(cpu.gpr[insn.operands[1].reg]);
  if (is_memory(insn.operands[1]) && !fetch(effective_address(cpu, insn), value)) return false;
  const u32 shift = 16 * (insn.immediate & 3);
  const u64 old = cpu.st[insn.operands[0].reg].significand;
  enter_mmx(cpu);
  write_mmx(cpu, insn.operands[0].reg, (old & ~(u64{0xffff} << shift)) | u64{value} << shift);
  return true;
}

template <class T>
bool extract(Cpu& cpu, const Insn& insn) {
  const u32 lane = insn.immediate & (16 / sizeof(T) - 1);
  const T value = peek<T>(cpu.xmm[insn.operands[1].reg].b + lane * sizeof(T));
  if (is_memory(insn.operands[0])) return put(effective_address(cpu, insn), value);
  cpu.gpr[insn.operands[0].reg] = value;
  return true;
}
bool extract_mmx(Cpu& cpu, const Insn& insn) {
  if (!no_pending_fpu_error(cpu)) return false;
  cpu.gpr[insn.operands[0].reg] = cpu.st[insn.operands[1].reg].significand >> 16 * (insn.immediate & 3) & 0xffff;
  enter_mmx(cpu);
  return true;
}

/// A single from memory or a lane of the source, to a lane; then lanes of the mask are zeroed.
bool insertps(Cpu& cpu, const Insn& insn) {
  const u32 control = static_cast<u32>(insn.immediate);
  u32 value;
  if (is_memory(insn.operands[1])) {
    if (!fetch(effective_address(cpu, insn), value)) return false;
  } else {
    value = cpu.xmm[insn.operands[1].reg].d[control >> 6 & 3];
  }
  Xmm& a = cpu.xmm[insn.operands[0].reg];
  a.d[control >> 4 & 3] = value;
  for (u32 i = 0; i < 4; i++)
    if (control >> i & 1) a.d[i] = 0;
  return true;
}

}  // namespace

Handler shuffle_handler(const Insn& insn) {
  switch (insn.mnemonic) {
#define X(name) \
  case Mnemonic::name: return packed<name>(insn);
    X(Punpcklbw) X(Punpcklwd) X(Punpckldq) X(Punpcklqdq) X(Punpckhbw) X(Punpckhwd) X(Punpckhdq) X(Punpckhqdq)
    X(Packsswb) X(Packuswb) X(Packssdw) X(Packusdw) X(Pshufb)
#undef X
    case Mnemonic::Unpcklps: return packed<Punpckldq>(insn);
    case Mnemonic::Unpckhps: return packed<Punpckhdq>(insn);
    case Mnemonic::Unpcklpd: return packed<Punpcklqdq>(insn);
    case Mnemonic::Unpckhpd: return packed<Punpckhqdq>(insn);
#define X(name) \
  case Mnemonic::name: return packed_immediate<name>(insn);
    X(Pshufd) X(Pshuflw) X(Pshufhw) X(Pshufw) X(Shufps) X(Shufpd) X(Palignr) X(Blendps) X(Blendpd) X(Pblendw)
#undef X
    case Mnemonic::Pblendvb: return pblendvb;
    case Mnemonic::Blendvps: return blendvps;
    case Mnemonic::Blendvpd: return blendvpd;
    case Mnemonic::Pmovsxbw: return widen<i8, i16>;
    case Mnemonic::Pmovsxbd: return widen<i8, i32>;
    case Mnemonic::Pmovsxbq: return widen<i8, i64>;
    case Mnemonic::Pmovsxwd: return widen<i16, i32>;
    case Mnemonic::Pmovsxwq: return widen<i16, i64>;
    case Mnemonic::Pmovsxdq: return widen<i32, i64>;
    case Mnemonic::Pmovzxbw: return widen<u8, u16>;
    case Mnemonic::Pmovzxbd: return widen<u8, u32>;
    case Mnemonic::Pmovzxbq: return widen<u8, u64>;
    case Mnemonic::Pmovzxwd: return widen<u16, u32>;
    case Mnemonic::Pmovzxwq: return widen<u16, u64>;
    case Mnemonic::Pmovzxdq: return widen<u32, u64>;
    case Mnemonic::Pinsrb: return insert<u8>;
    case Mnemonic::Pinsrw: return is_mmx(insn.operands[0]) ? insert_mmx : insert<u16>;
    case Mnemonic::Pinsrd: return insert<u32>;
    case Mnemonic::Pinsrq: return insert<u64>;
    case Mnemonic::Pextrb: return extract<u8>;
    case Mnemonic::Pextrw: return is_mmx(insn.operands[1]) ? extract_mmx : extract<u16>;
    case Mnemonic::Pextrd:
    case Mnemonic::Extractps: return extract<u32>;
    case Mnemonic::Pextrq: return extract<u64>;
    case Mnemonic::Insertps: return insertps;
    default: return nullptr;
  }
}
