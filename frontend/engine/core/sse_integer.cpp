/// Packed integer arithmetic, lane by lane: MMX, SSE2, SSSE3 and SSE4 (XMM and MMX forms).
#include "packed.h"

namespace {

/// One lane from the same lanes `x` and `y` of both operands.
#define EACH(name, lane, expression)                                   \
  struct name {                                                        \
    template <u32 bytes>                                               \
    static ALWAYS_INLINE void apply(Xmm& a, const Xmm& b) {            \
      for (u32 i = 0; i < bytes / sizeof(a.lane[0]); i++) {            \
        const auto x = a.lane[i];                                      \
        const auto y = b.lane[i];                                      \
        static_cast<void>(x);                                          \
        using T = __typeof__(a.lane[0] + 0);                           \
        using Lane = __typeof__(a.lane[0]);                   \
        a.lane[i] = static_cast<Lane>(static_cast<T>(expression));     \
      }                                                                \
    }                                                                  \
  };

EACH(Paddb, b, x + y) EACH(Paddw, w, x + y) EACH(Paddd, d, x + y) EACH(Paddq, q, x + y)
EACH(Psubb, b, x - y) EACH(Psubw, w, x - y) EACH(Psubd, d, x - y) EACH(Psubq, q, x - y)
EACH(Paddsb, sb, clamp<i8>(x + y, -128, 127)) EACH(Paddsw, sw, clamp<i16>(x + y, -32768, 32767))
EACH(Psubsb, sb, clamp<i8>(x - y, -128, 127)) EACH(Psubsw, sw, clamp<i16>(x - y, -32768, 32767))
EACH(Paddusb, b, clamp<u8>(x + y, 0, 255)) EACH(Paddusw, w, clamp<u16>(x + y, 0, 65535))
EACH(Psubusb, b, clamp<u8>(x - y, 0, 255)) EACH(Psubusw, w, clamp<u16>(x - y, 0, 65535))
EACH(And, q, x & y) EACH(Andn, q, ~x & y) EACH(Or, q, x | y) EACH(Xor, q, x ^ y)
EACH(Pcmpeqb, b, x == y ? 0xff : 0) EACH(Pcmpeqw, w, x == y ? 0xffff : 0) EACH(Pcmpeqd, d, x == y ? ~0u : 0)
EACH(Pcmpeqq, q, x == y ? ~u64{0} : 0)
EACH(Pcmpgtb, sb, x > y ? -1 : 0) EACH(Pcmpgtw, sw, x > y ? -1 : 0) EACH(Pcmpgtd, sd, x > y ? -1 : 0)
EACH(Pcmpgtq, sq, x > y ? -1 : 0)
EACH(Pminub, b, x < y ? x : y) EACH(Pminuw, w, x < y ? x : y) EACH(Pminud, d, x < y ? x : y)
EACH(Pminsb, sb, x < y ? x : y) EACH(Pminsw, sw, x < y ? x : y) EACH(Pminsd, sd, x < y ? x : y)
EACH(Pmaxub, b, x > y ? x : y) EACH(Pmaxuw, w, x > y ? x : y) EACH(Pmaxud, d, x > y ? x : y)
EACH(Pmaxsb, sb, x > y ? x : y) EACH(Pmaxsw, sw, x > y ? x : y) EACH(Pmaxsd, sd, x > y ? x : y)
EACH(Pavgb, b, (x + y + 1) >> 1) EACH(Pavgw, w, (x + y + 1) >> 1)
EACH(Pmullw, sw, x * y) EACH(Pmulhw, sw, (x * y) >> 16) EACH(Pmulhuw, w, (static_cast<u32>(x) * y) >> 16)
EACH(Pmulld, d, x * y)
EACH(Pmulhrsw, sw, (((x * y) >> 14) + 1) >> 1)
EACH(Pmuludq, q, (x & 0xffffffff) * (y & 0xffffffff))
EACH(Pmuldq, sq, static_cast<i64>(static_cast<i32>(x)) * static_cast<i32>(y))
EACH(Pabsb, sb, y < 0 ? -y : y) EACH(Pabsw, sw, y < 0 ? -y : y)
EACH(Pabsd, d, static_cast<i32>(y) < 0 ? 0 - y : y)
EACH(Psignb, sb, y < 0 ? -x : y == 0 ? 0 : x) EACH(Psignw, sw, y < 0 ? -x : y == 0 ? 0 : x)
EACH(Psignd, d, static_cast<i32>(y) < 0 ? 0 - x : y == 0 ? 0 : x)
#undef EACH

/// Lane i from the pair of lanes 2i and 2i + 1, first of `a` and then of `b`.
#define PAIRS(name, lane, expression)                                      \
  struct name {                                                            \
    template <u32 bytes>                                                   \
    static ALWAYS_INLINE void apply(Xmm& a, const Xmm& b) {                \
      constexpr u32 half = bytes / sizeof(a.lane[0]) / 2;                  \
      const Xmm first = a;                                                 \
      for (u32 i = 0; i < 2 * half; i++) {                                 \
        const Xmm& from = i < half ? first : b;                            \
        const auto x = from.lane[2 * (i % half)];                          \
        const auto y = from.lane[2 * (i % half) + 1];                      \
        using Lane = __typeof__(a.lane[0]);                       \
        a.lane[i] = static_cast<Lane>(expression);                         \
      }                                                                    \
    }                                                                      \
  };
PAIRS(Phaddw, w, x + y) PAIRS(Phaddd, d, x + y) PAIRS(Phaddsw, sw, clamp<i16>(x + y, -32768, 32767))
PAIRS(Phsubw, w, x - y) PAIRS(Phsubd, d, x - y) PAIRS(Phsubsw, sw, clamp<i16>(x - y, -32768, 32767))
#undef PAIRS

struct Pmaddwd {
  template <u32 bytes>
  static ALWAYS_INLINE void apply(Xmm& a, const Xmm& b) {
    for (u32 i = 0; i < bytes / 4; i++) {
      const u32 low = static_cast<u32>(a.sw[2 * i] * b.sw[2 * i]);
      a.d[i] = low + static_cast<u32>(a.sw[2 * i + 1] * b.sw[2 * i + 1]);
    }
  }
};
struct Pmaddubsw {
  template <u32 bytes>
  static ALWAYS_INLINE void apply(Xmm& a, const Xmm& b) {
    for (u32 i = 0; i < bytes / 2; i++)
      a.sw[i] = clamp<i16>(a.b[2 * i] * b.sb[2 * i] + a.b[2 * i + 1] * b.sb[2 * i + 1], -32768, 32767);
  }
};
struct Psadbw {
  template <u32 bytes>
  static ALWAYS_INLINE void apply(Xmm& a, const Xmm& b) {
    for (u32 half = 0; half < bytes / 8; half++) {
      u32 sum = 0;
      for (u32 i = 8 * half; i < 8 * half + 8; i++) sum += static_cast<u32>(a.b[i] > b.b[i] ? a.b[i] - b.b[i] : b.b[i] - a.b[i]);
      a.q[half] = sum;
    }
  }
};

/// Shifts: the count is the second operand's low 8 bytes, or the immediate; too many bits give 0, or copies of the sign.
#define SHIFT(name, lane, expression, most)                                        \
  struct name {                                                                    \
    template <u32 bytes>                                                           \
    static ALWAYS_INLINE void apply(Xmm& a, const Xmm& b) {                        \
      constexpr u32 bits = 8 * sizeof(a.lane[0]);                                  \
      const bool all = b.q[0] >= bits;                                             \
      const u32 count = all ? bits - 1 : static_cast<u32>(b.q[0]);                 \
      for (u32 i = 0; i < bytes / sizeof(a.lane[0]); i++) {                        \
        const auto x = a.lane[i];                                                  \
        using Lane = __typeof__(a.lane[0]);                               \
        a.lane[i] = all && most ? Lane{0} : static_cast<Lane>(expression);         \
      }                                                                            \
    }                                                                              \
  };
SHIFT(Psllw, w, x << count, true) SHIFT(Pslld, d, x << count, true) SHIFT(Psllq, q, x << count, true)
SHIFT(Psrlw, w, x >> count, true) SHIFT(Psrld, d, x >> count, true) SHIFT(Psrlq, q, x >> count, true)
SHIFT(Psraw, sw, x >> count, false) SHIFT(Psrad, sd, x >> count, false)
#undef SHIFT

template <class Operation>
bool shift_xmm_immediate(Cpu& cpu, const Insn& insn) {
  Xmm count;
  count.q[0] = insn.immediate & 0xff;
  count.q[1] = 0;
  Operation::template apply<16>(cpu.xmm[insn.operands[0].reg], count);
  return true;
}
template <class Operation>
bool shift_mmx_immediate(Cpu& cpu, const Insn& insn) {
  if (!no_pending_fpu_error(cpu)) return false;
  Xmm a, count;
  a.q[0] = cpu.st[insn.operands[0].reg].significand;
  count.q[0] = insn.immediate & 0xff;
  a.q[1] = count.q[1] = 0;
  Operation::template apply<8>(a, count);
  enter_mmx(cpu);
  write_mmx(cpu, insn.operands[0].reg, a.q[0]);
  return true;
}
template <class Operation>
Handler shift(const Insn& insn) {
  if (insn.operands[1].kind != OperandKind::Immediate) return packed<Operation>(insn);
  return is_mmx(insn.operands[0]) ? shift_mmx_immediate<Operation> : shift_xmm_immediate<Operation>;
}

template <bool left>
bool shift_bytes(Cpu& cpu, const Insn& insn) {
  const u32 count = insn.immediate & 0xff;
  Xmm& a = cpu.xmm[insn.operands[0].reg];
  u8 wide[48] = {};
  __builtin_memcpy(wide + 16, a.b, 16);
  if (count >= 16) a.q[0] = a.q[1] = 0;
  else __builtin_memcpy(a.b, left ? wide + 16 - count : wide + 16 + count, 16);
  return true;
}

}  // namespace

Handler lanes_handler(const Insn& insn) {
  switch (insn.mnemonic) {
#define X(name) \
  case Mnemonic::name: return packed<name>(insn);
    X(Paddb) X(Paddw) X(Paddd) X(Paddq) X(Psubb) X(Psubw) X(Psubd) X(Psubq)
    X(Paddsb) X(Paddsw) X(Psubsb) X(Psubsw) X(Paddusb) X(Paddusw) X(Psubusb) X(Psubusw)
    X(Pcmpeqb) X(Pcmpeqw) X(Pcmpeqd) X(Pcmpeqq) X(Pcmpgtb) X(Pcmpgtw) X(Pcmpgtd) X(Pcmpgtq)
    X(Pminub) X(Pminuw) X(Pminud) X(Pminsb) X(Pminsw) X(Pminsd)
    X(Pmaxub) X(Pmaxuw) X(Pmaxud) X(Pmaxsb) X(Pmaxsw) X(Pmaxsd)
    X(Pavgb) X(Pavgw) X(Pmullw) X(Pmulhw) X(Pmulhuw) X(Pmulld) X(Pmulhrsw) X(Pmuludq) X(Pmuldq)
    X(Pabsb) X(Pabsw) X(Pabsd) X(Psignb) X(Psignw) X(Psignd)
    X(Phaddw) X(Phaddd) X(Phaddsw) X(Phsubw) X(Phsubd) X(Phsubsw)
    X(Pmaddwd) X(Pmaddubsw) X(Psadbw)
#undef X
    case Mnemonic::Pand:
    case Mnemonic::Andps:
    case Mnemonic::Andpd: return packed<And>(insn);
    case Mnemonic::Pandn:
    case Mnemonic::Andnps:
    case Mnemonic::Andnpd: return packed<Andn>(insn);
    case Mnemonic::Por:
    case Mnemonic::Orps:
    case Mnemonic::Orpd: return packed<Or>(insn);
    case Mnemonic::Pxor:
    case Mnemonic::Xorps:
    case Mnemonic::Xorpd: return packed<Xor>(insn);
#define X(name) \
  case Mnemonic::name: return shift<name>(insn);
    X(Psllw) X(Pslld) X(Psllq) X(Psrlw) X(Psrld) X(Psrlq) X(Psraw) X(Psrad)
#undef X
    case Mnemonic::Pslldq: return shift_bytes<true>;
    case Mnemonic::Psrldq: return shift_bytes<false>;
    default: return nullptr;
  }
}
