/// What the compiler expects of its run-time library in the wasm module, which has none; and the host's clock.
#include "run.h"

#ifdef __wasm__
extern "C" __attribute__((import_module("env"), import_name("tsc"))) u64 imported_tsc();
u64 host_tsc() { return imported_tsc(); }

union Wide {
  i128 whole;
  struct {
    u64 low, high;
  };
};

static u128 divide(u128 a, u128 b, u128& rest) {
  u128 quotient = 0;
  rest = 0;
  if ((a >> 64) == 0 && (b >> 64) == 0) {
    rest = static_cast<u64>(a) % static_cast<u64>(b);
    return static_cast<u64>(a) / static_cast<u64>(b);
  }
  for (int i = 127; i >= 0; i--) {
    const bool out = rest >> 127;
    rest = rest << 1 | (a >> i & 1);
    if (out || rest >= b) {
      rest -= b;
      quotient |= u128{1} << i;
    }
  }
  return quotient;
}

extern "C" {
// bulk memory makes one instruction of each
void* memcpy(void* into, const void* from, __SIZE_TYPE__ count) {
  __asm__("local.get %0\nlocal.get %1\nlocal.get %2\nmemory.copy 0, 0" : : "r"(into), "r"(from), "r"(count) : "memory");
  return into;
}
void* memmove(void* into, const void* from, __SIZE_TYPE__ count) { return memcpy(into, from, count); }
void* memset(void* into, int value, __SIZE_TYPE__ count) {
  __asm__("local.get %0\nlocal.get %1\nlocal.get %2\nmemory.fill 0" : : "r"(into), "r"(value), "r"(count) : "memory");
  return into;
}
int memcmp(const void* left, const void* right, __SIZE_TYPE__ count) {
  const u8 *a = static_cast<const u8*>(left), *b = static_cast<const u8*>(right);
  for (; count; count--, a++, b++)
    if (*a != *b) return *a - *b;
  return 0;
}

i128 __multi3(i128 a, i128 b) {
  const Wide x{a}, y{b};
  const u64 mask = 0xffffffff;
  const u64 low = (x.low & mask) * (y.low & mask);
  const u64 middle = (x.low >> 32) * (y.low & mask) + (low >> 32);
  const u64 other = (x.low & mask) * (y.low >> 32) + (middle & mask);
  Wide result;
  result.low = other << 32 | (low & mask);
  result.high = (x.low >> 32) * (y.low >> 32) + (middle >> 32) + (other >> 32) + x.low * y.high + x.high * y.low;
  return result.whole;
}
i128 __ashlti3(i128 a, int count) {
  Wide x{a}, result;
  if (count & 64) result.low = 0, result.high = x.low << (count & 63);
  else if (count == 0) return a;
  else result.low = x.low << count, result.high = x.high << count | x.low >> (64 - count);
  return result.whole;
}
i128 __lshrti3(i128 a, int count) {
  Wide x{a}, result;
  if (count & 64) result.high = 0, result.low = x.high >> (count & 63);
  else if (count == 0) return a;
  else result.high = x.high >> count, result.low = x.low >> count | x.high << (64 - count);
  return result.whole;
}
i128 __ashrti3(i128 a, int count) {
  Wide x{a}, result;
  const i64 high = static_cast<i64>(x.high);
  if (count & 64) result.high = static_cast<u64>(high >> 63), result.low = static_cast<u64>(high >> (count & 63));
  else if (count == 0) return a;
  else result.high = static_cast<u64>(high >> count), result.low = x.low >> count | x.high << (64 - count);
  return result.whole;
}
u128 __udivti3(u128 a, u128 b) {
  u128 rest;
  return divide(a, b, rest);
}
u128 __umodti3(u128 a, u128 b) {
  u128 rest;
  divide(a, b, rest);
  return rest;
}
i128 __divti3(i128 a, i128 b) {
  u128 rest;
  const u128 result = divide(static_cast<u128>(a < 0 ? -a : a), static_cast<u128>(b < 0 ? -b : b), rest);
  return static_cast<i128>((a < 0) != (b < 0) ? -result : result);
}
i128 __modti3(i128 a, i128 b) {
  u128 rest;
  divide(static_cast<u128>(a < 0 ? -a : a), static_cast<u128>(b < 0 ? -b : b), rest);
  return static_cast<i128>(a < 0 ? -rest : rest);
}
}
#else
#include <time.h>

u64 host_tsc() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<u64>(now.tv_sec) * 1000000000u + static_cast<u64>(now.tv_nsec);
}
#endif
