/* System V message queues. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
  long type;
  char text[9000];
} message;

static int send(int queue, long type, const char *text, int flags) {
  message.type = type;
  strcpy(message.text, text);
  return msgsnd(queue, &message, strlen(text) + 1, flags);
}

static void receive(const char *what, int queue, size_t room, long type, int flags) {
  memset(message.text, '.', 100);
  ssize_t size = msgrcv(queue, &message, room, type, flags);
  if (size < 0) printf("%s: %s\n", what, strerror(errno));
  else printf("%s: %zd bytes of type %ld: %.*s\n", what, size, message.type, (int)size, message.text);
}

static void show(const char *what, int result) {
  printf("%s: %d %s\n", what, result, result < 0 ? strerror(errno) : "");
}

static void state(const char *what, int queue) {
  struct msqid_ds info;
  if (msgctl(queue, IPC_STAT, &info) < 0) return show(what, -1);
  printf("%s: %lu messages, %lu of %lu bytes, mode %o, sent %d, received %d, sender %d\n", what, info.msg_qnum,
         info.__msg_cbytes, info.msg_qbytes, info.msg_perm.mode, info.msg_stime != 0, info.msg_rtime != 0,
         info.msg_lspid == getpid());
}

static void handle(int number) { (void)number; }

static void wait_until_it_sleeps(pid_t pid) {
  char name[50], state = 0;
  sprintf(name, "/proc/%d/stat", pid);
  while (state != 'S') {
    usleep(2000);
    FILE *file = fopen(name, "r");
    fscanf(file, "%*d (%*[^)]) %c", &state);
    fclose(file);
  }
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  show("no such key", msgget(0x7ebc0001, 0600));
  int queue = msgget(IPC_PRIVATE, IPC_CREAT | 0640);
  state("new", queue);
  show("send", send(queue, 3, "three", 0));
  show("send", send(queue, 1, "one", 0));
  show("send", send(queue, 2, "two", 0));
  show("send", send(queue, 3, "another three", 0));
  show("no type", send(queue, 0, "zero", 0));
  message.type = 1;
  show("too long", msgsnd(queue, &message, 8193, 0));
  show("negative", msgsnd(queue, &message, -1, 0));
  show("nowhere", msgsnd(queue, NULL, 1, 0));
  show("no queue", send(12345678, 1, "x", 0));
  state("four", queue);
  receive("too small", queue, 3, 3, 0);
  receive("cut", queue, 3, 3, MSG_NOERROR);
  receive("the least type up to 2", queue, 100, -2, 0);
  receive("any but 2", queue, 100, 2, MSG_EXCEPT);
  receive("the first", queue, 100, 0, 0);
  receive("none", queue, 100, 0, IPC_NOWAIT);
  state("empty", queue);

  memset(message.text, 'x', sizeof message.text);
  message.type = 7;
  show("large", msgsnd(queue, &message, 8192, 0));
  show("large", msgsnd(queue, &message, 8192, 0));
  show("full", msgsnd(queue, &message, 1, IPC_NOWAIT));
  show("nothing fits", msgsnd(queue, &message, 0, IPC_NOWAIT));
  pid_t child = fork();
  if (child == 0) {
    int sent = send(queue, 8, "from the child", 0);
    ssize_t received = msgrcv(queue, &message, 100, 9, 0);
    char text[100];
    strcpy(text, message.text);
    send(queue, 10, "it came", 0);
    ssize_t removed = msgrcv(queue, &message, 100, 9, 0);
    const char *reason = strerror(errno);
    usleep(100000);  // what the parent prints meanwhile comes first
    printf("child: %d, %zd %s, %zd %s\n", sent, received, text, removed, reason);
    _exit(0);
  }
  wait_until_it_sleeps(child);
  receive("makes room", queue, 1, 7, MSG_NOERROR);
  receive("from the child", queue, 100, 8, 0);
  show("to the child", send(queue, 9, "for the child", 0));
  receive("its answer", queue, 100, 10, 0);
  wait_until_it_sleeps(child);

  struct msqid_ds info;
  msgctl(queue, IPC_STAT, &info);
  info.msg_qbytes = 100;
  info.msg_perm.mode = 0600;
  show("set", msgctl(queue, IPC_SET, &info));
  state("set", queue);
  show("remove", msgctl(queue, IPC_RMID, NULL));
  waitpid(child, NULL, 0);
  receive("removed", queue, 100, 0, 0);
  show("removed", msgctl(queue, IPC_RMID, NULL));

  queue = msgget(IPC_PRIVATE, 0600);
  struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  ualarm(30000, 30000);
  receive("interrupted in spite of SA_RESTART", queue, 100, 0, 0);
  ualarm(0, 0);
  msgctl(queue, IPC_RMID, NULL);
  return 0;
}
