/* POSIX message queues. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char name[64];

static void show(const char *what, long result) {
  printf("%s: %ld %s\n", what, result, result < 0 ? strerror(errno) : "");
}

static void show_attributes(const char *what, mqd_t queue) {
  struct mq_attr attributes;
  mq_getattr(queue, &attributes);
  printf("%s: flags %lx, %ld of %ld messages, %ld bytes\n", what, attributes.mq_flags, attributes.mq_curmsgs,
         attributes.mq_maxmsg, attributes.mq_msgsize);
}

static void receive(mqd_t queue) {
  char text[64] = "";
  unsigned priority = 99;
  errno = 0;
  ssize_t size = mq_receive(queue, text, sizeof text, &priority);
  printf("received: %zd %u %s %s\n", size, priority, text, strerror(errno));
}

static struct timespec in_milliseconds(long milliseconds) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  time.tv_nsec += milliseconds * 1000000;
  time.tv_sec += time.tv_nsec / 1000000000;
  time.tv_nsec %= 1000000000;
  return time;
}

static volatile sig_atomic_t told;
static int value;

static void handle(int signal, siginfo_t *info, void *context) {
  (void)context;
  told = signal;
  value = info->si_value.sival_int + (info->si_code == SI_MESGQ ? 1000 : 0) + (info->si_pid == getpid() ? 100 : 0);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int threads_told;

static void in_thread(union sigval given) {
  pthread_mutex_lock(&mutex);
  threads_told += given.sival_int;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&mutex);
}

static void notifications(mqd_t queue) {
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &action, 0);
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 7};
  show("notify", mq_notify(queue, &event));
  show("notify again", mq_notify(queue, &event));
  mq_send(queue, "one", 4, 0);
  printf("told: %d %d\n", told == SIGUSR1, value);
  told = 0;
  show("notify with a message there", mq_notify(queue, &event));
  mq_send(queue, "two", 4, 0);
  printf("told: %d\n", told);
  show("take back", mq_notify(queue, 0));
  receive(queue);
  receive(queue);
  memset(&event, 0, sizeof event);
  event.sigev_notify = SIGEV_THREAD;
  event.sigev_notify_function = in_thread;
  event.sigev_value.sival_int = 5;
  show("thread", mq_notify(queue, &event));
  mq_send(queue, "three", 6, 0);
  pthread_mutex_lock(&mutex);
  while (threads_told == 0) pthread_cond_wait(&changed, &mutex);
  printf("in a thread: %d\n", threads_told);
  pthread_mutex_unlock(&mutex);
  receive(queue);
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  snprintf(name, sizeof name, "/test-%d", getpid());
  show("none", mq_open(name, O_RDWR));
  show("bad name", mq_open("/a/b", O_RDWR | O_CREAT, 0600, 0));
  show("no slash", mq_open("a", O_RDWR | O_CREAT, 0600, 0));
  struct mq_attr attributes = {.mq_maxmsg = 0, .mq_msgsize = 32};
  show("no messages", mq_open(name, O_RDWR | O_CREAT, 0600, &attributes));
  attributes.mq_maxmsg = 3;
  mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0640, &attributes);
  printf("made: %d\n", queue >= 0);
  show("again", mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0640, &attributes));
  show_attributes("fresh", queue);
  show("low", mq_send(queue, "low", 4, 1));
  show("high", mq_send(queue, "high", 5, 9));
  show("low again", mq_send(queue, "low2", 5, 1));
  struct timespec soon = in_milliseconds(30);
  show("full", mq_timedsend(queue, "more", 5, 1, &soon));
  struct pollfd poll_for = {queue, POLLIN | POLLOUT, 0};
  int ready = poll(&poll_for, 1, 0);
  printf("poll: %d %x\n", ready, poll_for.revents);
  char line[128] = "";
  ssize_t size = read(queue, line, sizeof line);
  printf("read: %zd %s", size, line);
  attributes.mq_flags = O_NONBLOCK;
  mq_setattr(queue, &attributes, 0);
  show("would wait", mq_send(queue, "more", 5, 1));
  show_attributes("full", queue);
  receive(queue);
  receive(queue);
  receive(queue);
  receive(queue);
  char small[8];
  show("too small", mq_receive(queue, small, sizeof small, 0));
  show("too long", mq_send(queue, line, 33, 0));
  show("priority", mq_send(queue, line, 1, 32768));
  attributes.mq_flags = 0;
  mq_setattr(queue, &attributes, 0);
  struct timespec wrong = {.tv_nsec = -1};
  show("wrong time", mq_timedreceive(queue, line, sizeof line, 0, &wrong));
  soon = in_milliseconds(30);
  show("late", mq_timedreceive(queue, line, sizeof line, 0, &soon));
  notifications(queue);
  if (fork() == 0) {
    for (int i = 0; i < 20; i++) {
      char text[32];
      mq_send(queue, text, sprintf(text, "message %d", i) + 1, 0);
    }
    _exit(0);
  }
  for (int i = 0; i < 20; i++) {
    char text[64];
    ssize_t length = mq_receive(queue, text, sizeof text, 0);
    if (i % 7 == 0) printf("from the child: %zd %s\n", length, text);
  }
  wait(0);
  mqd_t reader = mq_open(name, O_RDONLY | O_NONBLOCK);
  show("a reader sends", mq_send(reader, "x", 1, 0));
  show("unlink", mq_unlink(name));
  show("unlink again", mq_unlink(name));
  show("still there", mq_send(queue, "x", 2, 0));
  receive(reader);
  show("close", mq_close(reader));
  show("closed", mq_close(reader));
  show("no queue", mq_send(0, "x", 1, 0));
  return 0;
}
