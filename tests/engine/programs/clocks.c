/* Clocks and timers. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

static volatile int alarms, timers;

static void on_alarm(int signal) {
  (void)signal;
  alarms++;
}

static void on_timer(int signal, siginfo_t *info, void *context) {
  (void)signal;
  (void)context;
  if (info->si_code == SI_TIMER && info->si_value.sival_int == 9) timers++;
}

static double now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
  struct timespec sleep = {0, 300000000};
  nanosleep(&sleep, NULL);
  double slept = now(CLOCK_MONOTONIC) - start;
  printf("slept: %d\n", slept >= 0.3 && slept < 5);
  printf("little cpu: %d\n", now(CLOCK_PROCESS_CPUTIME_ID) - cpu < 0.2);
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += 0;
  until.tv_nsec += 30000000;
  if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
  printf("absolute: %d\n", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
  printf("reached: %d\n", now(CLOCK_MONOTONIC) >= until.tv_sec + until.tv_nsec / 1e9 - 1e-6);
  printf("real time: %d\n", time(NULL) > 1700000000 && now(CLOCK_REALTIME) - time(NULL) < 2);
  struct timespec resolution;
  clock_getres(CLOCK_MONOTONIC, &resolution);
  printf("resolution: %ld\n", resolution.tv_nsec);
  int wrong = clock_gettime(99, &resolution);
  printf("wrong clock: %d %s\n", wrong, strerror(errno));
  wrong = nanosleep(&(struct timespec){0, 1000000000}, NULL);
  printf("wrong time: %d %s\n", wrong, strerror(errno));

  signal(SIGALRM, on_alarm);
  struct itimerval timer = {{0, 10000}, {0, 10000}};
  setitimer(ITIMER_REAL, &timer, NULL);
  while (alarms < 4) pause();
  timer = (struct itimerval){0};
  struct itimerval old;
  setitimer(ITIMER_REAL, &timer, &old);
  printf("interval: %ld\n", (long)old.it_interval.tv_usec);
  alarm(100);
  printf("alarm: %u\n", alarm(0));

  struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO};
  sigaction(SIGRTMIN, &action, NULL);
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 9};
  timer_t id;
  timer_create(CLOCK_MONOTONIC, &event, &id);
  struct itimerspec spec = {{0, 5000000}, {0, 5000000}}, left;
  timer_settime(id, 0, &spec, NULL);
  while (timers < 3) pause();
  timer_gettime(id, &left);
  printf("timer: %ld %d\n", left.it_interval.tv_nsec, left.it_value.tv_nsec <= 5000000);
  printf("overrun: %d, deleted: %d\n", timer_getoverrun(id) >= 0, timer_delete(id));

  signal(SIGVTALRM, on_alarm);
  alarms = 0;
  timer = (struct itimerval){{0, 0}, {0, 120000}};
  setitimer(ITIMER_VIRTUAL, &timer, NULL);
  start = now(CLOCK_PROCESS_CPUTIME_ID);
  while (!alarms) {}
  printf("virtual: %d\n", now(CLOCK_PROCESS_CPUTIME_ID) - start >= 0.02);
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("usage: %d\n", usage.ru_utime.tv_usec + usage.ru_utime.tv_sec * 1000000 > 20000);
  struct tms ticks;
  printf("times: %d %ld\n", times(&ticks) > 0, sysconf(_SC_CLK_TCK));
  return 0;
}
