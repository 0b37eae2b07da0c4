/* Process 1 and shell of a linux machine under test: answers lines. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void interrupt(int signal) { (void)signal, interrupted = 1; }

static void show(const char *path)
{
    char text[4096];
    int file = open(path, O_RDONLY);
    ssize_t size = file < 0 ? -1 : read(file, text, sizeof text);
    if (size < 0) printf("cannot read\n");
    else printf("%.*s", (int)size, text);
    if (file >= 0) close(file);
}

static void store(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || write(file, text, strlen(text)) < 0 || write(file, "\n", 1) < 0 || close(file) < 0) printf("cannot write\n");
    else printf("written\n");
}

static void flood(void)
{
    static char line[4096];
    memset(line, 'y', sizeof line);
    line[sizeof line - 1] = '\n';
    interrupted = 0;
    while (!interrupted) (void)!write(1, line, sizeof line);
    printf("\ninterrupted\n");
}

static void spin(void)
{
    unsigned long long i = 0;
    interrupted = 0;
    while (!interrupted) i++;
    printf("%s\n", i > 0 ? "spun" : "");
}

static void milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("at %lld\n", now.tv_sec * 1000LL + now.tv_nsec / 1000000);
}

/* What the agent runs. */
static int command(const char *text)
{
    if (strncmp(text, "big", 3) == 0) {
        size_t size = 1 << 20;
        char *bytes = malloc(size);
        memset(bytes, 'x', size);
        return write(1, bytes, size) < 0;
    }
    if (strncmp(text, "die", 3) == 0) raise(SIGKILL);
    printf("ran %s\n", text);
    return 7;
}

int main(int count, char **arguments)
{
    static char remembered[256] = "nothing";
    char line[256];
    setvbuf(stdout, NULL, _IONBF, 0);
    if (count == 3 && strcmp(arguments[1], "-c") == 0) return command(arguments[2]);
    setsid();
    ioctl(0, TIOCSCTTY, 0);
    signal(SIGINT, interrupt);
    for (;;) {
        struct winsize size;
        char *word, *rest;
        printf("> ");
        if (fgets(line, sizeof line, stdin) == NULL) {
            clearerr(stdin);
            continue;
        }
        word = strtok(line, " \n");
        rest = strtok(NULL, "\n");
        if (word == NULL) continue;
        if (strcmp(word, "show") == 0) show(rest);
        else if (strcmp(word, "store") == 0) store("/kept", rest);
        else if (strcmp(word, "flood") == 0) flood();
        else if (strcmp(word, "spin") == 0) spin();
        else if (strcmp(word, "sync") == 0) sync(), printf("synced\n");
        else if (strcmp(word, "time") == 0) milliseconds();
        else if (strcmp(word, "exit") == 0) return 0;
        else if (strcmp(word, "remember") == 0) snprintf(remembered, sizeof remembered, "%s", rest), printf("ok\n");
        else if (strcmp(word, "recall") == 0) printf("it was %s\n", remembered);
        else if (strcmp(word, "size") == 0) ioctl(0, TIOCGWINSZ, &size), printf("%d by %d\n", size.ws_col, size.ws_row);
        else if (strcmp(word, "second") == 0) {
            int other = open("/dev/ttyS1", O_RDWR | O_NOCTTY);
            (void)!write(other, "here\n", 5);
            size.ws_col = (unsigned short)read(other, line, sizeof line);
            printf("heard %.*s", size.ws_col, line);
            close(other);
        } else printf("what?\n");
    }
}
