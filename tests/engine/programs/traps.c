/* What a handler is told of a fault: code, address, vector, error code and CR2. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile uint64_t address, trap, error, cr2;
static volatile int number, code;
static char *base;

static uint64_t from_base(uint64_t at) { return at - (uintptr_t)base < 1 << 20 ? at - (uintptr_t)base : at; }

static void on_signal(int signal, siginfo_t *info, void *opaque) {
    ucontext_t *context = opaque;
    number = signal, code = info->si_code;
    address = from_base((uintptr_t)info->si_addr);
    trap = context->uc_mcontext.gregs[REG_TRAPNO];
    error = context->uc_mcontext.gregs[REG_ERR];
    cr2 = from_base(context->uc_mcontext.gregs[REG_CR2]);
    siglongjmp(back, 1);
}

#define FAULT(name, withAddress, ...)                                                                           \
    do {                                                                                                        \
        if (sigsetjmp(back, 1) == 0) {                                                                          \
            __VA_ARGS__;                                                                                        \
            printf("%s: no fault\n", name);                                                                     \
        } else {                                                                                                \
            printf("%s: signal %d, code %d, trap %lu, error %lx, cr2 %lx", name, number, code,                  \
                   (unsigned long)trap, (unsigned long)error, (unsigned long)cr2);                              \
            if (withAddress) printf(", address %lx", (unsigned long)address);                                   \
            printf("\n");                                                                                       \
        }                                                                                                       \
    } while (0)

int main(void) {
    stack_t other = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
    sigaltstack(&other, NULL);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (int i = 0; i < 5; i++) sigaction(signals[i], &action, NULL);
    base = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *there = base, *sealed = base + 8192, *empty = base + 16384, *file = base + 32768;
    mprotect(there, 4096, PROT_READ | PROT_WRITE);
    there[5] = 1;
    mprotect(there, 4096, PROT_READ);
    mprotect(sealed, 4096, PROT_READ | PROT_WRITE);
    sealed[5] = 1;
    mprotect(sealed, 4096, PROT_NONE);
    mprotect(empty, 4096, PROT_READ);
    int descriptor = memfd_create("short", 0);
    ftruncate(descriptor, 100);
    mmap(file, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, descriptor, 0);
    volatile int zero = 0;

    FAULT("null read", 1, (void)*(volatile char *)8);
    FAULT("null write", 1, *(volatile char *)16 = 1);
    FAULT("divide", 0, __asm__ volatile("xor %%edx, %%edx; divl %0" : : "m"(zero) : "eax", "edx"));
    FAULT("write to what is read-only", 1, *(volatile char *)(there + 7) = 1);
    FAULT("write to what was never there", 1, *(volatile char *)(empty + 7) = 1);
    FAULT("read of what is sealed", 1, (void)*(volatile char *)(sealed + 9));
    FAULT("fetch of data", 1, ((void (*)(void))(uintptr_t)there)());
    FAULT("fetch of nothing", 1, ((void (*)(void))0x100)());
    FAULT("the kernel's memory", 1, (void)*(volatile char *)0xffffffff80000000);
    FAULT("not canonical", 1, (void)*(volatile char *)0x1234567812345678);
    const uint64_t nowhere = 0x1234567812345678;
    FAULT("the stack by rbp", 1, __asm__ volatile("mov %0, %%rbp; mov 8(%%rbp), %%eax" : : "r"(nowhere) : "rax", "memory"));
    FAULT("not the stack, by rbp in fs", 1, __asm__ volatile("mov %0, %%rbp; mov %%fs:8(%%rbp), %%eax" : : "r"(nowhere) : "rax", "memory"));
    FAULT("not the stack, by r13", 1, __asm__ volatile("mov %0, %%r13; mov (%%r13), %%eax" : : "r"(nowhere) : "rax", "r13"));
    FAULT("the stack by rsp and an index", 1, __asm__ volatile("add %%eax, (%%rsp,%0)" : : "r"(nowhere) : "memory"));
    FAULT("not the stack, rbp as index", 1, __asm__ volatile("mov %0, %%rbp; movups (,%%rbp), %%xmm0" : : "r"(nowhere) : "memory"));
    FAULT("push", 1, __asm__ volatile("mov %0, %%rsp; push %%rax" : : "r"(nowhere) : "memory"));
    FAULT("push of what is not there", 1, __asm__ volatile("push (%0)" : : "r"(nowhere) : "memory"));
    FAULT("pop", 1, __asm__ volatile("mov %0, %%rsp; popfq" : : "r"(nowhere) : "memory"));
    FAULT("call", 1, __asm__ volatile("mov %0, %%rsp; call 1f; 1:" : : "r"(nowhere) : "memory"));
    FAULT("return", 1, __asm__ volatile("mov %0, %%rsp; ret" : : "r"(nowhere) : "memory"));
    FAULT("return to nowhere", 1, __asm__ volatile("push %0; ret" : : "r"(nowhere) : "memory"));
    FAULT("leave", 1, __asm__ volatile("mov %0, %%rbp; leave" : : "r"(nowhere) : "memory"));
    FAULT("beyond the file", 1, (void)*(volatile char *)(file + 4096));
    FAULT("write beyond the file", 1, *(volatile char *)(file + 4100) = 1);
    FAULT("ud2", 0, __asm__ volatile("ud2"));
    FAULT("int3", 0, __asm__ volatile("int3"));
    FAULT("hlt", 1, __asm__ volatile("hlt"));
    FAULT("single step", 0, __asm__ volatile("pushfq; orq $0x100, (%rsp); popfq; nop; nop"));
    FAULT("SSE", 0, {
        unsigned control = 0x1d80, old = 0x1f80;
        double a = 1, b = 0;
        __asm__ volatile("ldmxcsr %1; divsd %2, %0; ldmxcsr %3" : "+x"(a) : "m"(control), "x"(b), "m"(old));
    });
    FAULT("SSE overflow", 0, {
        unsigned control = 0x1b80, old = 0x1f80;
        double a = 1e308;
        __asm__ volatile("ldmxcsr %1; mulsd %0, %0; ldmxcsr %2" : "+x"(a) : "m"(control), "m"(old));
    });
    FAULT("SSE invalid", 0, {
        unsigned control = 0, old = 0x1f80;
        double a = -1;
        __asm__ volatile("ldmxcsr %1; sqrtsd %0, %0; ldmxcsr %2" : "+x"(a) : "m"(control), "m"(old));
    });
    FAULT("SSE precision", 0, {
        unsigned control = 0xf80, old = 0x1f80;
        double a = 1, b = 3;
        __asm__ volatile("ldmxcsr %1; divsd %2, %0; ldmxcsr %3" : "+x"(a) : "m"(control), "x"(b), "m"(old));
    });
    FAULT("x87", 0, {
        unsigned short control = 0x373;
        __asm__ volatile("fldcw %0; fldz; fld1; fdivp; fwait" : : "m"(control));
    });
    return 0;
}
