/* Near branches to addresses that no program can have: below 0, and beyond 4 GiB. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static sigjmp_buf back;
static char *code;
static volatile uint64_t address, rip;
static volatile long counter;

static void on_signal(int number, siginfo_t *info, void *opaque) {
    ucontext_t *context = opaque;
    address = (uint64_t)(uintptr_t)info->si_addr - (uintptr_t)code;
    rip = (uint64_t)context->uc_mcontext.gregs[REG_RIP] - (uintptr_t)code;
    counter = context->uc_mcontext.gregs[REG_RCX];
    siglongjmp(back, number * 1000 + info->si_code);
}

static void run(const char *name, const char *bytes, int length, int displacement, long count) {
    memset(code, 0x90, 64);
    memcpy(code, bytes, length);
    memcpy(code + length, &displacement, 4);
    memcpy(code + length + 4, "\x48\xff\xc9\x75", 4); /* dec %rcx; jnz to the beginning; mov $7, %eax; ret */
    code[length + 8] = (char)-(length + 9);
    memcpy(code + length + 9, "\xb8\x07\0\0\0\xc3", 6);
    int got = sigsetjmp(back, 1);
    if (got == 0) {
        int result;
        __asm__ volatile("call *%2" : "=a"(result), "+c"(count) : "r"(code) : "cc", "memory", "rdx");
        printf("%s: back with %d, %ld left\n", name, result, count);
    } else {
        printf("%s: signal %d, code %d, address %lx, rip %lx, rcx %ld\n", name, got / 1000, got % 1000,
               (unsigned long)address, (unsigned long)rip, counter);
    }
}

static void at(uintptr_t place, int displacement) {
    code = mmap((void *)place, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (code == MAP_FAILED) perror("mmap"), exit(1);
    run("jmp", "\xe9", 1, displacement, 1);
    run("call", "\xe8", 1, displacement, 1);
    run("jz, not taken", "\x48\x85\xc9\x0f\x84", 5, displacement, 100000);           /* test %rcx, %rcx; jz */
    run("jz, taken", "\x48\x83\xf9\x01\x0f\x84", 6, displacement, 100000);           /* cmp $1, %rcx; jz */
    run("jz alone", "\x48\x83\xf9\x02\x90\x0f\x84", 7, displacement, 3);              /* cmp $2, %rcx; nop; jz */
    munmap(code, 4096);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    at(0x20000000, -0x70000000);
    at(0xc0000000, 0x60000000);
    return 0;
}
