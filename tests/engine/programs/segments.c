/* Segment registers and far branches, as far as all processors and a 64-bit Linux agree on them. */

#define _GNU_SOURCE
#include <asm/prctl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile unsigned error;

static void on_signal(int number, siginfo_t *info, void *context) {
    error = (unsigned)((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR];
    siglongjmp(back, number * 1000 + info->si_code);
}

#define TRY(name, action)                                      \
    do {                                                       \
        int got = sigsetjmp(back, 1);                          \
        if (got == 0) {                                        \
            action;                                            \
            printf("%s: done\n", name);                        \
        } else {                                               \
            printf("%s: signal %d, code %d, error %x\n", name, got / 1000, got % 1000, error); \
        }                                                      \
    } while (0)

static unsigned selector_of(int number) {
    unsigned short value = 0;
    switch (number) {
        case 0: __asm__ volatile("mov %%es, %0" : "=r"(value)); break;
        case 1: __asm__ volatile("mov %%cs, %0" : "=r"(value)); break;
        case 2: __asm__ volatile("mov %%ss, %0" : "=r"(value)); break;
        case 3: __asm__ volatile("mov %%ds, %0" : "=r"(value)); break;
        default: __asm__ volatile("mov %%gs, %0" : "=r"(value));
    }
    return value;
}

static void registers(void) {
    for (int i = 0; i < 5; i++) printf("%x ", selector_of(i));
    printf("\n");
    /* Not 1 to 3: whether these null selectors become 0 on the way through the kernel is the processor's choice. */
    static const unsigned values[] = {0, 0x2b, 0x28, 0x2a, 0x33, 0x30, 0x10, 0x18, 0x2f, 0x37, 0x1234, 0xfff8};
    for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
        const unsigned value = values[i];
        char name[40];
        snprintf(name, sizeof name, "%x", value);
        TRY(name, __asm__ volatile("mov %0, %%es" : : "r"(value)));
        TRY(name, __asm__ volatile("mov %0, %%ds" : : "r"(value)));
        TRY(name, __asm__ volatile("mov %0, %%gs" : : "r"(value)));
        TRY(name, __asm__ volatile("mov %0, %%ss" : : "r"(value)));
        printf("%x %x %x %x\n", selector_of(0), selector_of(2), selector_of(3), selector_of(4));
    }
    __asm__ volatile("mov %0, %%es; mov %0, %%ds; mov %0, %%gs" : : "r"(0));
}

/* What is relative to GS after its selector was loaded. The base of the null segment is the processor's choice. */
static void bases(void) {
    static uint64_t there[4] = {11, 22, 33, 44};
    uint64_t value, base;
    syscall(SYS_arch_prctl, ARCH_SET_GS, there);
    __asm__ volatile("mov %%gs:8, %0" : "=r"(value));
    printf("gs: %lu, selector %x\n", (unsigned long)value, selector_of(4));
    uint64_t sum = 0;
    for (unsigned i = 0; i < 20000; i++) {
        __asm__ volatile("mov %2, %%gs; mov %%gs:(%1), %0" : "=r"(value) : "r"(there + (i & 3)), "r"(0x2b));
        sum += value;
    }
    syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
    printf("flat: %lu, base %d\n", (unsigned long)sum, base == (uintptr_t)there);
    unsigned selector = 0x2b;
    __asm__ volatile("mov %0, %%gs; pushq %%gs; popq %%rax; mov %%eax, %0" : "+r"(selector) : : "rax");
    printf("pushed: %x\n", selector);
    __asm__ volatile("pushq $0x33; popq %gs");
    syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
    printf("popped: %x, base %lx\n", selector_of(4), (unsigned long)base);
    struct {
        uint32_t offset;
        uint16_t selector;
    } __attribute__((packed)) pointer = {0xdeadbeef, 0x2b}, wrong = {1, 0x1c};
    uint64_t offset = ~0ul;
    __asm__ volatile("lgs %1, %k0" : "+r"(offset) : "m"(pointer));
    printf("lgs: %lx %x\n", (unsigned long)offset, selector_of(4));
    offset = ~0ul;
    __asm__ volatile("lss %1, %k0" : "+r"(offset) : "m"(pointer));
    printf("lss: %lx %x\n", (unsigned long)offset, selector_of(2));
    offset = 5;
    TRY("lgs of no segment", __asm__ volatile("lgs %1, %k0" : "+r"(offset) : "m"(wrong)));
    printf("%lx %x\n", (unsigned long)offset, selector_of(4));
    syscall(SYS_arch_prctl, ARCH_SET_GS, there);
    printf("set again: %x\n", selector_of(4));
}

static void questions(void) {
    static const unsigned values[] = {0, 3, 0x2b, 0x28, 0x33, 0x32, 0x10, 0x18, 0x2f, 0x1234};
    for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
        unsigned limit = 7, rights = 7;
        unsigned char flags[4];
        __asm__ volatile("verr %w4; setz %0; verw %w4; setz %1; lsl %4, %2; setz %3"
                         : "=&q"(flags[0]), "=&q"(flags[1]), "+&r"(limit), "=&q"(flags[2])
                         : "r"(values[i]));
        __asm__ volatile("lar %2, %0; setz %1" : "+&r"(rights), "=&q"(flags[3]) : "r"(values[i]));
        printf("%x: %d %d %d %x %d %x\n", values[i], flags[0], flags[1], flags[2], limit, flags[3], rights & 0xffef00);
    }
}

__asm__(
    ".globl far_call, far_target, far_jumps, far_end\n"
    "far_call: mov %rsp, %r8; lcall *(%rdi)\n"
    "1: lea 1b(%rip), %r9; sub %r9, %rcx; sub %rdx, %r8\n"
    "mov %rax, (%rsi); mov %rcx, 8(%rsi); mov %r8, 16(%rsi); ret\n"
    "far_target: mov %rsp, %rdx; mov (%rsp), %ecx; mov 4(%rsp), %eax; lretl\n"
    "far_jumps: xor %eax, %eax\n"
    "2: lea 3f(%rip), %rcx; mov %ecx, (%rdi); ljmp *(%rdi); ud2\n"
    "3: add $3, %rax; dec %rsi; jnz 2b; ret\n"
    "far_end:\n");
extern const char far_call[], far_target[], far_jumps[], far_end[];

static void branches(void) {
    uint64_t result;
    unsigned before = 0, after = 0;
    /* retfq: rip, cs. */
    __asm__ volatile(
        "mov %%rsp, %%rcx; mov %%cs, %%eax; push %%rax; lea 1f(%%rip), %%rax; push %%rax; lretq; mov $1, %0; jmp 2f; 1: mov $2, %0; 2: sub %%rsp, %%rcx"
        : "=&r"(result), "=&c"(before)
        :
        : "rax", "memory");
    printf("retf: %lu %u\n", (unsigned long)result, before);
    __asm__ volatile(
        "mov %%rsp, %%rcx; sub $24, %%rsp; mov %%cs, %%eax; push %%rax; lea 1f(%%rip), %%rax; push %%rax; lretq $24; mov $1, %0; jmp 2f; 1: mov $2, %0; 2: sub %%rsp, %%rcx"
        : "=&r"(result), "=&c"(after)
        :
        : "rax", "memory");
    printf("retf 24: %lu %u\n", (unsigned long)result, after);
    /* iretq: rip, cs, flags, rsp, ss. */
    uint64_t flags;
    __asm__ volatile(
        "mov %%rsp, %%rcx; mov %%ss, %%eax; push %%rax; push %%rcx; push $0xcd7; mov %%cs, %%eax; push %%rax; lea 1f(%%rip), %%rax; push %%rax; iretq; "
        "mov $1, %0; jmp 2f; 1: pushfq; pop %1; mov $2, %0; 2: cld; sub %%rsp, %%rcx"
        : "=&r"(result), "=&r"(flags), "=&c"(after)
        :
        : "rax", "memory", "cc");
    printf("iret: %lu %lx %u\n", (unsigned long)result, (unsigned long)(flags & 0xcd5), after);
    /* Far calls and jumps through memory have 32 bits of an address. */
    char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (low == MAP_FAILED) perror("mmap"), exit(1);
    memcpy(low, far_call, far_end - far_call);
    const uint32_t target = (uint32_t)(uintptr_t)low + (far_target - far_call);
    struct {
        uint32_t offset;
        uint16_t selector;
    } __attribute__((packed)) pointer = {target, 0x33}, ring = {target, 0x30}, data = {target, 0x2b}, null = {target, 0}, none = {target, 0x7c};
    for (int i = 0; i < 3; i++) {
        uint64_t seen[3] = {0};
        ((void (*)(void *, uint64_t *))(uintptr_t)low)(i == 1 ? &ring : &pointer, seen);
        printf("callf: cs %lx, back %lx, stack %lu\n", (unsigned long)seen[0], (unsigned long)seen[1], (unsigned long)seen[2]);
    }
    uint64_t (*jumps)(void *, long) = (uint64_t(*)(void *, long))(uintptr_t)(low + (far_jumps - far_call));
    printf("jmpf: %lu\n", (unsigned long)jumps(&pointer, 5000));
    TRY("callf to data", __asm__ volatile("lcall *%0" : : "m"(data)));
    TRY("callf to null", __asm__ volatile("lcall *%0" : : "m"(null)));
    TRY("jmpf to nothing", __asm__ volatile("ljmp *%0" : : "m"(none)));
    TRY("retf to data", __asm__ volatile("push $0x2b; push $0; lretq"));
    TRY("retf to ring 0", __asm__ volatile("push $0x10; push $0; lretq"));
    TRY("iret to ring 0", __asm__ volatile("push $0x18; push $0; push $2; push $0x10; push $0; iretq"));
    TRY("iret with no stack", __asm__ volatile("push $0; push $0; push $2; push $0x33; push $0; iretq"));
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    registers();
    bases();
    questions();
    branches();
    return 0;
}
