/* mmap, mprotect, mremap, brk, madvise, files mapped, stack growth, faults. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
static sigjmp_buf back;
static volatile int code;

static void fault(int signal, siginfo_t *info, void *context) {
  (void)context;
  code = signal * 100 + info->si_code;
  siglongjmp(back, 1);
}

static int touch(volatile char *at, int write) {
  code = 0;
  if (sigsetjmp(back, 1) == 0) {
    if (write) *at = 1;
    else (void)*at;
  }
  return code;
}

static int deep(int levels) {
  volatile char room[4096];
  memset((void *)room, levels, sizeof room);
  return levels == 0 ? room[17] : deep(levels - 1) + (room[9] == (char)levels);
}

int main(int argc, char **argv) {
  (void)argc;
  setvbuf(stdout, NULL, _IONBF, 0);
  struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);

  char *area = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(area, 7, 8 * PAGE);
  mprotect(area + PAGE, PAGE, PROT_READ);
  mprotect(area + 2 * PAGE, PAGE, PROT_NONE);
  printf("read-only: %d %d\n", touch(area + PAGE, 0), touch(area + PAGE, 1));
  printf("none: %d %d\n", touch(area + 2 * PAGE, 0), touch(area + 2 * PAGE, 1));
  mprotect(area + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE);
  printf("kept: %d %d\n", area[PAGE + 5], area[2 * PAGE + 5]);
  munmap(area + 3 * PAGE, PAGE);
  printf("unmapped: %d\n", touch(area + 3 * PAGE, 0));
  madvise(area + 4 * PAGE, PAGE, MADV_DONTNEED);
  printf("dropped: %d, next %d\n", area[4 * PAGE], area[5 * PAGE]);
  unsigned char there[4];
  char *fresh = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  fresh[PAGE] = 1;
  printf("mincore: %d", mincore(fresh, 4 * PAGE, there));
  printf(" %d%d%d%d\n", there[0] & 1, there[1] & 1, there[2] & 1, there[3] & 1);

  char *big = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  strcpy(big, "moved");
  strcpy(big + PAGE, "second");
  char *block = mmap(big + 2 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  char *moved = mremap(big, 2 * PAGE, 16 * PAGE, MREMAP_MAYMOVE);
  printf("mremap: %s %s %d\n", moved, moved + PAGE, moved[15 * PAGE]);
  if (block != MAP_FAILED) munmap(block, PAGE);
  moved = mremap(moved, 16 * PAGE, PAGE, 0);
  printf("shrunk: %s %d\n", moved, touch(moved + PAGE, 0));
  void *again = mmap(moved, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  printf("noreplace: %d %s\n", again == MAP_FAILED, strerror(errno));

  char *start = sbrk(0);
  printf("sbrk: %d\n", sbrk(100000) == start);
  memset(start, 3, 100000);
  printf("heap: %d\n", start[99999]);
  sbrk(-100000);
  printf("given back: %d\n", sbrk(0) == start);

  char name[] = "/tmp/mapped-XXXXXX";
  int file = mkstemp(name);
  char text[3 * PAGE / 2];
  memset(text, 'a', sizeof text);
  if (write(file, text, sizeof text) != sizeof text) return 1;
  char *mine = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  char *shared = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  mine[0] = 'p';
  shared[1] = 's';
  shared[PAGE] = 'S';
  char got[4];
  if (pread(file, got, 4, 0) != 4) return 1;
  printf("file: %.4s, private %.4s, tail %d\n", got, mine, mine[3 * PAGE / 2]);
  if (pwrite(file, "WXYZ", 4, 0) != 4) return 1;
  printf("after write: shared %.4s private %.4s\n", shared, mine);
  printf("behind the end: %d\n", touch(shared + 2 * PAGE, 0));
  pid_t child = fork();
  if (child == 0) {
    shared[2] = 'c';
    mine[2] = 'm';
    _exit(msync(shared, PAGE, MS_SYNC));
  }
  int status;
  waitpid(child, &status, 0);
  printf("child: %d shared %.4s private %.4s\n", status, shared, mine);
  unlink(name);
  char *ro = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, open("/etc/passwd", O_RDONLY), 0);
  printf("shared write of a read-only file: %d %s\n", ro == MAP_FAILED, strerror(errno));

  printf("deep: %d\n", deep(1200));
  unsigned char program[] = {0xb8, 42, 0, 0, 0, 0xc3};
  unsigned char *run = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(run, program, sizeof program);
  int first = ((int (*)(void))run)();
  run[1] = 43;
  printf("code written: %d %d\n", first, ((int (*)(void))run)());
  mprotect(run, PAGE, PROT_READ);
  code = 0;
  if (sigsetjmp(back, 1) == 0) ((int (*)(void))run)();
  printf("not executable: %d\n", code);
  printf("huge: %d\n", mmap(NULL, 1ul << 47, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);

  struct rlimit limit = {64 << 20, 64 << 20};
  child = fork();
  if (child == 0) {
    setrlimit(RLIMIT_AS, &limit);
    _exit(malloc(100 << 20) == NULL ? 11 : 12);
  }
  waitpid(child, &status, 0);
  printf("address space limit: %d\n", WEXITSTATUS(status));
  signal(SIGSEGV, SIG_DFL);
  fflush(stdout);
  if (strcmp(argv[0], "") != 0) *(volatile char *)8 = 1;
  return 0;
}
