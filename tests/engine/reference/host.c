/* Runs single instructions on this machine's own processor. No libc: the segment bases belong to the cases.
 *
 * The instruction stands alone among HLTs, so whatever it does ends in a signal, and the signal's frame has the whole state. The handler
 * writes it down, puts the next case's state into the frame and returns into it.
 * Shared memory (descriptor 3): struct Shared of host.py. A byte on standard input: run the cases; a byte out: done.
 */
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define CODE 0x400000UL
#define CODE_SIZE 0x2000UL
#define DATA 0x600000UL
#define DATA_SIZE 0x2000UL
#define FIXED 0x603000UL /* read-only */
#define FIXED_SIZE 0x1000UL
#define IMAGE_SIZE (DATA_SIZE + FIXED_SIZE)
#define HLT 0xf4

/* struct Cpu of core/abi.h */
struct Cpu {
  u64 gpr[16], rip, rflags, fs_base, gs_base;
  u8 xmm[16][16], st[8][16];
  u16 fpu_control, fpu_status;
  u8 fpu_tags, reserved;
  u16 fpu_opcode;
  u64 fpu_ip, fpu_dp;
  u32 mxcsr, exit_reason;
  u64 exit_address;
  u32 exit_access, reserved2;
  u64 instructions, reserved3;
};

struct Patch {
  u32 offset, size; /* from the image's start */
  u8 bytes[64];
};

struct Case {
  struct Cpu cpu; /* rip: where the code goes */
  u8 code[16];
  u32 code_size, patches;
  struct Patch patch[3];
};

struct Line {
  u32 offset;
  u8 bytes[64];
};

#define MOST_LINES 12

struct Result {
  struct Cpu cpu; /* exit_reason: the vector; exit_address: CR2; exit_access: the error code */
  u32 lines, reserved;
  struct Line line[MOST_LINES];
};

#define MOST_CASES 512

struct Shared {
  u32 count, done;
  u8 image[IMAGE_SIZE];
  struct Case cases[MOST_CASES];
  struct Result results[MOST_CASES];
};

/* The frame of a signal, as Linux lays it out. */
struct Fxsave {
  u16 fcw, fsw;
  u8 ftw, reserved;
  u16 fop;
  u64 fip, fdp;
  u32 mxcsr, mxcsr_mask;
  u8 st[8][16], xmm[16][16], rest[96];
  u64 xstate_bv;
};
struct Context {
  u64 flags, link, stack[3];
  u64 r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags, segments, error, vector, mask, cr2;
  struct Fxsave* fpu;
};

static struct Shared* shared;
static u8 stack[64 << 10] __attribute__((aligned(16), used));
static u32 current;
static int running;
static u64 old_fs, old_gs;

static long call(long number, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static void copy(void* to, const void* from, u64 size) {
  u8* t = to;
  const u8* f = from;
  __asm__ volatile("rep movsb" : "+D"(t), "+S"(f), "+c"(size) : : "memory");
}

static void quit(int code) {
  for (;;) call(231, code, 0, 0, 0, 0, 0);
}

/* The image's memory: DATA and then FIXED. */
static u8* place(u32 offset) {
  return (u8*)(offset < DATA_SIZE ? DATA + offset : FIXED + (offset - DATA_SIZE));
}

static u64* general(struct Context* context, int number) {
  u64* const registers[16] = {&context->rax, &context->rcx, &context->rdx, &context->rbx, &context->rsp, &context->rbp,
                              &context->rsi, &context->rdi, &context->r8,  &context->r9,  &context->r10, &context->r11,
                              &context->r12, &context->r13, &context->r14, &context->r15};
  return registers[number];
}

static void save(struct Context* context, const struct Case* now, struct Result* result) {
  struct Cpu* cpu = &result->cpu;
  const struct Fxsave* fpu = context->fpu;
  for (int i = 0; i < 16; i++) cpu->gpr[i] = *general(context, i);
  cpu->rip = context->rip;
  cpu->rflags = context->eflags;
  cpu->fs_base = now->cpu.fs_base;
  cpu->gs_base = now->cpu.gs_base;
  copy(cpu->xmm, fpu->xmm, sizeof cpu->xmm);
  const int top = (fpu->fsw >> 11) & 7;
  for (int i = 0; i < 8; i++) copy(cpu->st[(top + i) & 7], fpu->st[i], 16);
  cpu->fpu_control = fpu->fcw;
  cpu->fpu_status = fpu->fsw;
  cpu->fpu_tags = fpu->ftw;
  cpu->mxcsr = fpu->mxcsr;
  cpu->exit_reason = (u32)context->vector;
  cpu->exit_address = context->cr2;
  cpu->exit_access = (u32)context->error;

  u8 image[64] __attribute__((aligned(8)));
  result->lines = 0;
  for (u32 offset = 0; offset < IMAGE_SIZE; offset += 64) {
    copy(image, shared->image + offset, 64);
    for (u32 p = 0; p < now->patches; p++) {
      const struct Patch* patch = &now->patch[p];
      if (patch->offset + patch->size <= offset || patch->offset >= offset + 64) continue;
      for (u32 i = 0; i < patch->size; i++) {
        const u32 at = patch->offset + i;
        if (at >= offset && at < offset + 64) image[at - offset] = patch->bytes[i];
      }
    }
    const u64 *a = (const u64*)image, *b = (const u64*)place(offset);
    u64 differs = 0;
    for (int i = 0; i < 8; i++) differs |= a[i] ^ b[i];
    if (!differs || result->lines == MOST_LINES) continue;
    struct Line* line = &result->line[result->lines++];
    line->offset = offset;
    copy(line->bytes, b, 64);
  }
  for (u32 i = 0; i < now->code_size; i++) *(volatile u8*)(now->cpu.rip + i) = HLT;
}

static void writable(int yes) {
  call(10, FIXED, FIXED_SIZE, yes ? 3 : 1, 0, 0, 0);
}

static void restore(const struct Case* now) {
  for (u32 p = 0; p < now->patches; p++) {
    /* FIXED's content never changes: no case patches it */
    if (now->patch[p].offset < DATA_SIZE) copy(place(now->patch[p].offset), shared->image + now->patch[p].offset, now->patch[p].size);
  }
}

static void load(struct Context* context, const struct Case* next) {
  const struct Cpu* cpu = &next->cpu;
  struct Fxsave* fpu = context->fpu;
  for (int i = 0; i < 16; i++) *general(context, i) = cpu->gpr[i];
  context->rip = cpu->rip;
  context->eflags = cpu->rflags;
  copy(fpu->xmm, cpu->xmm, sizeof cpu->xmm);
  const int top = (cpu->fpu_status >> 11) & 7;
  for (int i = 0; i < 8; i++) copy(fpu->st[i], cpu->st[(top + i) & 7], 16);
  fpu->fcw = cpu->fpu_control;
  fpu->fsw = cpu->fpu_status;
  fpu->ftw = cpu->fpu_tags;
  fpu->fop = 0;
  fpu->fip = fpu->fdp = 0;
  fpu->mxcsr = cpu->mxcsr;
  fpu->xstate_bv |= 3;
  if (cpu->fs_base != old_fs) call(158, 0x1002, (long)(old_fs = cpu->fs_base), 0, 0, 0, 0);
  if (cpu->gs_base != old_gs) call(158, 0x1001, (long)(old_gs = cpu->gs_base), 0, 0, 0, 0);
  copy((void*)cpu->rip, next->code, next->code_size);
  for (u32 p = 0; p < next->patches; p++) copy(place(next->patch[p].offset), next->patch[p].bytes, next->patch[p].size);
}

__attribute__((used)) static void handle(int signal, void* info, struct Context* context) {
  (void)signal, (void)info;
  if (running) {
    struct Result* result = &shared->results[current];
    save(context, &shared->cases[current], result);
    for (u32 i = 0; i < result->lines; i++) {
      const u32 offset = result->line[i].offset;
      if (offset < DATA_SIZE) copy(place(offset), shared->image + offset, 64);
    }
    restore(&shared->cases[current]);
    shared->done = ++current;
  }
  running = 1;
  while (current >= shared->count) {
    char byte = 0;
    if (shared->count != 0) call(1, 1, (long)&byte, 1, 0, 0, 0);
    if (call(0, 0, (long)&byte, 1, 0, 0, 0) != 1) quit(0);
    current = 0;
    copy((void*)DATA, shared->image, DATA_SIZE);
    writable(1);
    copy((void*)FIXED, shared->image + DATA_SIZE, FIXED_SIZE);
    writable(0);
  }
  load(context, &shared->cases[current]);
}

__asm__(".text\nreturn_from_signal:\n  mov $15, %eax\n  syscall\n");

/* Nobody relocates us: no address may be a constant. */
#define ADDRESS_OF(symbol) \
  ({ \
    u64 address_; \
    __asm__("lea " #symbol "(%%rip), %0" : "=r"(address_)); \
    address_; \
  })

static void map(u64 address, u64 size, int protection) {
  if (call(9, (long)address, (long)size, protection, 0x32, -1, 0) != (long)address) quit(2);
}

__attribute__((used)) static void run(void) {
  shared = (struct Shared*)call(9, 0, sizeof *shared, 3, 1, 3, 0);
  if ((u64)shared > -4096UL) quit(3);
  map(CODE, CODE_SIZE, 7);
  map(DATA, DATA_SIZE, 3);
  map(FIXED, FIXED_SIZE, 1);
  for (u64 i = 0; i < CODE_SIZE; i++) ((volatile u8*)CODE)[i] = HLT;
  const u64 alternate[3] = {ADDRESS_OF(stack), 0, sizeof stack};
  call(131, (long)alternate, 0, 0, 0, 0, 0);
  const u64 action[4] = {ADDRESS_OF(handle), 0x4 | 0x08000000 | 0x04000000 | 0x40000000, ADDRESS_OF(return_from_signal), 0};
  const int signals[] = {4, 5, 7, 8, 11};
  for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) call(13, signals[i], (long)action, 0, 8, 0, 0);
  __asm__ volatile("int3");
}

__asm__(".text\n.global _start\n_start:\n  and $-16, %rsp\n  call run\n  hlt\n");
