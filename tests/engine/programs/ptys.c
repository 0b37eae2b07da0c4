/* Pseudo terminals: names, settings, modes, job control, hang-up, packet mode. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* A call's result and the error that it left. */
static void say(const char *format, long result) { printf(format, result, result < 0 ? errno : 0); }

static void show(const char *label, const char *bytes, ssize_t n) {
  printf("%s %zd:", label, n);
  for (ssize_t i = 0; i < n; i++) printf(" %02x", (unsigned char)bytes[i]);
  printf("\n");
}

static void take(const char *label, int fd) {
  char buffer[256];
  struct pollfd f = {fd, POLLIN, 0};
  if (poll(&f, 1, 50) <= 0) {
    printf("%s: nothing\n", label);
    return;
  }
  errno = 0;
  ssize_t n = read(fd, buffer, sizeof buffer);
  if (n < 0) printf("%s: errno %d\n", label, errno);
  else show(label, buffer, n);
}

static void type(int master, const char *text) { write(master, text, strlen(text)); }

static void editing(int master, int slave) {
  type(master, "hellp\177o\n");
  usleep(10000);
  take("line", slave);
  take("echo", master);
  type(master, "one two\027three\025x\001\177\ty\177\177\n");
  usleep(10000);
  take("line", slave);
  take("echo", master);
  type(master, "a\026\003b\022\n");
  usleep(10000);
  take("literal", slave);
  take("echo", master);
  type(master, "part\004\004");
  usleep(10000);
  take("part", slave);
  take("end", slave);
  take("echo", master);
  int waiting;
  type(master, "12\n345\n");
  usleep(10000);
  ioctl(slave, FIONREAD, &waiting);
  printf("waiting %d\n", waiting);
  take("first", slave);
  tcflush(slave, TCIFLUSH);
  take("flushed", slave);
  take("echo", master);
  write(slave, "tab\tend\nx", 9);
  take("output", master);
}

static void modes(int master, int slave) {
  struct termios t, raw;
  tcgetattr(slave, &t);
  printf("flags %x %x %x %x\n", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag);
  show("cc", (char *)t.c_cc, 17);
  raw = t;
  cfmakeraw(&raw);
  raw.c_cc[VMIN] = 0;
  raw.c_cc[VTIME] = 1;
  tcsetattr(slave, TCSANOW, &raw);
  char c[8];
  printf("timed %zd\n", read(slave, c, 8));
  type(master, "\003\r");
  usleep(10000);
  take("raw", slave);
  raw.c_cc[VMIN] = 3;
  raw.c_cc[VTIME] = 0;
  tcsetattr(slave, TCSANOW, &raw);
  if (fork() == 0) {
    for (int i = 0; i < 3; i++) {
      usleep(10000);
      type(master, "k");
    }
    _exit(0);
  }
  printf("three %zd\n", read(slave, c, 8));
  wait(0);
  write(slave, "a\nb", 3);
  take("raw output", master);
  t.c_oflag |= XTABS;
  tcsetattr(slave, TCSAFLUSH, &t);
  write(slave, "ab\tc\n", 5);
  take("spaces", master);
  t.c_oflag &= ~XTABS;
  t.c_iflag |= IXON;
  tcsetattr(slave, TCSANOW, &t);
  type(master, "\023");
  usleep(10000);
  fcntl(slave, F_SETFL, O_NONBLOCK);
  say("stopped %ld errno %d\n", write(slave, "x", 1));
  type(master, "\021");
  usleep(10000);
  printf("going %zd\n", write(slave, "x", 1));
  take("after", master);
  fcntl(slave, F_SETFL, 0);
}

static void packets(int master, int slave) {
  int on = 1;
  ioctl(master, TIOCPKT, &on);
  write(slave, "data", 4);
  take("packet", master);
  tcflush(slave, TCIOFLUSH);
  take("flush", master);
  struct termios t;
  tcgetattr(slave, &t);
  t.c_iflag &= ~IXON;
  tcsetattr(slave, TCSANOW, &t);
  take("nostop", master);
  t.c_iflag |= IXON;
  tcsetattr(slave, TCSANOW, &t);
  take("dostop", master);
  on = 0;
  ioctl(master, TIOCPKT, &on);
}

static volatile int winch;
static void on_winch(int signal) { winch = signal; }

static void sessions(void) {
  int master;
  struct winsize size = {30, 100, 0, 0};
  int sync[2];
  pipe(sync);
  pid_t child = forkpty(&master, 0, 0, &size);
  if (child == 0) {
    close(sync[0]);
    struct winsize now;
    ioctl(0, TIOCGWINSZ, &now);
    dprintf(sync[1], "size %d %d tty %d\n", now.ws_row, now.ws_col, isatty(0));
    dprintf(sync[1], "group %d session %d\n", tcgetpgrp(0) == getpid(), tcgetsid(0) == getpid());
    int tty = open("/dev/tty", O_RDWR);
    dprintf(sync[1], "dev tty %d same %d\n", tty >= 0, tcgetpgrp(tty) == getpid());
    signal(SIGWINCH, on_winch);
    while (winch == 0) usleep(2000);
    ioctl(0, TIOCGWINSZ, &now);
    dprintf(sync[1], "winch %d %d\n", now.ws_row, now.ws_col);
    /* A job in the background reads and is stopped; in the foreground it goes on. */
    pid_t job = fork();
    if (job == 0) {
      setpgid(0, 0);
      char c = '?';
      ssize_t n = read(0, &c, 1);
      dprintf(sync[1], "job read %zd %c\n", n, c);
      pause();
      _exit(0);
    }
    setpgid(job, job);
    int status;
    waitpid(job, &status, WUNTRACED);
    dprintf(sync[1], "stopped %d by %d\n", WIFSTOPPED(status), WSTOPSIG(status));
    signal(SIGTTOU, SIG_IGN);
    tcsetpgrp(0, job);
    kill(-job, SIGCONT);
    dprintf(sync[1], "ready\n");
    waitpid(job, &status, WUNTRACED);
    dprintf(sync[1], "stopped %d by %d\n", WIFSTOPPED(status), WSTOPSIG(status));
    tcsetpgrp(0, getpid());
    tcsetpgrp(0, job);
    kill(-job, SIGCONT);
    dprintf(sync[1], "again\n");
    waitpid(job, &status, 0);
    dprintf(sync[1], "killed %d by %d\n", WIFSIGNALED(status), WTERMSIG(status));
    int foreign = tcsetpgrp(0, getpgid(getppid()));
    dprintf(sync[1], "foreign %d errno %d\n", foreign, errno);
    tcsetpgrp(0, getpid());
    signal(SIGHUP, SIG_DFL);
    dprintf(sync[1], "waiting\n");
    pause();
    _exit(0);
  }
  close(sync[1]);
  FILE *in = fdopen(sync[0], "r");
  char line[128];
  for (int i = 0; i < 3 && fgets(line, sizeof line, in); i++) fputs(line, stdout);
  usleep(20000);
  size.ws_row = 40;
  ioctl(master, TIOCSWINSZ, &size);
  while (fgets(line, sizeof line, in)) {
    fputs(line, stdout);
    if (strcmp(line, "ready\n") == 0) type(master, "q\n"), usleep(50000), type(master, "\032");
    if (strcmp(line, "again\n") == 0) usleep(50000), type(master, "\003");
    if (strcmp(line, "waiting\n") == 0) usleep(20000), close(master);
  }
  int status;
  waitpid(child, &status, 0);
  printf("leader %d by %d\n", WIFSIGNALED(status), WTERMSIG(status));
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  int master, slave;
  char name[64];
  openpty(&master, &slave, name, 0, 0);
  printf("name %s\n", strncmp(name, "/dev/pts/", 9) == 0 ? "ok" : name);
  printf("tty %d %d\n", isatty(slave), strcmp(ttyname(slave), name));
  editing(master, slave);
  modes(master, slave);
  packets(master, slave);
  close(slave);
  take("closed", master);
  slave = open(name, O_RDWR | O_NOCTTY);
  write(slave, "again", 5);
  take("again", master);
  close(master);
  char c;
  errno = 0;
  printf("hung up read %zd", read(slave, &c, 1));
  ssize_t n = write(slave, "x", 1);
  printf(" write %zd errno %d\n", n, errno);
  say("gone %ld errno %d\n", open(name, O_RDWR));
  sessions();
  return 0;
}
