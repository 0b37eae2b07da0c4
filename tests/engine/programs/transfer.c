/* sendfile to a socket that takes it in pieces: every byte comes once. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 1500007

static unsigned char byte_at(long at) { return (at * 31 + at / 4096) & 0xff; }

/* Reads slowly, in odd pieces; says how much came and whether it is right. */
static void check(int fd, long from) {
  static unsigned char buffer[70001];
  long at = from;
  ssize_t count;
  while ((count = read(fd, buffer, sizeof buffer)) > 0) {
    for (ssize_t i = 0; i < count; i++) {
      if (buffer[i] != byte_at(at + i)) {
        printf("wrong at %ld\n", at + i);
        exit(1);
      }
    }
    at += count;
  }
  printf("came: %ld\n", at - from);
  exit(0);
}

static void handle(int signal) { (void)signal; }

static void transfer(int file, const char *what, off_t start, int nonblocking, int signals) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) exit(1);
  fflush(stdout);
  if (fork() == 0) {
    close(pair[0]);
    check(pair[1], start);
  }
  close(pair[1]);
  if (nonblocking) fcntl(pair[0], F_SETFL, O_NONBLOCK);
  struct itimerval timer = {{0, 3000}, {0, 3000}}, never = {{0, 0}, {0, 0}};
  if (signals) setitimer(ITIMER_REAL, &timer, 0);
  off_t offset = start;
  long total = 0, calls = 0;
  while (total < SIZE - start) {
    ssize_t count = sendfile(pair[0], file, &offset, SIZE - start - total);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
      usleep(500);
      continue;
    }
    if (count <= 0) break;
    total += count;
    calls++;
    if (offset != start + total) printf("offset %ld, not %ld\n", (long)offset, (long)start + total);
  }
  if (signals) setitimer(ITIMER_REAL, &never, 0);
  close(pair[0]);
  int status;
  wait(&status);
  printf("%s: %ld sent, in one call: %d, reader %d\n", what, total, !nonblocking && !signals ? calls == 1 : -1, status);
}

int main(void) {
  char name[] = "/tmp/transfer-XXXXXX";
  int file = mkstemp(name);
  unlink(name);
  static unsigned char content[SIZE];
  for (long i = 0; i < SIZE; i++) content[i] = byte_at(i);
  if (write(file, content, SIZE) != SIZE) return 1;
  struct sigaction action = {.sa_handler = handle};
  sigaction(SIGALRM, &action, 0);
  transfer(file, "waiting", 0, 0, 0);
  transfer(file, "from the middle", 12345, 0, 0);
  transfer(file, "not waiting", 0, 1, 0);
  transfer(file, "interrupted", 0, 0, 1);
  return 0;
}
