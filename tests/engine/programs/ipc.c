/* System V shared memory and semaphores. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

union semun {
  int val;
  struct semid_ds *buf;
  unsigned short *array;
};

static int change(int set, int index, int by, int flags) {
  struct sembuf operation = {.sem_num = index, .sem_op = by, .sem_flg = flags};
  return semop(set, &operation, 1);
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  int segment = shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0600);
  char *memory = shmat(segment, NULL, 0);
  strcpy(memory + 5000, "parent");
  int set = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600);
  semctl(set, 0, SETVAL, (union semun){.val = 0});
  semctl(set, 1, SETVAL, (union semun){.val = 1});
  pid_t child = fork();
  if (child == 0) {
    printf("child sees %s\n", memory + 5000);
    strcpy(memory + 5000, "child");
    change(set, 1, -1, SEM_UNDO);
    change(set, 0, 1, 0);
    _exit(0);
  }
  change(set, 0, -1, 0);
  printf("parent sees %s\n", memory + 5000);
  waitpid(child, NULL, 0);
  printf("undone: %d\n", semctl(set, 1, GETVAL));
  int busy = change(set, 0, -1, IPC_NOWAIT);
  printf("busy: %d %s\n", busy, strerror(errno));
  struct timespec soon = {0, 20000000};
  struct sembuf take = {.sem_num = 0, .sem_op = -1};
  busy = semtimedop(set, &take, 1, &soon);
  printf("timeout: %d %s\n", busy, strerror(errno));
  unsigned short values[2] = {3, 4};
  semctl(set, 0, SETALL, (union semun){.array = values});
  memset(values, 0, sizeof values);
  semctl(set, 0, GETALL, (union semun){.array = values});
  printf("values: %d %d\n", values[0], values[1]);
  child = fork();
  if (child == 0) {
    int result = change(set, 0, -10, 0);
    printf("removed: %d %s\n", result, strerror(errno));
    _exit(0);
  }
  usleep(50000);
  semctl(set, 0, IPC_RMID);
  waitpid(child, NULL, 0);
  struct shmid_ds info;
  shmctl(segment, IPC_STAT, &info);
  printf("segment: %zu %d %o\n", info.shm_segsz, (int)info.shm_nattch, info.shm_perm.mode & 0777);
  shmctl(segment, IPC_RMID, NULL);
  printf("still there: %s\n", memory + 5000);
  printf("detached: %d\n", shmdt(memory));
  printf("gone: %d\n", shmat(segment, NULL, 0) == (void *)-1);
  return 0;
}
