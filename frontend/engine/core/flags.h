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

/// All arithmetic flags.
u32 arithmetic_flags();
/// What `Cpu.rflags` is: arithmetic flags, those of the system and bit 1.
u64 pack_flags();
void unpack_flags(u64 rflags);
