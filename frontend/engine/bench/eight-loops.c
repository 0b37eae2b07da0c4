/* Eight loops that emulators are compared by: `loops NAME ROUNDS` does one of them and prints its name, a checksum and the nanoseconds it took. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEEP __attribute__((noinline))

static uint32_t state = 1;
static uint32_t next_random(void) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}

static uint8_t composite[1 << 20];
KEEP static uint64_t sieve(void) {
  memset(composite, 0, sizeof composite);
  uint64_t primes = 0;
  for (uint32_t i = 2; i < sizeof composite; i++) {
    if (composite[i]) continue;
    primes++;
    for (uint32_t j = i * 2; j < sizeof composite; j += i) composite[j] = 1;
  }
  return primes;
}

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
static inline uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }
static void sha256_block(uint32_t h[8], const uint32_t *block) {
  uint32_t w[64];
  memcpy(w, block, 64);
  for (int i = 16; i < 64; i++) {
    uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
    uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], k = h[7];
  for (int i = 0; i < 64; i++) {
    uint32_t t1 = k + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i];
    uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    k = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e, h[5] += f, h[6] += g, h[7] += k;
}
static uint32_t words[1 << 16];
KEEP static uint64_t sha256(void) {
  uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  for (uint32_t i = 0; i < sizeof words / 64; i++) sha256_block(h, words + i * 16);
  return h[0];
}

static int compare(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}
static void sort(uint32_t *from, int count) {
  while (count > 16) {
    uint32_t middle = from[count / 2];
    int i = 0, j = count - 1;
    while (i <= j) {
      while (compare(from + i, &middle) < 0) i++;
      while (compare(from + j, &middle) > 0) j--;
      if (i <= j) {
        uint32_t t = from[i];
        from[i++] = from[j];
        from[j--] = t;
      }
    }
    sort(from, j + 1);
    from += i;
    count -= i;
  }
  for (int i = 1; i < count; i++) {
    uint32_t x = from[i];
    int j = i;
    for (; j > 0 && from[j - 1] > x; j--) from[j] = from[j - 1];
    from[j] = x;
  }
}
static uint32_t numbers[1 << 17];
KEEP static uint64_t quicksort(void) {
  state = 1;
  for (uint32_t i = 0; i < 1 << 17; i++) numbers[i] = next_random();
  sort(numbers, 1 << 17);
  return numbers[1000];
}

enum { N = 160 };
static double A[N][N], B[N][N], C[N][N];
KEEP static uint64_t matmul(void) {
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) {
      double sum = 0;
      for (int k = 0; k < N; k++) sum += A[i][k] * B[k][j];
      C[i][j] = sum;
    }
  return (uint64_t)(C[3][5] * 1000);
}

static char text[1 << 20];
KEEP static uint64_t length(void) {
  uint64_t total = 0;
  for (int start = 0; start < 64; start++) {
    const char *at = text + start;
    while (*at) at++;
    total += (uint64_t)(at - text);
  }
  return total;
}

static uint64_t copied[1 << 16];
KEEP static uint64_t copy(void) {
  const uint8_t *from = (const uint8_t *)numbers;
  uint8_t *to = (uint8_t *)copied;
  for (int round = 0; round < 8; round++)
    for (uint32_t i = 0; i < sizeof copied / 2; i += 1) {
      to[i] = from[i];
      __asm__ volatile("" ::: "memory");  /* or the compiler calls memcpy */
    }
  return copied[100];
}

static uint32_t chain[1 << 18];
KEEP static uint64_t chase(void) {
  uint32_t at = 0;
  for (int i = 0; i < 1 << 20; i++) at = chain[at];
  return at;
}

KEEP static uint64_t hash(void) {
  uint64_t h = 14695981039346656037ull;
  const uint8_t *bytes = (const uint8_t *)words;
  for (uint32_t i = 0; i < sizeof words; i++) h = (h ^ bytes[i]) * 1099511628211ull;
  return h;
}

static const struct {
  const char *name;
  uint64_t (*run)(void);
} loops[] = {{"sieve", sieve}, {"sha256", sha256}, {"qsort", quicksort}, {"matmul", matmul},
             {"strlen", length}, {"copy", copy}, {"chase", chase}, {"hash", hash}};

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000ll + time.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  for (uint32_t i = 0; i < 1 << 16; i++) words[i] = next_random();
  for (int i = 0; i < N * N; i++) A[i / N][i % N] = (next_random() % 1000 + 1) / 7.0, B[i / N][i % N] = (next_random() % 1000 + 1) / 13.0;
  memcpy(numbers, words, sizeof words);
  memset(text, 'x', sizeof text - 1);
  for (uint32_t i = 0; i < 1 << 18; i++) chain[i] = (i * 40501 + 12345) & ((1 << 18) - 1);
  for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
    if (strcmp(argv[1], loops[i].name)) continue;
    uint64_t sum = 0;
    int64_t start = now();
    for (int round = atoi(argv[2]); round > 0; round--) sum += loops[i].run();
    printf("%s %llu %lld\n", loops[i].name, (unsigned long long)sum, (long long)(now() - start));
    return 0;
  }
  return 2;
}
