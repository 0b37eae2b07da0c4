/* poll, select, epoll, eventfd, timerfd, signalfd and pidfd. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A call's result and the error that it left. */
static void say(const char *format, long result) { printf(format, result, result < 0 ? errno : 0); }

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void waiting(void) {
  int p[2];
  pipe(p);
  fd_set set;
  FD_ZERO(&set);
  FD_SET(p[0], &set);
  struct timeval tv = {0, 50000};
  double began = now();
  printf("select %d\n", select(p[0] + 1, &set, 0, 0, &tv));
  printf("left %ld.%06ld in time %d set %d\n", tv.tv_sec, tv.tv_usec, now() - began >= 0.05, FD_ISSET(p[0], &set));
  write(p[1], "x", 1);
  FD_ZERO(&set);
  FD_SET(p[0], &set);
  fd_set out;
  FD_ZERO(&out);
  FD_SET(p[1], &out);
  tv.tv_sec = 5;
  printf("select %d", select(p[1] + 1, &set, &out, 0, &tv));
  printf(" in %d out %d left %d\n", FD_ISSET(p[0], &set), FD_ISSET(p[1], &out), tv.tv_sec >= 4);
  close(40);  // below 64: what lies behind the end of a process's table is not looked at, and a table begins with 64
  FD_SET(40, &set);
  say("bad %ld errno %d\n", select(41, &set, 0, 0, &tv));
  struct pollfd f[4] = {{p[0], POLLIN | POLLOUT, 0}, {p[1], POLLOUT, 0}, {40, POLLIN, 0}, {-1, POLLIN, 5}};
  printf("poll %d", poll(f, 4, 1000));
  printf(" %d %d %d %d\n", f[0].revents, f[1].revents, f[2].revents, f[3].revents);
  close(p[1]);
  poll(f, 1, 0);
  printf("closed %d\n", f[0].revents);
}

static volatile int handled;
static void on_signal(int signal) { handled = signal; }

static void masks(void) {
  sigset_t block, none;
  sigemptyset(&none);
  sigemptyset(&block);
  sigaddset(&block, SIGUSR1);
  sigprocmask(SIG_BLOCK, &block, 0);
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &action, 0);
  raise(SIGUSR1);
  printf("held %d\n", handled);
  struct timespec long_time = {5, 0};
  int n = ppoll(0, 0, &long_time, &none);
  printf("ppoll %d errno %d handled %d\n", n, errno, handled);
  struct timeval tv = {5, 0};
  sigprocmask(SIG_UNBLOCK, &block, 0);
  if (fork() == 0) {
    usleep(100000);
    kill(getppid(), SIGUSR1);
    _exit(0);
  }
  n = select(0, 0, 0, 0, &tv);
  printf("select %d errno %d left %d\n", n, errno, tv.tv_sec == 4 && tv.tv_usec < 910000);
  wait(0);
  sigprocmask(SIG_BLOCK, &block, 0);
  handled = 0;
  raise(SIGUSR1);
  n = pselect(0, 0, 0, 0, &long_time, &none);
  printf("pselect %d errno %d handled %d\n", n, errno, handled);
  sigset_t after;
  sigprocmask(SIG_BLOCK, 0, &after);
  printf("blocked again %d\n", sigismember(&after, SIGUSR1));
  int e = epoll_create1(0);
  struct epoll_event ev;
  raise(SIGUSR1);
  n = epoll_pwait(e, &ev, 1, 5000, &none);
  printf("epoll_pwait %d errno %d\n", n, errno);
  sigprocmask(SIG_UNBLOCK, &block, 0);
}

static void epolls(void) {
  int e = epoll_create1(EPOLL_CLOEXEC), p[2];
  pipe2(p, O_NONBLOCK);
  struct epoll_event ev = {EPOLLIN, {.u64 = 0x123456789abcdef0}}, got[4];
  printf("add %d\n", epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev));
  say("twice %ld errno %d\n", epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev));
  printf("none %d\n", epoll_wait(e, got, 4, 0));
  write(p[1], "abc", 3);
  for (int i = 0; i < 2; i++) {
    int n = epoll_wait(e, got, 4, 1000);
    printf("level %d %x %lx\n", n, got[0].events, (long)got[0].data.u64);
  }
  ev.events = EPOLLIN | EPOLLET;
  epoll_ctl(e, EPOLL_CTL_MOD, p[0], &ev);
  printf("edge %d", epoll_wait(e, got, 4, 100));
  printf(" then %d", epoll_wait(e, got, 4, 20));
  write(p[1], "d", 1);
  printf(" new %d", epoll_wait(e, got, 4, 100));
  printf(" then %d\n", epoll_wait(e, got, 4, 20));
  ev.events = EPOLLIN | EPOLLONESHOT;
  epoll_ctl(e, EPOLL_CTL_MOD, p[0], &ev);
  printf("once %d", epoll_wait(e, got, 4, 100));
  printf(" then %d", epoll_wait(e, got, 4, 20));
  epoll_ctl(e, EPOLL_CTL_MOD, p[0], &ev);
  printf(" again %d\n", epoll_wait(e, got, 4, 100));
  int outer = epoll_create1(0);
  ev.events = EPOLLIN;
  epoll_ctl(e, EPOLL_CTL_MOD, p[0], &ev);
  printf("nest %d\n", epoll_ctl(outer, EPOLL_CTL_ADD, e, &ev));
  printf("nested %d\n", epoll_wait(outer, got, 4, 100));
  say("circle %ld errno %d\n", epoll_ctl(e, EPOLL_CTL_ADD, outer, &ev));
  struct pollfd f = {e, POLLIN, 0};
  printf("poll %d\n", poll(&f, 1, 0));
  close(p[0]);
  printf("closed %d\n", epoll_wait(e, got, 4, 20));
  int file = open("/proc/self/exe", O_RDONLY);
  say("file %ld errno %d\n", epoll_ctl(e, EPOLL_CTL_ADD, file, &ev));
  say("missing %ld errno %d\n", epoll_ctl(e, EPOLL_CTL_DEL, p[1], 0));
}

static void descriptors(void) {
  uint64_t value = 5;
  int e = eventfd(3, EFD_NONBLOCK);
  write(e, &value, 8);
  read(e, &value, 8);
  printf("eventfd %lu", value);
  say(" empty %ld errno %d\n", read(e, &value, 8));
  e = eventfd(2, EFD_SEMAPHORE);
  read(e, &value, 8);
  printf("semaphore %lu\n", value);
  int t = timerfd_create(CLOCK_MONOTONIC, 0);
  struct itimerspec spec = {{0, 20000000}, {0, 10000000}}, old;
  timerfd_settime(t, 0, &spec, 0);
  double began = now();
  read(t, &value, 8);
  uint64_t first = value;
  printf("timer %d after %d\n", first >= 1 && first <= 1 + (now() - began) / 0.02, now() - began >= 0.009);
  usleep(70000);
  read(t, &value, 8);
  // On a busy machine more time may pass, never less.
  printf("several %d\n", value + first >= 4 && value + first <= 1 + (now() - began) / 0.02);
  timerfd_gettime(t, &old);
  printf("interval %ld next %d\n", old.it_interval.tv_nsec, old.it_value.tv_nsec <= 20000000);
  memset(&spec, 0, sizeof spec);
  timerfd_settime(t, 0, &spec, 0);
  fcntl(t, F_SETFL, O_NONBLOCK);
  say("disarmed %ld errno %d\n", read(t, &value, 8));
  clock_gettime(CLOCK_REALTIME, &spec.it_value);
  spec.it_value.tv_sec -= 5;
  int r = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
  timerfd_settime(r, TFD_TIMER_ABSTIME, &spec, 0);
  printf("past %zd\n", read(r, &value, 8));

  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, 0);
  int s = signalfd(-1, &set, SFD_CLOEXEC);
  int epoll = epoll_create1(0);
  struct epoll_event ev = {EPOLLIN, {.fd = s}};
  epoll_ctl(epoll, EPOLL_CTL_ADD, s, &ev);
  pid_t child = fork();
  if (child == 0) {
    usleep(20000);
    kill(getppid(), SIGUSR2);
    usleep(20000);
    _exit(3);
  }
  int pidfd = syscall(SYS_pidfd_open, child, 0);
  for (int i = 0; i < 2; i++) {
    struct signalfd_siginfo info;
    int n = epoll_wait(epoll, &ev, 1, 2000);
    read(s, &info, sizeof info);
    printf("signal %d: %d from child %d status %d\n", n, info.ssi_signo, info.ssi_pid == (unsigned)child,
           info.ssi_signo == SIGCHLD ? info.ssi_status : 0);
  }
  struct pollfd f = {pidfd, POLLIN, 0};
  printf("pidfd %d %d\n", poll(&f, 1, 2000), f.revents);
  wait(0);
  say("dead %ld errno %d\n", syscall(SYS_pidfd_send_signal, pidfd, 0, 0, 0));
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  waiting();
  masks();
  epolls();
  descriptors();
  return 0;
}
