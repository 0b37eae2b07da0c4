/* What ipcs asks of System V IPC: every object by its place, what is in use, and /proc/sysvipc. Others may have objects, too. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <time.h>
#include <unistd.h>

static time_t begun;

union semun {
    int value;
    struct semid_ds *state;
    unsigned short *all;
    struct seminfo *info;
};

/* The row of the object, with names for what differs from run to run. */
static void row(const char *name, int id) {
    char path[64], line[512];
    sprintf(path, "/proc/sysvipc/%s", name);
    FILE *file = fopen(path, "r");
    if (!file) {
        printf("no %s\n", path);
        return;
    }
    fgets(line, sizeof line, file);
    printf("%s", line);
    while (fgets(line, sizeof line, file)) {
        if (atoi(line + 11) != id) continue;
        printf("%d", atoi(line));
        for (char *word = strtok(line + 22, " \n"); word; word = strtok(NULL, " \n")) {
            long value = atol(word);
            if (value == getpid()) printf(" me");
            else if (value >= begun && value <= begun + 600) printf(" now");
            else printf(" %s", word);
        }
        printf("\n");
    }
    fclose(file);
}

static void queues(void) {
    struct { long type; char text[8]; } message = {1, "one"};
    struct msginfo limits, used;
    struct msqid_ds state, found;
    int queue = msgget(IPC_PRIVATE, 0640);
    msgsnd(queue, &message, 4, 0);
    message.type = 2;
    msgsnd(queue, &message, 3, 0);
    msgsnd(queue, &message, 0, 0);
    printf("limits %d, used %d\n", msgctl(0, IPC_INFO, (void *)&limits) >= 0, msgctl(0, MSG_INFO, (void *)&used) >= 0);
    printf("msgmax %d msgmnb %d msgmni %d msgssz %d msgseg %d msgmap %d msgpool %d msgtql %d\n", limits.msgmax, limits.msgmnb,
           limits.msgmni, limits.msgssz, limits.msgseg, limits.msgmap, limits.msgpool, limits.msgtql);
    printf("in use: %d %d %d\n", used.msgpool >= 1, used.msgmap >= 2, used.msgtql >= 7);
    int last = msgctl(0, MSG_INFO, (void *)&used), times = 0;
    msgctl(queue, IPC_STAT, &state);
    for (int place = 0; place <= last; place++) {
        if (msgctl(place, MSG_STAT_ANY, &found) != queue) continue;
        times++;
        printf("by place: %lu messages, same %d\n", found.msg_qnum, !memcmp(&state, &found, sizeof state));
    }
    printf("found %d times\n", times);
    int behind = msgctl(last + 30000, MSG_STAT, &found);
    printf("behind all: %d %s\n", behind, strerror(errno));
    row("msg", queue);
    for (int place = 0; place < 4; place++) {
        errno = 0;
        long got = msgrcv(queue, &message, 8, place, MSG_COPY | IPC_NOWAIT);
        printf("copy %d: %ld %s, type %ld\n", place, got, strerror(errno), message.type);
    }
    long got = msgrcv(queue, &message, 8, 0, MSG_COPY);
    printf("copy and wait: %ld %s\n", got, strerror(errno));
    msgctl(queue, IPC_STAT, &state);
    printf("left: %lu\n", state.msg_qnum);
    msgctl(queue, IPC_RMID, NULL);
}

static void sets(void) {
    struct seminfo limits, used;
    struct semid_ds state, found;
    int set = semget(IPC_PRIVATE, 5, 0600);
    semctl(0, 0, IPC_INFO, (union semun){.info = &limits});
    int last = semctl(0, 0, SEM_INFO, (union semun){.info = &used}), times = 0;
    printf("semmni %d semmns %d semmsl %d semopm %d semvmx %d semmnu %d semmap %d semume %d semusz %d semaem %d\n", limits.semmni,
           limits.semmns, limits.semmsl, limits.semopm, limits.semvmx, limits.semmnu, limits.semmap, limits.semume, limits.semusz,
           limits.semaem);
    printf("in use: %d %d\n", used.semusz >= 1, used.semaem >= 5);
    semctl(set, 0, IPC_STAT, (union semun){.state = &state});
    for (int place = 0; place <= last; place++) {
        if (semctl(place, 0, SEM_STAT_ANY, (union semun){.state = &found}) != set) continue;
        times++;
        printf("by place: %lu semaphores, same %d\n", found.sem_nsems, !memcmp(&state, &found, sizeof state));
    }
    printf("found %d times\n", times);
    row("sem", set);
    semctl(set, 0, IPC_RMID);
}

static void segments(void) {
    struct shminfo limits;
    struct shm_info used;
    struct shmid_ds state, found;
    int segment = shmget(IPC_PRIVATE, 9000, 0600);
    char *there = shmat(segment, NULL, 0);
    there[0] = there[4096] = 1;
    shmctl(0, IPC_INFO, (void *)&limits);
    int last = shmctl(0, SHM_INFO, (void *)&used), times = 0;
    printf("shmmin %lu shmmni %lu shmseg %lu, at least a gibibyte %d\n", limits.shmmin, limits.shmmni, limits.shmseg, limits.shmmax >= 1 << 30);
    printf("in use: %d %d %d\n", used.used_ids >= 1, used.shm_tot >= 3, used.shm_rss >= 2);
    shmctl(segment, IPC_STAT, &state);
    for (int place = 0; place <= last; place++) {
        if (shmctl(place, SHM_STAT, &found) != segment) continue;
        times++;
        printf("by place: %zu bytes, same %d\n", found.shm_segsz, !memcmp(&state, &found, sizeof state));
    }
    printf("found %d times\n", times);
    printf("lock %d\n", shmctl(segment, SHM_LOCK, NULL));
    row("shm", segment);
    printf("unlock %d\n", shmctl(segment, SHM_UNLOCK, NULL));
    row("shm", segment);
    shmctl(segment, IPC_RMID, NULL);
    row("shm", segment);
    shmdt(there);
    printf("gone: %d\n", shmctl(segment, IPC_STAT, &state));
}

int main(void) {
    begun = time(NULL);
    queues();
    sets();
    segments();
    return 0;
}
