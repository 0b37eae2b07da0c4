/* flock and fcntl locks between processes, and inotify. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A call's result and the error that it left. */
static void say(const char *format, long result) { printf(format, result, result < 0 ? errno : 0); }

static int lock(int fd, int command, int type, off_t start, off_t len) {
  struct flock l = {type, SEEK_SET, start, len, 0};
  int r = fcntl(fd, command, &l);
  if (command == F_GETLK)
    printf("getlk %d: %d %ld+%ld %d\n", r, l.l_type, (long)l.l_start, (long)l.l_len,
           l.l_type == F_UNLCK ? -1 : l.l_pid == getppid());
  return r;
}

static void whole(const char *name) {
  int a = open(name, O_RDWR | O_CREAT, 0600), b = open(name, O_RDWR);
  printf("ex %d", flock(a, LOCK_EX));
  say(" other %ld errno %d\n", flock(b, LOCK_SH | LOCK_NB));
  if (fork() == 0) {
    int c = open(name, O_RDWR);
    flock(c, LOCK_EX);
    printf("child has it\n");
    _exit(0);
  }
  usleep(30000);
  printf("parent lets go\n");
  flock(a, LOCK_UN);
  wait(0);
  printf("shared %d %d", flock(a, LOCK_SH), flock(b, LOCK_SH));
  say(" upgrade %ld errno %d\n", flock(a, LOCK_EX | LOCK_NB));
  close(a);
  close(b);
}

static void ranges(const char *name) {
  int fd = open(name, O_RDWR | O_CREAT, 0600);
  lock(fd, F_SETLK, F_WRLCK, 10, 10);
  lock(fd, F_SETLK, F_RDLCK, 30, 0);
  fflush(stdout);
  if (fork() == 0) {
    lock(fd, F_GETLK, F_WRLCK, 0, 0);
    lock(fd, F_GETLK, F_RDLCK, 25, 100);
    lock(fd, F_GETLK, F_WRLCK, 35, 1);
    int r = lock(fd, F_SETLK, F_WRLCK, 15, 1);
    printf("conflict %d errno %d\n", r, errno);
    printf("free %d\n", lock(fd, F_SETLK, F_WRLCK, 0, 10));
    fflush(stdout);
    usleep(60000);
    /* The parent waits for 0-9 by now: waiting for its 10-19 would never end. */
    r = lock(fd, F_SETLKW, F_WRLCK, 10, 1);
    printf("deadlock %d errno %d\n", r, errno);
    fflush(stdout);
    _exit(0);
  }
  usleep(30000);
  int r = lock(fd, F_SETLKW, F_WRLCK, 5, 1);
  printf("got it %d\n", r);
  wait(0);
  /* Closing any descriptor of the file gives the process's locks up. */
  close(open(name, O_RDONLY));
  fflush(stdout);
  if (fork() == 0) {
    lock(fd, F_GETLK, F_WRLCK, 0, 0);
    fflush(stdout);
    _exit(0);
  }
  wait(0);
  struct flock l = {F_WRLCK, SEEK_SET, 0, 5, 0};
  int other = open(name, O_RDWR);
  printf("ofd %d", fcntl(fd, F_OFD_SETLK, &l));
  r = fcntl(other, F_OFD_SETLK, &l);
  printf(" %d errno %d\n", r, errno);
  unlink(name);
}

static void watch(const char *directory) {
  char path[128], other[128];
  mkdir(directory, 0700);
  snprintf(path, sizeof path, "%s/file", directory);
  snprintf(other, sizeof other, "%s/moved", directory);
  int i = inotify_init1(IN_NONBLOCK);
  int w = inotify_add_watch(i, directory, IN_ALL_EVENTS & ~IN_ACCESS);
  printf("watch %d\n", w);
  int fd = open(path, O_CREAT | O_WRONLY, 0600);
  write(fd, "x", 1);
  write(fd, "y", 1);
  close(fd);
  chmod(path, 0644);
  rename(path, other);
  int f = inotify_add_watch(i, other, IN_DELETE_SELF | IN_ATTRIB | IN_ONESHOT);
  printf("watch %d\n", f);
  unlink(other);
  inotify_rm_watch(i, w);
  rmdir(directory);
  char buffer[4096];
  ssize_t n = read(i, buffer, sizeof buffer);
  unsigned cookie = 0;
  for (char *p = buffer; n > 0 && p < buffer + n;) {
    struct inotify_event *e = (void *)p;
    if (e->cookie && !cookie) cookie = e->cookie;
    printf("%d %x %d '%s'\n", e->wd, e->mask, e->cookie == cookie, e->len ? e->name : "");
    p += sizeof *e + e->len;
  }
  say("more %ld errno %d\n", read(i, buffer, sizeof buffer));
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  char name[64];
  snprintf(name, sizeof name, "/tmp/lock-%d", getpid());
  whole(name);
  ranges(name);
  snprintf(name, sizeof name, "/tmp/watch-%d", getpid());
  watch(name);
  return 0;
}
