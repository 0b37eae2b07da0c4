/* CLONE_PIDFD, what an open file of /proc stays bound to, and /proc/net. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct arguments {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

static void wait_through(int fd, const char *what) {
  struct pollfd poll_for = {fd, POLLIN, 0};
  int ready = poll(&poll_for, 1, 5000);
  siginfo_t info;
  memset(&info, 0, sizeof info);
  int result = waitid(P_PIDFD, fd, &info, WEXITED);
  printf("%s: poll %d %x, waitid %d status %d, close on exec %d\n", what, ready, poll_for.revents, result,
         info.si_status, fcntl(fd, F_GETFD));
  close(fd);
}

static void pidfds(void) {
  int fd = -1;
  long pid = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &fd, 0, 0);
  if (pid == 0) _exit(5);
  wait_through(fd, "clone");
  struct arguments arguments = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&fd, .exit_signal = SIGCHLD};
  pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid == 0) {
    pause();
    _exit(6);
  }
  printf("signal: %ld\n", syscall(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0));
  wait_through(fd, "clone3");
  errno = 0;
  pid = syscall(SYS_clone, CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0, &fd, 0, 0);
  printf("at the thread's number: %ld %s\n", pid, strerror(errno));
  pid = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, 8, 0, 0);
  printf("nowhere: %ld %s\n", pid, strerror(errno));
  struct rlimit before, limit;
  getrlimit(RLIMIT_NOFILE, &before);
  limit = before;
  limit.rlim_cur = 3;
  setrlimit(RLIMIT_NOFILE, &limit);
  pid = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &fd, 0, 0);
  printf("no descriptor left: %ld %s\n", pid, strerror(errno));
  setrlimit(RLIMIT_NOFILE, &before);
  int none = wait(0);
  printf("children: %d %s\n", none, strerror(errno));
}

/* A directory of /proc names a process as a pidfd does. */
static void directories(void) {
  pid_t pid = fork();
  if (pid == 0) {
    pause();
    _exit(6);
  }
  char path[32];
  snprintf(path, sizeof path, "/proc/%d", pid);
  int fd = open(path, O_DIRECTORY), inside = openat(fd, "fd", O_DIRECTORY), other = open("/", O_DIRECTORY);
  printf("inside: %ld", syscall(SYS_pidfd_send_signal, inside, SIGTERM, 0, 0));
  printf(" %d, elsewhere: %ld", errno, syscall(SYS_pidfd_send_signal, other, SIGTERM, 0, 0));
  printf(" %d, signal: %ld\n", errno, syscall(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0));
  int status;
  waitpid(pid, &status, 0);
  printf("status %d", WTERMSIG(status));
  printf(", gone: %ld", syscall(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0));
  printf(" %d\n", errno);
  close(fd);
  close(inside);
  close(other);
}

/* When the machine was started does not depend on when that is asked. */
static void boot_time(void) {
  long first = 0, differing = 0;
  for (int i = 0; i < 12; i++) {
    long booted = -1;
    char line[256];
    FILE *stat = fopen("/proc/stat", "r");
    while (fgets(line, sizeof line, stat) != 0) sscanf(line, "btime %ld", &booted);
    fclose(stat);
    if (i == 0) first = booted;
    differing += booted != first;
    usleep(100000);
  }
  printf("boot time: %d, %ld others\n", first > 0, differing);
}

static void bound_at_open(const char *self) {
  int pipes[2];
  if (pipe(pipes) != 0) exit(1);
  if (fork() == 0) {
    char *const arguments[] = {(char *)self, "read", 0};
    char *const environment[] = {"NEW=1", 0};
    dup2(open("/proc/self/environ", O_RDONLY), 10);
    dup2(open("/proc/self/maps", O_RDONLY), 11);
    dup2(open("/proc/self/cmdline", O_RDONLY), 12);
    execve(self, arguments, environment);
    _exit(1);
  }
  wait(0);
}

static void read_bound(void) {
  for (int fd = 10; fd <= 12; fd++) {
    char text[4096];
    printf("read %d: %d\n", fd, read(fd, text, sizeof text) > 0);
  }
  char text[64];
  int fd = open("/proc/self/environ", O_RDONLY);
  ssize_t size = read(fd, text, sizeof text);
  printf("environment: %zd %s\n", size, text);
}

/* The lines of a file that have the words, without what differs from machine to machine. */
static void show_lines(const char *path, const char *words) {
  FILE *file = fopen(path, "r");
  if (file == 0) {
    printf("%s: %s\n", path, strerror(errno));
    return;
  }
  char line[512];
  while (fgets(line, sizeof line, file) != 0) {
    if (strstr(line, words) == 0) continue;
    char name[64], local[64], remote[64], state[8];
    if (sscanf(line, "%63s %63s %63s %7s", name, local, remote, state) == 4) {
      local[32] = remote[8] = 0;
      printf("%s: %s %s %s\n", path, local, remote, state);
    }
  }
  fclose(file);
}

static void sockets(void) {
  struct sockaddr_in address = {AF_INET, htons(0), {htonl(INADDR_LOOPBACK)}, {0}};
  socklen_t size = sizeof address;
  int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
  int udp = socket(AF_INET6, SOCK_DGRAM, 0);
  bind(server, (struct sockaddr *)&address, sizeof address);
  listen(server, 5);
  getsockname(server, (struct sockaddr *)&address, &size);
  char port[32];
  snprintf(port, sizeof port, "0100007F:%04X", ntohs(address.sin_port));
  FILE *file = fopen("/proc/net/tcp", "r");
  char line[512];
  for (int rows = 0; fgets(line, sizeof line, file) != 0; rows++) {
    if (rows == 0) printf("%s", line);
    char state[8], local[64], remote[64];
    if (rows == 0 || sscanf(line, "%*s %63s %63s %7s", local, remote, state) != 3) continue;
    if (strcmp(local, port) == 0) printf("listening: %s %s, %zu long\n", remote, state, strlen(line));
  }
  fclose(file);
  connect(client, (struct sockaddr *)&address, sizeof address);
  int accepted = accept(server, 0, 0);
  shutdown(client, SHUT_WR);
  int states = 0, sent = 0;
  file = fopen("/proc/self/net/tcp", "r");
  while (fgets(line, sizeof line, file) != 0) {
    char state[8], local[64], remote[64];
    if (sscanf(line, "%*s %63s %63s %7s", local, remote, state) != 3) continue;
    if (strcmp(local, port) == 0 && strcmp(state, "08") == 0) states |= 1;
    // FIN_WAIT1 until the other side has acknowledged it.
    if (strcmp(remote, port) == 0 && (strcmp(state, "04") == 0 || strcmp(state, "05") == 0)) sent = 1;
  }
  fclose(file);
  printf("half closed: %d %d\n", states, sent);
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(40123), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  printf("udp6: %d\n", bind(udp, (struct sockaddr *)&six, sizeof six));
  show_lines("/proc/net/udp6", ":9CBB");
  struct sockaddr_un name = {AF_UNIX, "\0proc-test"};
  int local = socket(AF_UNIX, SOCK_STREAM, 0);
  bind(local, (struct sockaddr *)&name, 2 + 10);
  listen(local, 1);
  file = fopen("/proc/net/unix", "r");
  while (fgets(line, sizeof line, file) != 0) {
    char *at = strchr(line, ' ');
    if (strstr(line, "proc-test") == 0 || at == 0) continue;
    unsigned references, protocol, flags, type, state;
    int end = 0;
    sscanf(at, "%X %X %X %X %X %*u %n", &references, &protocol, &flags, &type, &state, &end);
    printf("unix: %u %u %x %u %u %s", references, protocol, flags, type, state, at + end);
  }
  fclose(file);
  close(accepted);
}

int main(int count, char **arguments) {
  setvbuf(stdout, 0, _IONBF, 0);
  if (count > 1) {
    read_bound();
    return 0;
  }
  pidfds();
  directories();
  boot_time();
  bound_at_open(arguments[0]);
  sockets();
  show_lines("/proc/net/if_inet6", " lo");
  return 0;
}
