/* Policies and priorities: what is kept, what is refused. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void show(const char *what, long result) {
  printf("%s: %ld %s\n", what, result, result < 0 ? strerror(errno) : "");
}

static void show_policy(const char *what) {
  struct sched_param param = {-1};
  int policy = sched_getscheduler(0);
  sched_getparam(0, &param);
  printf("%s: policy %x, priority %d\n", what, policy, param.sched_priority);
}

/* The number of a thread counts as its process's. */
static void *in_thread(void *nothing) {
  pid_t tid = gettid();
  errno = 0;
  printf("nice of a thread: %d %s\n", getpriority(PRIO_PROCESS, tid), strerror(errno));
  printf("group and session: %d %d\n", getpgid(tid) == getpgrp(), getsid(tid) == getsid(0));
  show("group", setpgid(tid, 0));
  struct rlimit limit;
  show("limit", prlimit(tid, RLIMIT_NOFILE, 0, &limit));
  return nothing;
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  struct sched_param none = {0}, five = {5}, hundred = {100};
  show_policy("first");
  show("batch", sched_setscheduler(0, SCHED_BATCH, &none));
  show_policy("batch");
  show("batch with a priority", sched_setscheduler(0, SCHED_BATCH, &five));
  show("no policy", sched_setscheduler(0, 77, &none));
  show("fifo without", sched_setscheduler(0, SCHED_FIFO, &none));
  show("fifo with too much", sched_setscheduler(0, SCHED_FIFO, &hundred));
  show("negative", sched_setscheduler(0, -1, &none));
  show("nobody", sched_setscheduler(0x3ffffff, SCHED_OTHER, &none));
  show("negative thread", sched_getscheduler(-5));
  show("idle", sched_setscheduler(0, SCHED_IDLE | SCHED_RESET_ON_FORK, &none));
  show_policy("idle");
  if (fork() == 0) {
    show_policy("child");
    _exit(0);
  }
  wait(0);
  show("parameter", sched_setparam(0, &five));
  show("back", sched_setscheduler(0, SCHED_OTHER, &none));
  for (int policy = -1; policy <= 6; policy++) {
    errno = 0;
    int least = sched_get_priority_min(policy), most = sched_get_priority_max(policy);
    printf("policy %d: %d to %d %s\n", policy, least, most, strerror(errno));
  }
  unsigned long set[16] = {0};
  printf("affinity has room: %d\n", syscall(SYS_sched_getaffinity, 0, sizeof set, set) > 0);
  show("too small", syscall(SYS_sched_getaffinity, 0, 4, set));
  show("affinity of -1", syscall(SYS_sched_getaffinity, -1, sizeof set, set));
  memset(set, 0, sizeof set);
  show("no processor", syscall(SYS_sched_setaffinity, 0, sizeof set, set));
  printf("io priority: %ld\n", syscall(SYS_ioprio_get, 1, 0));
  show("best effort", syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 7));
  printf("io priority: %lx\n", syscall(SYS_ioprio_get, 1, 0));
  show("none with a level", syscall(SYS_ioprio_set, 1, 0, 1));
  show("class", syscall(SYS_ioprio_set, 1, 0, 4 << 13));
  show("whose", syscall(SYS_ioprio_set, 7, 0, 2 << 13));
  show("nobody's", syscall(SYS_ioprio_get, 1, 0x3ffffff));
  pthread_t other;
  pthread_create(&other, 0, in_thread, 0);
  pthread_join(other, 0);
  return 0;
}
