/* Runs instructions on this machine's processor and in the engine's native library, with the same random state, and compares everything.
 *
 *   host_cpu LIBRARY CASES SEED [SHOWN] < instructions
 *
 * An instruction is a line: its bytes in hexadecimal, then words: `unmasked` (some exceptions of MXCSR and the x87 are), `x87` (the
 * stack has holes and any top), `near` (x87 operands are close to each other), `close` (results in the
 * x87's first two registers may differ by one unit in the last place, and with them C1). It may use rax, rcx, rdx, rbx, memory at [rsi] and [rdi], and the vector
 * and x87 registers. Prints a line for each instruction: bytes, differences, then the first of those. Exit code 1: there were some.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { AREA = 512, FRAME = 64, DATA = 1024, GUEST_BASE = 32 << 20, CODE_AT = 0x10000, DATA_AT = 0x20000 };
enum { EXIT_BREAKPOINT = 6, EXIT_PAGE_FAULT = 3, EXIT_INVALID_OPCODE = 4, EXIT_GENERAL_PROTECTION = 7, EXIT_FPU_ERROR = 8, EXIT_SIMD_ERROR = 9 };
#define ARITHMETIC_FLAGS 0x8d5ull

typedef struct {
  uint8_t fx[AREA]; /* as FXSAVE writes it */
  uint64_t gpr[6];  /* rax rcx rdx rbx rsi rdi */
  uint64_t flags;
} __attribute__((aligned(64))) State;

/* The beginning of the engine's Cpu (core/abi.h). */
typedef struct {
  uint64_t gpr[16];
  uint64_t rip, rflags;
} Cpu;

__asm__(
    ".globl before_insn, before_insn_end, after_insn, after_insn_end\n"
    "before_insn:\n"
    "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "mov %rdi, %r15\n"
    "fxrstor64 (%r15)\n"
    "mov 512(%r15), %rax; mov 520(%r15), %rcx; mov 528(%r15), %rdx; mov 536(%r15), %rbx; mov 544(%r15), %rsi; mov 552(%r15), %rdi\n"
    "pushq 560(%r15); popfq\n"
    "before_insn_end:\n"
    "after_insn:\n"
    "pushfq\n"
    "mov %rax, 512(%r15); mov %rcx, 520(%r15); mov %rdx, 528(%r15); mov %rbx, 536(%r15); mov %rsi, 544(%r15); mov %rdi, 552(%r15)\n"
    "popq 560(%r15)\n"
    "fxsave64 (%r15)\n"
    "fninit; pushq $0x1f80; ldmxcsr (%rsp); pop %rax; cld\n"
    "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "ret\n"
    "after_insn_end:\n");
extern const char before_insn[], before_insn_end[], after_insn[], after_insn_end[];

static uint64_t seed;
static uint64_t random64(void) {
  seed ^= seed >> 12;
  seed ^= seed << 25;
  seed ^= seed >> 27;
  return seed * 0x2545f4914f6cdd1dull;
}
static uint32_t below(uint32_t n) { return (uint32_t)((random64() >> 32) * n >> 32); }

/* Numbers as programs have them, and all the odd ones. */
static uint64_t random_float(unsigned fraction, unsigned exponent_bits) {
  const uint64_t sign = (uint64_t)below(2) << (fraction + exponent_bits);
  const uint64_t most = (1ull << exponent_bits) - 1, bias = most >> 1, mask = (1ull << fraction) - 1;
  const uint64_t bits = random64() & mask;
  switch (below(16)) {
    case 0: return sign;
    case 1: return sign | most << fraction;
    case 2: return sign | most << fraction | bits | 1ull << (fraction - 1);
    case 3: return sign | most << fraction | (bits & (mask >> 1)) | 1;
    case 4: return sign | (bits >> below(fraction));
    case 5: return sign | (uint64_t)(1 + below(3)) << fraction | (below(2) ? bits : 0);
    case 6: return sign | (most - 1) << fraction | (below(2) ? bits : mask);
    case 7: return sign | (bias + below(70)) << fraction | bits;
    case 8: return sign | (bias + below(fraction + 2)) << fraction | (bits & ~(mask >> below(fraction)));
    case 9: return sign | bias << fraction | (below(2) ? 0 : 1);
    case 10: return sign | (bias - 2 + below(5)) << fraction | (mask ^ (below(2) ? 0 : below(4)));
    case 11: return sign | (bias / 2 + below(4)) << fraction | bits;
    case 12: return sign | (bias + bias / 2 + below(4)) << fraction | bits;
    case 13: return random64();
    default: return sign | (bias - 4 + below(8)) << fraction | bits;
  }
}
static void random_lane(uint8_t* into) {
  switch (below(6)) {
    case 0: case 1: {
      const uint64_t value = random_float(52, 11);
      memcpy(into, &value, 8);
      return;
    }
    case 2: case 3: {
      const uint32_t values[2] = {(uint32_t)random_float(23, 8), (uint32_t)random_float(23, 8)};
      memcpy(into, values, 8);
      return;
    }
    case 4: {
      static const uint8_t edges[] = {0, 0, 0x7f, 0x80, 0xff, 1, 2, 0xfe};
      for (int i = 0; i < 8; i++) into[i] = below(4) ? edges[below(8)] : (uint8_t)random64();
      return;
    }
    default: {
      const uint64_t value = below(4) ? random64() : random64() >> below(64);
      memcpy(into, &value, 8);
    }
  }
}
static void random_extended(uint8_t* into, int tame) {
  uint64_t significand = random64() | 1ull << 63;
  uint16_t exponent = (uint16_t)(16383 - 20 + below(40));
  switch (tame ? 15 : below(20)) {
    case 0: significand = 0; exponent = 0; break;
    case 1: significand = 1ull << 63; exponent = 0x7fff; break;
    case 2: exponent = 0x7fff; significand |= 1ull << 62; break;
    case 3: exponent = 0x7fff; significand = (significand & ~(1ull << 62)) | 1; break;
    case 4: exponent = 0; significand >>= 1 + below(63); break;
    case 5: exponent = 0; break;
    case 6: significand &= ~(1ull << 63); break;
    case 7: exponent = (uint16_t)(1 + below(70)); break;
    case 8: exponent = (uint16_t)(0x7ffe - below(4)); break;
    case 9: significand = 1ull << 63; break;
    case 10: significand &= ~0ull << below(64); significand |= 1ull << 63; break;
    case 11: exponent = (uint16_t)(16383 + below(68)); break;
    case 12: exponent = (uint16_t)random64() & 0x7fff; break;
    case 13: significand = ~0ull << below(40); break;
    case 14: exponent = (uint16_t)(16383 + below(64)); significand = 1ull << 63 | 1ull << below(64); break;
    default: break;
  }
  exponent |= (uint16_t)(below(2) << 15);
  memcpy(into, &significand, 8);
  memcpy(into + 8, &exponent, 2);
}

static void random_state(State* state, uint8_t* data, int unmasked, int x87, int near) {
  memset(state, 0, sizeof *state);
  const int tame = x87 && near && below(4);
  static const uint16_t precisions[] = {0x300, 0x300, 0x300, 0x200, 0, 0x100};
  uint16_t control = 0x7f, status = 0;
  uint8_t tags = 0xff;
  uint32_t mxcsr = 0x1f80;
  if (x87) {
    control = (uint16_t)(0x40 | (unmasked && below(2) ? random64() & 0x3f : 0x3f));
    control |= precisions[below(6)] | (below(2) ? below(4) << 10 : 0);
    status = (uint16_t)(below(8) << 11 | (random64() & 0x4700) | (below(2) ? random64() & 0x3f & (uint16_t)(control | ~0x3f) : 0));
    if (!below(4)) tags = (uint8_t)random64();
  }
  if (below(2)) mxcsr |= below(4) << 13;
  if (!below(3)) mxcsr |= (uint32_t)(random64() & 0x8040);
  if (below(2)) mxcsr |= (uint32_t)(random64() & 0x3f);
  if (unmasked && below(2)) mxcsr &= ~(uint32_t)(random64() & 0x1f80) & (below(2) ? ~0x3fu : ~0u);
  memcpy(state->fx, &control, 2);
  memcpy(state->fx + 2, &status, 2);
  state->fx[4] = tags;
  memcpy(state->fx + 24, &mxcsr, 4);
  for (int i = 0; i < 8; i++) random_extended(state->fx + 32 + 16 * i, tame);
  for (int i = 0; i < 32; i++) random_lane(state->fx + 160 + 8 * i);
  /* operands that are alike: equal ones, sums that cancel */
  for (int i = 0; i < 4; i++)
    if (below(2)) memcpy(state->fx + 160 + 16 * below(16), state->fx + 160 + 16 * below(16), below(2) ? 16 : 8);
  if (near && below(3) == 0) {
    memcpy(state->fx + 48, state->fx + 32, 10);
    if (below(2)) state->fx[48] ^= (uint8_t)(1 << below(4));
  }
  for (int i = 0; i < 4; i++) {
    random_lane((uint8_t*)&state->gpr[i]);
    if (below(4) == 0) state->gpr[i] = (uint64_t)(int64_t)(int)(below(40) - 20);
  }
  state->flags = 0x202 | (random64() & ARITHMETIC_FLAGS);
  for (int i = 0; i < DATA; i += 8) random_lane(data + i);
  if (x87 && below(2)) random_extended(data, 0);
  if (x87 && below(3) == 0)
    for (int i = 0; i < 9; i++) data[i] = (uint8_t)(below(10) << 4 | below(10));
  if (!below(4)) memcpy(data, state->fx + 160 + 16 * below(16), 16);
}

static sigjmp_buf back;
static volatile int trap;
static uint8_t trapped_fx[AREA];
static void on_signal(int number, siginfo_t* info, void* context) {
  (void)number, (void)info;
  const ucontext_t* uc = context;
  trap = (int)uc->uc_mcontext.gregs[REG_TRAPNO];
  memcpy(trapped_fx, uc->uc_mcontext.fpregs, AREA);
  siglongjmp(back, 1);
}
static int exit_of(int number) {
  switch (number) {
    case 6: return EXIT_INVALID_OPCODE;
    case 13: return EXIT_GENERAL_PROTECTION;
    case 14: return EXIT_PAGE_FAULT;
    case 16: return EXIT_FPU_ERROR;
    case 19: return EXIT_SIMD_ERROR;
    default: return -number;
  }
}

static void print_bytes(const char* name, const uint8_t* bytes, int size) {
  printf(" %s=", name);
  for (int i = size - 1; i >= 0; i--) printf("%02x", bytes[i]);
}
static void print_state(const char* name, const State* s, const uint8_t* data) {
  printf("  %s:", name);
  print_bytes("cw", s->fx, 2), print_bytes("sw", s->fx + 2, 2), print_bytes("tags", s->fx + 4, 1), print_bytes("mxcsr", s->fx + 24, 4);
  printf(" flags=%llx rax=%llx rcx=%llx rdx=%llx rbx=%llx", (unsigned long long)s->flags, (unsigned long long)s->gpr[0],
         (unsigned long long)s->gpr[1], (unsigned long long)s->gpr[2], (unsigned long long)s->gpr[3]);
  print_bytes("data", data, 16);
  for (int i = 0; i < 8; i++) {
    char label[8];
    snprintf(label, sizeof label, "st%d", i);
    print_bytes(label, s->fx + 32 + 16 * i, 10);
  }
  for (int i = 0; i < 16; i++) {
    char label[8];
    snprintf(label, sizeof label, "x%d", i);
    print_bytes(label, s->fx + 160 + 16 * i, 16);
  }
  printf("\n");
}

/* What is not compared: the last instruction and operand of the x87, MXCSR's mask, padding. */
static int same_fx(const uint8_t* a, const uint8_t* b) {
  if (memcmp(a, b, 6) != 0 || memcmp(a + 24, b + 24, 4) != 0 || memcmp(a + 160, b + 160, 256) != 0) return 0;
  for (int i = 0; i < 8; i++)
    if (memcmp(a + 32 + 16 * i, b + 32 + 16 * i, 10) != 0) return 0;
  return 1;
}

/* The results of transcendental functions: the last bit is the processor's own affair. */
static void forgive_last_place(const uint8_t* host, uint8_t* engine) {
  engine[3] = (uint8_t)((engine[3] & ~2) | (host[3] & 2));
  for (int i = 0; i < 2; i++) {
    uint64_t a, b;
    memcpy(&a, host + 32 + 16 * i, 8);
    memcpy(&b, engine + 32 + 16 * i, 8);
    if (memcmp(host + 40 + 16 * i, engine + 40 + 16 * i, 2) == 0 && a - b + 1 <= 2) memcpy(engine + 32 + 16 * i, &a, 8);
  }
}

int main(int count, char** words) {
  if (count < 4) return 2;
  void* const library = dlopen(words[1], RTLD_NOW);
  if (!library) return fprintf(stderr, "%s\n", dlerror()), 2;
  const long cases = atol(words[2]);
  seed = strtoull(words[3], 0, 0) * 2 + 1;
  const int shown = count > 4 ? atoi(words[4]) : 1;
  void (*const set_memory)(uint8_t*) = (void (*)(uint8_t*))dlsym(library, "core_memory");
  void (*const initialize)(void) = (void (*)(void))dlsym(library, "core_initialize");
  Cpu* (*const get_cpu)(void) = (Cpu * (*)(void)) dlsym(library, "core_cpu");
  uint32_t (*const run)(uint32_t) = (uint32_t(*)(uint32_t))dlsym(library, "core_run");
  void (*const set_pages)(uint32_t, uint32_t, uint32_t) = (void (*)(uint32_t, uint32_t, uint32_t))dlsym(library, "core_setPages");
  void (*const wrote)(uint32_t, uint32_t) = (void (*)(uint32_t, uint32_t))dlsym(library, "core_wrote");
  void (*const save)(uint8_t*) = (void (*)(uint8_t*))dlsym(library, "core_saveFpu");
  void (*const restore)(const uint8_t*) = (void (*)(const uint8_t*))dlsym(library, "core_loadFpu");

  uint8_t* const memory = mmap(0, 1ull << 32, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  set_memory(memory);
  initialize();
  set_pages(CODE_AT >> 12, 1, 13);
  set_pages(DATA_AT >> 12, 1, 9);
  Cpu* const cpu = get_cpu();
  uint8_t* const code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint8_t* const host_data = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint8_t* const guest_data = memory + GUEST_BASE + DATA_AT;
  const struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGSEGV, &action, 0), sigaction(SIGILL, &action, 0), sigaction(SIGFPE, &action, 0), sigaction(SIGBUS, &action, 0);

  char line[256];
  long total = 0;
  while (fgets(line, sizeof line, stdin)) {
    uint8_t insn[16];
    int length = 0, used = 0;
    unsigned byte;
    const char* at = line;
    while (length < 15 && *at > ' ' && sscanf(at, "%2x%n", &byte, &used) == 1 && used == 2) insn[length++] = (uint8_t)byte, at += 2;
    const int unmasked = strstr(at, "unmasked") != 0, x87 = strstr(at, "x87") != 0, near = strstr(at, "near") != 0;
    const int close = strstr(at, "close") != 0;
    const size_t before = (size_t)(before_insn_end - before_insn), after = (size_t)(after_insn_end - after_insn);
    memcpy(code, before_insn, before);
    memcpy(code + before, insn, (size_t)length);
    memcpy(code + before + length, after_insn, after);
    memcpy(memory + GUEST_BASE + CODE_AT, insn, (size_t)length);
    memory[GUEST_BASE + CODE_AT + length] = 0xcc; /* INT3: the end */
    wrote(CODE_AT, 16);

    long differences = 0;
    for (long i = 0; i < cases; i++) {
      static State start, host, guest;
      static uint8_t data[DATA];
      random_state(&start, data, unmasked, x87, near);
      host = guest = start;
      memcpy(host_data, data, DATA);
      memcpy(guest_data, data, DATA);
      static uint64_t offset;
      offset = unmasked && !below(8) ? below(16) : 0;
      host.gpr[4] = host.gpr[5] = (uint64_t)host_data + offset;

      static int host_exit;
      host_exit = EXIT_BREAKPOINT;
      trap = -1;
      if (sigsetjmp(back, 0) == 0) {
        ((void (*)(State*))code)(&host);
      } else {
        __asm__ volatile("fninit; cld" ::: "memory");
        const uint32_t plain = 0x1f80;
        __asm__ volatile("ldmxcsr %0" ::"m"(plain));
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, 0);
        memcpy(host.fx, trapped_fx, AREA);
        host_exit = exit_of(trap);
      }
      host.gpr[4] = host.gpr[5] = 0;

      static const int places[6] = {0, 1, 2, 3, 6, 7};
      for (int r = 0; r < 4; r++) cpu->gpr[places[r]] = start.gpr[r];
      cpu->gpr[6] = cpu->gpr[7] = DATA_AT + offset;
      cpu->rflags = start.flags;
      cpu->rip = CODE_AT;
      restore(start.fx);
      const int guest_exit = (int)run(2);
      save(guest.fx);
      for (int r = 0; r < 4; r++) guest.gpr[r] = cpu->gpr[places[r]];
      guest.flags = cpu->rflags;

      if (close) forgive_last_place(host.fx, guest.fx);
      const uint64_t flags = host.flags ^ guest.flags;
      int same = host_exit == guest_exit && same_fx(host.fx, guest.fx) && (host_exit != EXIT_BREAKPOINT || (flags & ARITHMETIC_FLAGS) == 0) &&
                 memcmp(host_data, guest_data, DATA) == 0;
      if (host_exit == EXIT_BREAKPOINT) same = same && memcmp(host.gpr, guest.gpr, 32) == 0;
      if (same) continue;
      if (++differences > shown) continue;
      printf(" difference: host exit %d, engine exit %d\n", host_exit, guest_exit);
      print_state("before", &start, data);
      print_state("host  ", &host, host_data);
      print_state("engine", &guest, guest_data);
    }
    line[strcspn(line, "\n")] = 0;
    printf("%s: %ld of %ld\n", line, differences, cases);
    fflush(stdout);
    total += differences;
  }
  return total != 0;
}
