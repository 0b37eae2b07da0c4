/* fork, vfork, execve, wait: statuses, orphans, process groups. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int shared = 1;

static void show(const char *what, int status) {
  if (WIFEXITED(status)) printf("%s: exit %d\n", what, WEXITSTATUS(status));
  else if (WIFSIGNALED(status)) printf("%s: signal %d\n", what, WTERMSIG(status));
  else if (WIFSTOPPED(status)) printf("%s: stopped %d\n", what, WSTOPSIG(status));
  else if (WIFCONTINUED(status)) printf("%s: continued\n", what);
  else printf("%s: %x\n", what, status);
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IONBF, 0);
  if (argc > 1) {
    printf("executed with %s, VAR=%s\n", argv[1], getenv("VAR") ? getenv("VAR") : "none");
    return 5;
  }
  int status;
  pid_t child = fork();
  if (child == 0) {
    shared = 2;
    _exit(shared + 40);
  }
  printf("waited: %d\n", waitpid(child, &status, 0) == child);
  show("child", status);
  printf("mine: %d\n", shared);

  child = vfork();
  if (child == 0) {
    shared = 3;
    _exit(1);
  }
  waitpid(child, &status, 0);
  show("vfork", status);
  printf("after vfork: %d\n", shared);

  setenv("VAR", "value", 1);
  child = fork();
  if (child == 0) {
    execl(argv[0], argv[0], "argument", (char *)NULL);
    _exit(99);
  }
  waitpid(child, &status, 0);
  show("execve", status);

  child = fork();
  if (child == 0) {
    execl("/nonexistent/program", "x", (char *)NULL);
    printf("execve failed: %s\n", strerror(errno));
    execl("/etc/passwd", "x", (char *)NULL);
    printf("execve failed: %s\n", strerror(errno));
    _exit(9);
  }
  waitpid(child, &status, 0);
  show("failed", status);

  char *spawned[] = {argv[0], "spawned", NULL};
  char *environment[] = {"VAR=spawn", NULL};
  int problem = posix_spawn(&child, argv[0], NULL, NULL, spawned, environment);
  waitpid(child, &status, 0);
  printf("posix_spawn: %d\n", problem);
  show("spawned", status);
  char *missing[] = {"none", NULL};
  printf("posix_spawn missing: %s\n", strerror(posix_spawn(&child, "/none", NULL, NULL, missing, environment)));

  int go[2];
  pipe(go);
  child = fork();
  if (child == 0) {
    char byte;
    raise(SIGSTOP);
    read(go[0], &byte, 1);
    _exit(7);
  }
  waitpid(child, &status, WUNTRACED);
  show("stop", status);
  kill(child, SIGCONT);
  waitpid(child, &status, WCONTINUED);
  show("continue", status);
  write(go[1], "x", 1);
  siginfo_t info;
  memset(&info, 0, sizeof info);
  waitid(P_PID, child, &info, WEXITED | WNOWAIT);
  printf("waitid: %d %d %d\n", info.si_pid == child, info.si_code, info.si_status);
  waitpid(child, &status, 0);
  show("stopped child", status);
  int none = wait(&status);
  printf("no children: %d %s\n", none, strerror(errno));

  child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  printf("nohang: %d\n", waitpid(child, &status, WNOHANG));
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  show("killed", status);

  child = fork();
  if (child == 0) {
    printf("own group: %d\n", setpgid(0, 0) == 0 && getpgrp() == getpid());
    printf("session of a leader: %s\n", setsid() < 0 ? strerror(errno) : "made");
    _exit(0);
  }
  waitpid(child, &status, 0);

  int pipes[2];
  if (pipe(pipes) != 0) return 1;
  child = fork();
  if (child == 0) {
    if (fork() == 0) {
      for (int i = 0; i < 1000 && getppid() == child; i++) usleep(1000);
      while (getppid() != 1 && getppid() == child) usleep(1000);
      char byte = 'o';
      if (write(pipes[1], &byte, 1) != 1) _exit(1);
      _exit(0);
    }
    _exit(0);
  }
  close(pipes[1]);
  waitpid(child, &status, 0);
  char byte = 0;
  ssize_t count = read(pipes[0], &byte, 1);
  printf("orphan wrote: %zd %c\n", count, byte);

  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = 8;
  setrlimit(RLIMIT_NOFILE, &limit);
  int last = 0;
  while (last >= 0) last = dup(0);
  printf("descriptors: %s\n", strerror(errno));
  return 3;
}
