/* Signal handlers: arguments, masks, alternate stack, restart, queues, nesting, floating point. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t hits, value, nested, depth;
static char alternate[65536];
static sigjmp_buf back;

static void count(int signal) {
  (void)signal;
  hits++;
}

static void queued(int signal, siginfo_t *info, void *context) {
  (void)context;
  printf("queued %d code %d value %d mine %d\n", signal - SIGRTMIN, info->si_code, info->si_value.sival_int,
         info->si_pid == getpid());
}

static void on_stack(int signal, siginfo_t *info, void *context) {
  (void)signal;
  (void)info;
  char here;
  ucontext_t *uc = context;
  printf("alternate: %d, flags %d\n", &here > alternate && &here < alternate + sizeof alternate, uc->uc_stack.ss_flags & 1);
}

static void fault(int signal, siginfo_t *info, void *context) {
  (void)context;
  unsigned long at = signal == SIGSEGV ? (unsigned long)info->si_addr : info->si_addr != NULL;
  printf("fault %d code %d address %lx\n", signal, info->si_code, at);
  siglongjmp(back, 1);
}

static void skip(int signal, siginfo_t *info, void *context) {
  (void)signal;
  (void)info;
  ucontext_t *uc = context;
  uc->uc_mcontext.gregs[REG_RIP] += 2;
  uc->uc_mcontext.gregs[REG_RBX] = 77;
}

static void spoil(int signal) {
  (void)signal;
  volatile double x = 1e300;
  for (int i = 0; i < 20; i++) x = sqrt(x) * 3.3;
  value = (int)x;
}

static void nest(int signal) {
  depth++;
  if (depth > nested) nested = depth;
  if (signal == SIGUSR1) raise(SIGUSR2);
  depth--;
}

static void handle(int signal, void (*handler)(int), int flags) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaction(signal, &action, NULL);
}

static void inform(int signal, void (*handler)(int, siginfo_t *, void *), int flags) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handler;
  action.sa_flags = flags | SA_SIGINFO;
  sigaction(signal, &action, NULL);
}

static void after(int milliseconds) {
  struct itimerval timer = {{0, 0}, {0, milliseconds * 1000}};
  setitimer(ITIMER_REAL, &timer, NULL);
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  handle(SIGUSR1, count, 0);
  raise(SIGUSR1);
  kill(getpid(), SIGUSR1);
  printf("hits %d\n", hits);

  sigset_t set, old, pending;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, &old);
  raise(SIGUSR1);
  raise(SIGUSR1);
  sigpending(&pending);
  printf("blocked: hits %d pending %d\n", hits, sigismember(&pending, SIGUSR1));
  sigprocmask(SIG_SETMASK, &old, NULL);
  printf("unblocked: hits %d\n", hits);

  inform(SIGRTMIN, queued, 0);
  inform(SIGRTMIN + 1, queued, 0);
  sigfillset(&set);
  sigprocmask(SIG_BLOCK, &set, &old);
  for (int i = 0; i < 3; i++) {
    union sigval number = {.sival_int = i};
    sigqueue(getpid(), SIGRTMIN + 1, number);
    number.sival_int = i + 10;
    sigqueue(getpid(), SIGRTMIN, number);
  }
  sigprocmask(SIG_SETMASK, &old, NULL);

  stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
  sigaltstack(&stack, NULL);
  inform(SIGUSR2, on_stack, SA_ONSTACK);
  raise(SIGUSR2);

  inform(SIGSEGV, fault, SA_ONSTACK);
  inform(SIGFPE, fault, SA_ONSTACK);
  inform(SIGILL, fault, SA_ONSTACK);
  if (sigsetjmp(back, 1) == 0) *(volatile int *)0x10 = 1;
  if (sigsetjmp(back, 1) == 0) *(volatile int *)0xffff8000000000f0 = 1;
  if (sigsetjmp(back, 1) == 0) {
    volatile int zero = 0;
    __asm__ volatile("cltd\n\tidivl %0" ::"m"(zero), "a"(1) : "rdx");
    printf("not reached\n");
  }
  inform(SIGILL, skip, 0);
  uint64_t got = 0;
  __asm__ volatile("mov $1, %%rbx\n\tud2\n\tmov %%rbx, %0" : "=r"(got)::"rbx");
  printf("skipped: %lu\n", got);

  handle(SIGALRM, spoil, SA_RESTART);
  volatile double sum = 0;
  after(20);
  value = 0;
  for (int i = 1; value == 0; i++) sum += 1.0 / i / i * (i % 2 ? 1 : 0.5) * (value == 0);
  printf("floating point survives: %d\n", sum > 1.2 && sum < 1.6);

  handle(SIGALRM, count, SA_RESTART);
  int pipes[2];
  if (pipe(pipes) != 0) return 1;
  hits = 0;
  if (fork() == 0) {
    usleep(120000);
    _exit(write(pipes[1], "x", 1) != 1);
  }
  after(30);
  char byte;
  printf("restarted read: %zd\n", read(pipes[0], &byte, 1));
  printf("hits %d\n", hits);
  wait(NULL);
  handle(SIGALRM, count, 0);
  after(30);
  ssize_t got_bytes = read(pipes[0], &byte, 1);
  printf("interrupted read: %zd %s\n", got_bytes, strerror(errno));
  handle(SIGALRM, count, SA_RESTART);
  after(30);
  struct timespec sleep = {10, 0}, left = {0, 0};
  int slept = nanosleep(&sleep, &left);
  printf("nanosleep: %d %s, left %d\n", slept, strerror(errno), left.tv_sec == 9);

  handle(SIGUSR1, nest, 0);
  handle(SIGUSR2, nest, 0);
  raise(SIGUSR1);
  printf("nested: %d\n", nested);
  handle(SIGUSR1, count, SA_RESETHAND);
  hits = 0;
  raise(SIGUSR1);
  struct sigaction now;
  sigaction(SIGUSR1, NULL, &now);
  printf("reset: %d %d\n", hits, now.sa_handler == SIG_DFL);

  handle(SIGUSR1, count, 0);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, &old);
  if (fork() == 0) {
    usleep(30000);
    _exit(kill(getppid(), SIGUSR1));
  }
  hits = 0;
  int suspended = sigsuspend(&old);
  printf("sigsuspend: %d %s, hits %d\n", suspended, strerror(errno), hits);
  sigprocmask(SIG_SETMASK, NULL, &pending);
  printf("mask is back: %d\n", sigismember(&pending, SIGUSR1));
  wait(NULL);
  raise(SIGUSR1);
  siginfo_t info;
  struct timespec timeout = {0, 20000000};
  printf("sigtimedwait: %d\n", sigtimedwait(&set, &info, &timeout));
  int none = sigtimedwait(&set, &info, &timeout);
  printf("sigtimedwait: %d %s\n", none, strerror(errno));

  inform(SIGCHLD, queued, 0);
  handle(SIGCHLD, SIG_IGN, 0);
  if (fork() == 0) _exit(0);
  none = wait(NULL);
  printf("ignored children: %d %s\n", none, strerror(errno));
  return 0;
}
