/* One page of shared memory mapped twice by a process: what is stored through one mapping is read through the other at once. */

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static volatile unsigned char *first, *second;
static int file;

static volatile unsigned char *map(int prot, int pages) {
    void *at = mmap(NULL, pages * PAGE, prot, MAP_SHARED, file, 0);
    if (at == MAP_FAILED) perror("mmap"), exit(1);
    return at;
}

static void turns(void) {
    unsigned sum = 0, wrong = 0;
    for (unsigned i = 0; i < 20000; i++) {
        volatile unsigned char *to = i & 1 ? first : second, *from = i & 1 ? second : first;
        to[i % PAGE] = (unsigned char)(i * 7);
        if (from[i % PAGE] != (unsigned char)(i * 7)) wrong++;
        sum = sum * 31 + from[(i * 5) % PAGE];
    }
    printf("turns: %u wrong, %u\n", wrong, sum);
}

/* Single instructions that need both pages at once. */
static void both(void) {
    memset((void *)first, 0, PAGE);
    for (int i = 0; i < 16; i++) first[i] = 'a' + i;
    const volatile unsigned char *from = first;
    volatile unsigned char *to = second + 8;
    __asm__ volatile("movsb; movsb; movsw; movsl; movsq" : "+S"(from), "+D"(to) : : "memory");
    printf("movs: %.32s\n", (const char *)first);
    from = first, to = second + 100;
    unsigned long count = 50;
    __asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    printf("rep movs: %.20s\n", (const char *)first + 100);
    *(volatile uint64_t *)(first + 200) = (uintptr_t)(second + 208);
    *(volatile uint64_t *)(first + 208) = 42;
    /* A stack that is the one mapping, pushing from the other. */
    uint64_t got;
    __asm__ volatile(
        "mov %%rsp, %%rbx; lea 4096(%1), %%rsp; push 208(%2); addq $1, 208(%1); pop %0; push %0; mov %%rbx, %%rsp"
        : "=&r"(got)
        : "r"(first), "r"(second)
        : "rbx", "memory");
    printf("push: %llu %llu %llu\n", (unsigned long long)got, (unsigned long long)*(volatile uint64_t *)(second + 208),
           (unsigned long long)*(volatile uint64_t *)(second + 4088));
    uint64_t old = 43;
    __asm__ volatile("lock cmpxchgq %2, (%1)" : "+a"(old) : "r"(second + 208), "r"(99ul) : "memory");
    printf("cmpxchg: %llu %llu\n", (unsigned long long)old, (unsigned long long)*(volatile uint64_t *)(first + 208));
}

/* A ring whose end continues at its beginning: the same pages twice, side by side. */
static void ring(void) {
    const int pages = 4, size = pages * PAGE;
    unsigned char *at = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int memory = memfd_create("ring", 0);
    ftruncate(memory, size);
    mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory, 0);
    mmap(at + size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory, 0);
    int pipes[2];
    pipe(pipes);
    unsigned position = 0, wrong = 0, next = 0, made = 0;
    for (int round = 0; round < 400; round++) {
        unsigned char out[3000];
        unsigned amount = 1 + (round * 977) % sizeof out;
        for (unsigned i = 0; i < amount; i++) out[i] = (unsigned char)(made++ * 13);
        write(pipes[1], out, amount);
        /* Read across the end: the head of the ring's first page comes through the second mapping. */
        unsigned here = position % size;
        if (read(pipes[0], at + here, amount) != (ssize_t)amount) wrong += 1000;
        for (unsigned i = 0; i < amount; i++) {
            if (at[(here + i) % size] != (unsigned char)(next * 13) || at[here + i] != (unsigned char)(next * 13)) wrong++;
            next++;
        }
        position += amount;
    }
    /* Nearly all of the ring from the middle of a page on: that page is written through both mappings by one call. */
    for (int i = 0; i < 5; i++) {
        static unsigned char all[4 * PAGE];
        for (int j = 0; j < size; j++) all[j] = (unsigned char)(j * 3 + i);
        struct iovec parts[2] = {{all, 5000}, {all + 5000, size - 5000}};
        writev(pipes[1], parts, 2);
        unsigned here = 1000 + i * 3000;
        if (read(pipes[0], at + here, size) != size) wrong += 1000;
        for (int j = 0; j < size; j++) wrong += at[(here + j) % size] != all[j];
    }
    printf("ring: %u wrong\n", wrong);
    close(pipes[0]), close(pipes[1]), close(memory);
    munmap(at, 2 * size);
}

/* Code that is written through one mapping and runs in the other. */
static void code(void) {
    volatile unsigned char *runs = map(PROT_READ | PROT_EXEC, 1);
    int sum = 0;
    for (int i = 0; i < 300; i++) {
        static const unsigned char text[] = {0xb8, 0, 0, 0, 0, 0xc3}; /* mov $0, %eax; ret */
        for (unsigned j = 0; j < sizeof text; j++) first[j] = text[j];
        first[1] = (unsigned char)i;
        sum += ((int (*)(void))(uintptr_t)runs)();
    }
    /* The code stores into its own page through the other mapping, and then runs what it has stored. */
    static const unsigned char self[] = {
        0xc6, 0x47, 0x05, 0x2a,             /* movb $42, 5(%rdi): the next instruction's operand */
        0xb8, 0x01, 0x00, 0x00, 0x00, 0xc3, /* mov $1, %eax; ret */
    };
    for (unsigned j = 0; j < sizeof self; j++) first[j] = self[j];
    /* What the first run returns is the processor's choice: nothing serialises. */
    ((int (*)(volatile unsigned char *))(uintptr_t)runs)(first);
    int again = ((int (*)(volatile unsigned char *))(uintptr_t)runs)(first);
    printf("code: %d %d\n", sum, again);
    munmap((void *)runs, PAGE);
}

static void *other(void *nothing) {
    (void)nothing;
    for (unsigned i = 0; i < 2000; i++) __atomic_fetch_add((volatile unsigned *)(second + 512), 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void threads(void) {
    *(volatile unsigned *)(first + 512) = 0;
    pthread_t thread;
    pthread_create(&thread, NULL, other, NULL);
    for (unsigned i = 0; i < 2000; i++) __atomic_fetch_add((volatile unsigned *)(first + 512), 1, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    printf("threads: %u\n", *(volatile unsigned *)(second + 512));
}

static void children(void) {
    first[700] = 0;
    for (int i = 0; i < 4; i++) {
        fflush(stdout);
        if (fork() == 0) {
            for (int j = 0; j < 10; j++) (j & 1 ? first : second)[700] += 1;
            _exit(second[700] == (i + 1) * 10 ? 0 : 1);
        }
        int status;
        wait(&status);
        printf("child: %d, %d %d\n", WEXITSTATUS(status), first[700], second[700]);
    }
}

static void segments(void) {
    int id = shmget(IPC_PRIVATE, PAGE, 0600 | IPC_CREAT);
    volatile int *one = shmat(id, NULL, 0), *two = shmat(id, NULL, 0), *view = shmat(id, NULL, SHM_RDONLY);
    int wrong = 0;
    for (int i = 0; i < 500; i++) {
        one[i % 100] = i;
        wrong += two[i % 100] != i || view[i % 100] != i;
        two[i % 100]++;
        wrong += one[i % 100] != i + 1;
    }
    printf("segment: %d wrong\n", wrong);
    shmctl(id, IPC_RMID, NULL);
    shmdt((void *)one), shmdt((void *)two), shmdt((void *)view);
}

/* mremap of no bytes makes a second mapping; a file's write() and what is mapped of it are one. */
static void doubled(void) {
    volatile char *one = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    volatile char *two = mremap((void *)one, 0, PAGE, MREMAP_MAYMOVE);
    if (two == MAP_FAILED) perror("mremap"), exit(1);
    strcpy((char *)one, "stored here");
    printf("mremap: %s\n", (const char *)two);
    two[0] = 'S';
    printf("mremap: %s\n", (const char *)one);
    pwrite(file, "by a call", 10, 900);
    printf("pwrite: %s %s\n", (const char *)first + 900, (const char *)second + 900);
    second[900] = 'B';
    char text[10];
    pread(file, text, 10, 900);
    printf("pread: %s %s\n", text, (const char *)first + 900);
    mprotect((void *)second, PAGE, PROT_NONE);
    first[900] = 'b';
    mprotect((void *)second, PAGE, PROT_READ);
    first[901] = 'Y';
    printf("mprotect: %s\n", (const char *)second + 900);
    first[902] = '-';
    printf("read-only: %s\n", (const char *)second + 900);
}

int main(void) {
    file = memfd_create("twice", 0);
    ftruncate(file, PAGE);
    first = map(PROT_READ | PROT_WRITE, 1);
    second = map(PROT_READ | PROT_WRITE, 1);
    turns();
    both();
    ring();
    threads();
    children();
    segments();
    first = map(PROT_READ | PROT_WRITE, 1);
    code();
    doubled();
    return 0;
}
