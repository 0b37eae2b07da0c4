/* Threads: creation, joining, mutexes, conditions, thread-local data, robust locks, signals, exit of one and of all. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long counter;
static int turn;
static __thread int own = 5;
static pthread_mutex_t robust;
static volatile pthread_t handled_by;

static void *add(void *amount) {
  for (int i = 0; i < 20000; i++) {
    pthread_mutex_lock(&lock);
    counter += (long)amount;
    pthread_mutex_unlock(&lock);
  }
  own += (int)(long)amount;
  return (void *)(long)own;
}

static void *ping(void *parity) {
  for (int i = 0; i < 200; i++) {
    pthread_mutex_lock(&lock);
    while (turn % 2 != (int)(long)parity) pthread_cond_wait(&changed, &lock);
    turn++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}

static void *die_with_lock(void *unused) {
  pthread_mutex_lock(&robust);
  return unused;
}

static void *spin(void *stop) {
  while (!*(volatile int *)stop) {}
  return NULL;
}

static void on_signal(int signal) {
  (void)signal;
  handled_by = pthread_self();
}

static void *sleeper(void *unused) {
  for (;;) pause();
  return unused;
}

static void *cleanup_result(void *unused) {
  pthread_exit((void *)17);
  return unused;
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  pthread_t threads[8];
  for (long i = 0; i < 8; i++) pthread_create(&threads[i], NULL, add, (void *)(i + 1));
  long results = 0;
  for (int i = 0; i < 8; i++) {
    void *result;
    pthread_join(threads[i], &result);
    results += (long)result;
  }
  printf("counter %ld, results %ld, own %d\n", counter, results, own);

  pthread_create(&threads[0], NULL, ping, (void *)0);
  pthread_create(&threads[1], NULL, ping, (void *)1);
  pthread_join(threads[0], NULL);
  pthread_join(threads[1], NULL);
  printf("turns %d\n", turn);

  int stop = 0;
  pthread_create(&threads[0], NULL, spin, &stop);
  usleep(20000);
  stop = 1;
  printf("spinner joined: %d\n", pthread_join(threads[0], NULL));

  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&robust, &attributes);
  pthread_create(&threads[0], NULL, die_with_lock, NULL);
  pthread_join(threads[0], NULL);
  printf("robust: %s\n", strerror(pthread_mutex_lock(&robust)));
  pthread_mutex_consistent(&robust);
  pthread_mutex_unlock(&robust);

  pthread_mutexattr_t inherit;
  pthread_mutexattr_init(&inherit);
  pthread_mutexattr_setprotocol(&inherit, PTHREAD_PRIO_INHERIT);
  pthread_mutex_t pi;
  printf("pi: %d", pthread_mutex_init(&pi, &inherit));
  printf(" %d %d\n", pthread_mutex_lock(&pi), pthread_mutex_unlock(&pi));

  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += 20000000;
  if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
  pthread_mutex_lock(&lock);
  printf("timed wait: %s\n", strerror(pthread_cond_timedwait(&changed, &lock, &until)));
  pthread_mutex_unlock(&lock);

  signal(SIGUSR1, on_signal);
  pthread_create(&threads[0], NULL, sleeper, NULL);
  usleep(10000);
  pthread_kill(threads[0], SIGUSR1);
  while (!handled_by) usleep(1000);
  printf("handled by the thread: %d\n", pthread_equal(handled_by, threads[0]) != 0);
  pthread_cancel(threads[0]);
  void *result;
  pthread_join(threads[0], &result);
  printf("cancelled: %d\n", result == PTHREAD_CANCELED);
  pthread_create(&threads[0], NULL, cleanup_result, NULL);
  pthread_join(threads[0], &result);
  printf("pthread_exit: %ld\n", (long)result);

  sem_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  sem_init(shared, 1, 0);
  sem_init(shared + 4, 1, 0);
  volatile int *number = (int *)(shared + 1);
  pid_t child = fork();
  if (child == 0) {
    *number = 42;
    sem_post(shared);
    sem_wait(shared + 4);
    _exit(*number);
  }
  sem_wait(shared);
  printf("shared memory: %d\n", *number);
  *number = 43;
  sem_post(shared + 4);
  int status;
  waitpid(child, &status, 0);
  printf("child saw: %d\n", WEXITSTATUS(status));

  child = fork();
  if (child == 0) {
    pthread_create(&threads[0], NULL, sleeper, NULL);
    pthread_create(&threads[1], NULL, sleeper, NULL);
    exit(6);
  }
  waitpid(child, &status, 0);
  printf("exit with threads: %d\n", WEXITSTATUS(status));
  child = fork();
  if (child == 0) {
    pthread_create(&threads[0], NULL, sleeper, NULL);
    execl("/bin/sh", "sh", "-c", "exit 4", (char *)NULL);
  }
  waitpid(child, &status, 0);
  printf("execve with threads: %d\n", WEXITSTATUS(status));
  return 0;
}
