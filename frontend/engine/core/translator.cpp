#include "translator.h"

#include "emitter.h"
#include "memory.h"
#include "translated.h"

namespace jit {

namespace {

constexpr u64 ones(u32 size) { return size == 8 ? ~u64{0} : (u64{1} << (8 * size)) - 1; }

void section(wasm::Writer& w, u8 id, const wasm::Writer& content) {
  w.byte(id);
  w.number(content.size());
  w.raw(content.data(), content.size());
}

template <class... Types>
void function_type(wasm::Writer& w, u8 result, Types... parameters) {
  w.byte(0x60);
  w.number(sizeof...(parameters));
  (w.byte(parameters), ...);
  w.number(1);
  w.byte(result);
}

}  // namespace

static u32 flags_of_kind(u32 kind, u64 a, u64 b, u64 result) {
  const u32 size = 1u << (kind % 4);
  const u32 bits = 8 * size;
  const u64 sign = u64{1} << (bits - 1);
  const u64 mask = ones(size);
  const FlagKind flag_kind = FlagKind(kind / 4);
  if (flag_kind == FlagKind::Order) return u32(result);
  if (flag_kind != FlagKind::Sar && flag_kind != FlagKind::Imul) {
    a &= mask;
    b &= mask;
  }
  u32 flags = 0;
  if (result == 0) flags |= FLAG_Z;
  if (result & sign) flags |= FLAG_S;
  if (!(__builtin_popcount(u32(result & 0xff)) & 1)) flags |= FLAG_P;
  auto carry = [&](bool on) { flags |= on ? FLAG_C : 0; };
  auto overflow = [&](bool on) { flags |= on ? FLAG_O : 0; };
  auto adjust = [&](u64 x, u64 y) { flags |= (x ^ y ^ result) & 0x10 ? FLAG_A : 0; };
  switch (flag_kind) {
    case FlagKind::Add:
      carry(result < a);
      overflow((a ^ result) & (b ^ result) & sign);
      adjust(a, b);
      break;
    case FlagKind::Sub:
      carry(a < b);
      overflow((a ^ b) & (a ^ result) & sign);
      adjust(a, b);
      break;
    case FlagKind::Adc: {
      const bool before = (result - a - b) & mask;
      carry(before ? result <= a : result < a);
      overflow((a ^ result) & (b ^ result) & sign);
      adjust(a, b);
      break;
    }
    case FlagKind::Sbb: {
      const bool before = (a - b - result) & mask;
      carry(before ? a <= b : a < b);
      overflow((a ^ b) & (a ^ result) & sign);
      adjust(a, b);
      break;
    }
    case FlagKind::Shl: {
      const bool out = (a >> (bits - b)) & 1;
      carry(out);
      overflow(out != !!(result & sign));
      break;
    }
    case FlagKind::Shr:
      carry((a >> (b - 1)) & 1);
      overflow(result & sign >> 1);  // of the last step
      break;
    case FlagKind::Sar:
      carry((i64(a) >> (b - 1)) & 1);
      break;
    case FlagKind::Imul: {
      const i128 product = i128(i64(a)) * i64(b);
      const i64 kept = size == 8 ? i64(result) : i64((result & mask) ^ sign) - i64(sign);
      carry(product != kept);
      overflow(product != kept);
      break;
    }
    case FlagKind::Mul:
      carry(b != 0);
      overflow(b != 0);
      break;
    case FlagKind::Core:
    case FlagKind::Logic:
    case FlagKind::Order:
      break;
  }
  return flags;
}

static u32 step_flags(u32 step, u64 result) {
  const u32 log = (step - 1) % 4;
  const bool down = step > 4;
  const u64 sign = u64{1} << ((8u << log) - 1);
  u32 flags = flags_of_kind(u32(FlagKind::Logic) * 4 + log, 0, 0, result);
  if (result == (down ? sign - 1 : sign)) flags |= FLAG_O;
  if ((result & 15) == (down ? 15 : 0)) flags |= FLAG_A;
  return flags;
}

static u32 turn_flags(u32 turn, u64 result) {
  const u32 top = (8u << (turn - 1) % 4) - 1;
  const bool right = turn > 4;
  const bool carry = result >> (right ? top : 0) & 1;
  const bool overflow = right ? (result >> top ^ result >> (top - 1)) & 1 : (result >> top ^ result) & 1;
  return (carry ? FLAG_C : 0) | (overflow ? FLAG_O : 0);
}

u32 flags_of(const LeftFlags& left, u32 before) {
  u32 flags = left.kind < 4 ? before : flags_of_kind(left.kind, left.a, left.b, left.result);
  const auto turned = [&] {
    if (left.turn) flags = (flags & ~(FLAG_C | FLAG_O)) | turn_flags(left.turn & ~kTurnLast, left.turn_result);
  };
  if (!(left.turn & kTurnLast)) turned();
  if (left.step) flags = (flags & FLAG_C) | step_flags(left.step, left.step_result);
  if (left.turn & kTurnLast) turned();
  return flags;
}

u32 write_region(const Region& region, u8* bytes, u32 capacity) {
  using namespace wasm;
  Emitter emitter(region, at(kBodyAt), kBodyCapacity);
  if (!emitter.emit()) return 0;

  Writer w(bytes, capacity);
  constexpr u8 header[] = {0, 'a', 's', 'm', 1, 0, 0, 0};
  w.raw(header, sizeof header);
  u8 buffer[256];
  {
    Writer types(buffer, sizeof buffer);
    types.number(1);
    function_type(types, I32, I32);
    section(w, 1, types);
  }
  {
    Writer imports(buffer, sizeof buffer);
    imports.number(2);
    imports.name("env");
    imports.name("memory");
    imports.byte(2);
    imports.byte(0);
    imports.number(kGuestBase >> 16);
    imports.name("env");
    imports.name("table");
    imports.byte(1);
    imports.byte(0x70);
    imports.byte(0);
    imports.number(0);
    section(w, 2, imports);
  }
  {
    Writer functions(buffer, sizeof buffer);
    functions.number(1);
    functions.number(kFunctionType);
    section(w, 3, functions);
  }
  {
    Writer exports(buffer, sizeof buffer);
    exports.number(1);
    exports.name("run");
    exports.byte(0);
    exports.number(0);
    section(w, 7, exports);
  }
  const Writer& code = emitter.written();
  Writer length(buffer, sizeof buffer);
  length.number(1);
  length.number(code.size());
  w.byte(10);
  w.number(length.size() + code.size());
  w.raw(length.data(), length.size());
  w.raw(code.data(), code.size());
  return w.overflowed() ? 0 : w.size();
}

}  // namespace jit
