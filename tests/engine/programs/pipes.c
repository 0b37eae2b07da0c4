/* Pipes and FIFOs: atomic writes, EPIPE, sizes, non-blocking, opening order. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* A call's result and the error that it left. */
static void say(const char *format, long result) { printf(format, result, result < 0 ? errno : 0); }

static void on_pipe(int signal) { printf("signal %d\n", signal); }

static void sizes(void) {
  int p[2];
  pipe2(p, O_NONBLOCK);
  printf("size %d\n", fcntl(p[1], F_GETPIPE_SZ));
  printf("set %d\n", fcntl(p[1], F_SETPIPE_SZ, 5000));
  char block[4096];
  memset(block, 'x', sizeof block);
  long total = 0, n;
  while ((n = write(p[1], block, sizeof block)) > 0) total += n;
  printf("filled %ld errno %d\n", total, errno);
  int waiting;
  ioctl(p[0], FIONREAD, &waiting);
  printf("waiting %d\n", waiting);
  say("busy %ld errno %d\n", fcntl(p[1], F_SETPIPE_SZ, 4096));
  struct pollfd f = {p[1], POLLOUT, 0};
  printf("writable %d\n", poll(&f, 1, 0));
  read(p[0], block, 4096);
  printf("writable %d\n", poll(&f, 1, 0));
  close(p[0]);
  f.revents = 0;
  printf("poll %d revents %d\n", poll(&f, 1, 0), f.revents);
  signal(SIGPIPE, on_pipe);
  say("write %ld errno %d\n", write(p[1], "a", 1));
}

static void vectors(void) {
  int p[2];
  pipe(p);
  struct iovec out[3] = {{"ab", 2}, {"", 0}, {"cdef", 4}};
  printf("writev %zd\n", writev(p[1], out, 3));
  char a[3] = "", b[8] = "";
  struct iovec in[2] = {{a, 2}, {b, 7}};
  printf("readv %zd %s %s\n", readv(p[0], in, 2), a, b);
  say("lseek %ld errno %d\n", (long)lseek(p[0], 0, SEEK_CUR));
  say("pread %ld errno %d\n", pread(p[0], a, 1, 0));
}

/* A large write goes through while the reader takes its time; both sum up. */
static void large(void) {
  int p[2];
  pipe(p);
  if (fork() == 0) {
    close(p[0]);
    static char data[1000000];
    for (int i = 0; i < (int)sizeof data; i++) data[i] = i * 7;
    ssize_t n = write(p[1], data, sizeof data);
    _exit(n == sizeof data ? 0 : 1);
  }
  close(p[1]);
  unsigned long sum = 0, count = 0;
  unsigned char buffer[3001];
  ssize_t n;
  while ((n = read(p[0], buffer, sizeof buffer)) > 0)
    for (int i = 0; i < n; i++) sum = sum * 31 + buffer[i], count++;
  int status;
  wait(&status);
  printf("large %lu %lx status %d\n", count, sum, status);
}

static void fifo(void) {
  char name[64];
  snprintf(name, sizeof name, "/tmp/fifo-%d", getpid());
  mkfifo(name, 0600);
  say("alone %ld errno %d\n", open(name, O_WRONLY | O_NONBLOCK));
  pid_t child = fork();
  if (child == 0) {
    int fd = open(name, O_WRONLY);
    write(fd, "through", 7);
    _exit(0);
  }
  int fd = open(name, O_RDONLY);
  char text[16] = "";
  int n = read(fd, text, sizeof text);
  printf("fifo %d %s\n", n, text);
  wait(0);
  printf("end %zd\n", read(fd, text, 1));
  struct stat st;
  fstat(fd, &st);
  printf("type %o\n", st.st_mode & S_IFMT);
  close(fd);
  fd = open(name, O_RDONLY | O_NONBLOCK);
  struct pollfd f = {fd, POLLIN, 0};
  printf("quiet %d %d\n", poll(&f, 1, 0), f.revents);
  int w = open(name, O_WRONLY);
  close(w);
  printf("hung up %d %d\n", poll(&f, 1, 0), f.revents);
  unlink(name);
}

/* A handler interrupts a read without SA_RESTART, and not with it. */
static void on_alarm(int signal) { (void)signal; }

static void interrupted(void) {
  int p[2];
  char c;
  pipe(p);
  struct sigaction action = {.sa_handler = on_alarm};
  sigaction(SIGALRM, &action, 0);
  ualarm(20000, 0);
  say("read %ld errno %d\n", read(p[0], &c, 1));
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, 0);
  if (fork() == 0) {
    usleep(100000);
    write(p[1], "z", 1);
    _exit(0);
  }
  ualarm(20000, 0);
  ssize_t n = read(p[0], &c, 1);
  printf("read %zd %c\n", n, c);
  wait(0);
  /* A write that has moved something ends with it. */
  action.sa_flags = 0;
  sigaction(SIGALRM, &action, 0);
  static char data[100000];
  ualarm(20000, 0);
  printf("write %zd\n", write(p[1], data, sizeof data));
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  sizes();
  vectors();
  large();
  fifo();
  interrupted();
  return 0;
}
