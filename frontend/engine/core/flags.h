/// Lazy flags: an operation leaves its result and first operand, a reader computes what it asks for.
#pragma once
#include "state.h"

enum FlagKind : u32 {
  KIND_EXPLICIT = 0,  // a: all FLAG_* bits
  KIND_PARTIAL = 4,   // a: C, A and O; the others from the result
  KIND_LOGIC = 8,     // C, A and O are clear
  KIND_ADD = 12,
  KIND_SUB = 16,
  KIND_ADC = 20,      // with a carry in
  KIND_SBB = 24,      // with a borrow in
};

template <class T>
struct Signed;
template <> struct Signed<u8> { using type = i8; };
template <> struct Signed<u16> { using type = i16; };
template <> struct Signed<u32> { using type = i32; };
template <> struct Signed<u64> { using type = i64; };
template <class T>
using signed_of = typename Signed<T>::type;

template <class T>
constexpr u32 kLog2Size = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;

template <class T>
ALWAYS_INLINE u64 sign_extend(T value) {
  return static_cast<u64>(static_cast<i64>(static_cast<signed_of<T>>(value)));
}

template <class T>
ALWAYS_INLINE void note_flags(u32 kind, T result, T a) {
  g.lazy.kind = kind + kLog2Size<T>;
  g.lazy.result = sign_extend(result);
  g.lazy.a = sign_extend(a);
}
template <class T>
ALWAYS_INLINE void note_logic(T result) {
  g.lazy.kind = KIND_LOGIC + kLog2Size<T>;
  g.lazy.result = sign_extend(result);
}
/// C, A and O given, the others of the result.
template <class T>
ALWAYS_INLINE void note_partial(T result, u32 flags) {
  g.lazy.kind = KIND_PARTIAL + kLog2Size<T>;
  g.lazy.result = sign_extend(result);
  g.lazy.a = flags;
}

ALWAYS_INLINE bool flag_zero() { return UNLIKELY(g.lazy.kind < KIND_PARTIAL) ? (g.lazy.a & FLAG_Z) != 0 : g.lazy.result == 0; }
ALWAYS_INLINE bool flag_sign() {
  return UNLIKELY(g.lazy.kind < KIND_PARTIAL) ? (g.lazy.a & FLAG_S) != 0 : static_cast<i64>(g.lazy.result) < 0;
}
bool flag_carry();
bool flag_overflow();
/// Condition code of jcc, setcc, cmovcc.
bool condition(u32 code);

/// The condition when it is easily told: of zero or sign, or of a comparison in 32 or 64 bits. False: ask `condition`.
template <u32 code>
ALWAYS_INLINE bool quick_condition(bool& holds) {
  const LazyFlags& lazy = g.lazy;
  constexpr bool negated = code & 1;
  switch (code >> 1) {
    case 1:
    case 3:
      if (UNLIKELY((lazy.kind & ~3u) != KIND_SUB)) return false;
      holds = lazy.result > lazy.a || (code >> 1 == 3 && lazy.result == 0);
      break;
    case 2: holds = flag_zero(); break;
    case 4: holds = flag_sign(); break;
    case 6:
    case 7: {
      const i64 a = static_cast<i64>(lazy.a);
      if (lazy.kind == KIND_SUB + 2) holds = a < static_cast<i32>(lazy.a - lazy.result);
      else if (lazy.kind == KIND_SUB + 3) holds = a < static_cast<i64>(lazy.a - lazy.result);
      else if ((lazy.kind & ~3u) == KIND_LOGIC) holds = static_cast<i64>(lazy.result) < 0;
      else return false;
      if (code >> 1 == 7) holds = holds || lazy.result == 0;
      break;
    }
    default: return false;
  }
  holds = holds != negated;
  return true;
}

/// All arithmetic flags.
u32 arithmetic_flags();
/// What `Cpu.rflags` is: arithmetic flags, those of the system and bit 1.
u64 pack_flags();
void unpack_flags(u64 rflags);
