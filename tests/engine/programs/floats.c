/* Vector and x87 arithmetic with odd operands under all kinds of rounding: a hash for each operation, of its results and exceptions. The wasm core and
   what it translates are meant; the native core is compared by host_cpu.c. */
#pragma GCC target("sse4.2")
#include <nmmintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { ROUNDS = 20000, OPERATIONS = 60 };

static uint64_t state = 88172645463325252ull;
static uint64_t hashes[OPERATIONS];

static uint64_t random64(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static uint64_t random_double(void) {
  const uint64_t bits = random64(), fraction = bits & 0x800fffffffffffff;
  switch (random64() % 8) {
    case 0: return bits;
    case 1: return fraction | 0x7ff0000000000000;
    case 2: return fraction;
    case 3: return bits << 63;
    case 4: return (bits & 0x8000000000000000) | (0x3ff0000000000000 + ((random64() % 64) << 52));
    default: return fraction | (1000 + random64() % 50) << 52;
  }
}

static uint32_t random_single(void) {
  const uint32_t bits = (uint32_t)random64(), fraction = bits & 0x807fffff;
  switch (random64() % 6) {
    case 0: return bits;
    case 1: return fraction | 0x7f800000;
    case 2: return fraction;
    case 3: return bits << 31;
    default: return fraction | (uint32_t)(100 + random64() % 60) << 23;
  }
}

static void note(int operation, const void *bytes, int count) {
  for (int i = 0; i < count; i++) hashes[operation] = (hashes[operation] ^ ((const uint8_t *)bytes)[i]) * 1099511628211ull;
}

#define VECTOR(operation, type, expression)   \
  {                                           \
    const type value = expression;            \
    note(operation, &value, 16);              \
    const uint32_t control = _mm_getcsr();    \
    note(operation, &control, 4);             \
    if (control & 0x100) _mm_setcsr(control & ~0x3fu); \
  }
#define SINGLES(operation, expression) VECTOR(operation, __m128, expression)
#define DOUBLES(operation, expression) VECTOR(operation, __m128d, expression)
#define INTEGERS(operation, expression) VECTOR(operation, __m128i, expression)

static void singles(__m128 a, __m128 b) {
  SINGLES(0, _mm_add_ps(a, b))
  SINGLES(1, _mm_sub_ps(a, b))
  SINGLES(2, _mm_mul_ps(a, b))
  SINGLES(3, _mm_div_ps(a, b))
  SINGLES(4, _mm_sqrt_ps(a))
  SINGLES(5, _mm_min_ps(a, b))
  SINGLES(6, _mm_max_ps(a, b))
  SINGLES(7, _mm_add_ss(a, b))
  SINGLES(8, _mm_mul_ss(a, b))
  SINGLES(9, _mm_cmplt_ps(a, b))
  SINGLES(10, _mm_dp_ps(a, b, 0xf7))
  SINGLES(11, _mm_round_ps(a, 4))
  SINGLES(12, _mm_hadd_ps(a, b))
  SINGLES(13, _mm_addsub_ps(a, b))
}

static void doubles(__m128d a, __m128d b) {
  DOUBLES(14, _mm_add_pd(a, b))
  DOUBLES(15, _mm_sub_pd(a, b))
  DOUBLES(16, _mm_mul_pd(a, b))
  DOUBLES(17, _mm_div_pd(a, b))
  DOUBLES(18, _mm_sqrt_pd(a))
  DOUBLES(19, _mm_min_pd(a, b))
  DOUBLES(20, _mm_max_sd(a, b))
  DOUBLES(21, _mm_add_sd(a, b))
  DOUBLES(22, _mm_mul_sd(a, b))
  DOUBLES(23, _mm_div_sd(a, b))
  DOUBLES(24, _mm_sqrt_sd(a, b))
  DOUBLES(25, _mm_cmpnle_pd(a, b))
  DOUBLES(26, _mm_round_pd(a, 4))
}

static void conversions(__m128 a, __m128 b, __m128d c, __m128d d) {
  DOUBLES(27, _mm_cvtps_pd(a))
  SINGLES(28, _mm_cvtpd_ps(c))
  INTEGERS(29, _mm_cvtps_epi32(a))
  INTEGERS(30, _mm_cvttps_epi32(a))
  INTEGERS(31, _mm_cvtpd_epi32(c))
  INTEGERS(32, _mm_cvttpd_epi32(c))
  SINGLES(33, _mm_cvtepi32_ps(_mm_castps_si128(a)))
  const int64_t number = _mm_cvtsi128_si64(_mm_castpd_si128(d));
  DOUBLES(34, _mm_cvtsi64_sd(c, number))
  SINGLES(35, _mm_cvtsi64_ss(a, number))
  const int64_t numbers[] = {
    _mm_cvtsd_si64(c), _mm_cvttsd_si64(c), _mm_cvtss_si32(a), _mm_ucomilt_sd(c, d) | _mm_comieq_ss(a, b) << 1,
  };
  note(36, numbers, sizeof numbers);
}

static void integers(__m128i a, __m128i b) {
  INTEGERS(37, _mm_shuffle_epi8(a, b))
  INTEGERS(38, _mm_mulhrs_epi16(a, b))
  INTEGERS(39, _mm_packus_epi32(a, b))
  INTEGERS(40, _mm_sad_epu8(a, b))
  INTEGERS(41, _mm_madd_epi16(a, b))
  INTEGERS(42, _mm_cmpistrm(a, b, 0x44))
  INTEGERS(43, _mm_mul_epi32(a, b))
  INTEGERS(44, _mm_avg_epu8(a, b))
  INTEGERS(45, _mm_minpos_epu16(a))
  INTEGERS(46, _mm_mpsadbw_epu8(a, b, 5))
  INTEGERS(47, _mm_sra_epi16(a, _mm_srli_epi64(b, 60)))
  INTEGERS(48, _mm_adds_epi8(a, b))
  INTEGERS(49, _mm_subs_epu16(a, b))
}

static long double random_extended(int wild) {
  const uint64_t significand = random64() | 1ull << 63;
  const uint16_t exponent = (uint16_t)(wild ? random64() : 16363 + random64() % 40);
  long double value = 0;
  memcpy(&value, &significand, 8);
  memcpy((char *)&value + 8, &exponent, 2);
  return value;
}

#define X87(operation, instruction)                                    \
  {                                                                    \
    long double value = x;                                             \
    uint16_t status;                                                   \
    __asm__ volatile(instruction : "+t"(value) : "u"(y));              \
    __asm__ volatile("fnstsw %0" : "=a"(status));                      \
    status &= 0x7f;                                                    \
    note(operation, &value, 10);                                       \
    note(operation, &status, 2);                                       \
    if (random64() & 1) __asm__ volatile("fnclex");                    \
  }

static void extended(int round) {
  static const uint16_t precisions[] = {0x300, 0x200, 0, 0x300};
  const uint16_t control = (uint16_t)(0x7f | precisions[round % 4] | (round % 3 ? 0 : random64() % 4 << 10));
  const long double x = random_extended(round % 9 == 0), y = random_extended(0);
  float single;
  double whole;
  __asm__ volatile("fninit; fldcw %0" ::"m"(control));
  X87(50, "fadd %%st(1)")
  X87(51, "fmul %%st(1)")
  X87(52, "fdiv %%st(1)")
  X87(53, "fsub %%st(1)")
  X87(54, "fsqrt")
  X87(55, "frndint")
  X87(56, "fprem")
  X87(57, "fprem1")
  X87(58, "fscale")
  __asm__ volatile("fsts %0" : "=m"(single) : "t"(x));
  __asm__ volatile("fstl %0" : "=m"(whole) : "t"(x));
  note(59, &single, 4);
  note(59, &whole, 8);
  __asm__ volatile("fninit");
}

int main(void) {
  for (int i = 0; i < ROUNDS; i++) {
    uint32_t lanes[8];
    uint64_t wide[4];
    for (int k = 0; k < 8; k++) lanes[k] = random_single();
    for (int k = 0; k < 4; k++) wide[k] = random_double();
    if (i % 5 == 0) lanes[4] = lanes[0];
    const __m128i a = _mm_loadu_si128((const __m128i *)lanes), b = _mm_loadu_si128((const __m128i *)(lanes + 4));
    const __m128i c = _mm_loadu_si128((const __m128i *)wide), d = _mm_loadu_si128((const __m128i *)(wide + 2));
    uint32_t control = 0x1f80;
    if (i % 3 == 0) control |= (uint32_t)(random64() % 4) << 13;
    if (i % 7 == 0) control |= random64() & 0x8040;
    if (i % 2) control |= 0x20;
    _mm_setcsr(control);
    singles(_mm_castsi128_ps(a), _mm_castsi128_ps(b));
    doubles(_mm_castsi128_pd(c), _mm_castsi128_pd(d));
    conversions(_mm_castsi128_ps(a), _mm_castsi128_ps(b), _mm_castsi128_pd(c), _mm_castsi128_pd(d));
    integers(a, b);
    _mm_setcsr(0x1f80);
    extended(i);
  }
  for (int i = 0; i < OPERATIONS; i++) printf("%d %016llx\n", i, (unsigned long long)hashes[i]);
  return 0;
}
