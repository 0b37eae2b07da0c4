/* The machine's first process: signals reach it only where it handles, blocks or waits for them. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t handled;

static void handle(int signal) { handled = signal; }

/* From a child, as everybody else's would come. */
static void send(int signal) {
  pid_t child = fork();
  if (child == 0) _exit(kill(1, signal) == 0 ? 0 : 1);
  int status;
  while (waitpid(child, &status, 0) < 0) continue;
  printf("sent %d: %d\n", signal, WEXITSTATUS(status));
}

static int wait_for(const sigset_t *signals) {
  struct timespec most = {0, 50000000};
  siginfo_t info;
  int got = sigtimedwait(signals, &info, &most);
  return got;
}

int main(void) {
  setbuf(stdout, NULL);
  printf("I am %d\n", getpid());
  int mortal[] = {SIGTERM, SIGKILL, SIGHUP, SIGUSR1, SIGALRM, SIGSTOP, SIGTSTP};
  for (unsigned i = 0; i < sizeof mortal / sizeof *mortal; i++) send(mortal[i]);

  signal(SIGUSR2, handle);
  send(SIGUSR2);
  printf("handled %d\n", handled == SIGUSR2);

  sigset_t some, none;
  sigemptyset(&none);
  sigemptyset(&some);
  sigaddset(&some, SIGCHLD);
  sigaddset(&some, SIGTERM);
  sigprocmask(SIG_BLOCK, &some, NULL);
  send(SIGTERM);
  int first = wait_for(&some), second = wait_for(&some);
  printf("blocked ones wait: %d %d %d\n", first, second, wait_for(&some));

  send(SIGTERM);
  sigprocmask(SIG_SETMASK, &none, NULL);
  printf("unblocked, it is dropped\n");

  pid_t child = fork();
  if (child == 0) {
    if (fork() == 0) {
      while (getppid() != 1) usleep(1000);
      _exit(7);
    }
    _exit(0);
  }
  int sum = 0, status, count = 0;
  for (; count < 2 && waitpid(-1, &status, 0) > 0; count++) sum += WEXITSTATUS(status);
  printf("children and orphans: %d, %d\n", count, sum);
  fflush(stdout);
  *(volatile int *)8 = 1;
  return 0;
}
