/* Urgent data of TCP. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

static int in, out;
static volatile int signals;

static void on_signal(int number) {
    (void)number;
    signals++;
}

static void connect_both(int inline_) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    bind(listener, (void *)&address, sizeof address);
    listen(listener, 1);
    getsockname(listener, (void *)&address, &size);
    out = socket(AF_INET, SOCK_STREAM, 0);
    connect(out, (void *)&address, sizeof address);
    in = accept(listener, NULL, NULL);
    close(listener);
    setsockopt(in, SOL_SOCKET, SO_OOBINLINE, &inline_, sizeof inline_);
    fcntl(in, F_SETOWN, getpid());
    fcntl(in, F_SETFL, O_NONBLOCK);
}

static void say(const char *text, int flags) {
    if (send(out, text, strlen(text), flags) != (ssize_t)strlen(text)) perror("send");
    usleep(20000); /* on the host it goes through the network's code */
}

static void state(const char *when) {
    struct pollfd poll_ = {in, POLLIN | POLLPRI | POLLRDHUP, 0};
    int waiting = -1, mark = -1, except = 0;
    poll(&poll_, 1, 0);
    ioctl(in, FIONREAD, &waiting);
    ioctl(in, SIOCATMARK, &mark);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(in, &set);
    struct timeval now = {0, 0};
    except = select(in + 1, NULL, NULL, &set, &now);
    printf("%s: poll %x, waiting %d, mark %d, except %d, signals %d\n", when, poll_.revents, waiting, mark, except, signals);
}

static void get(int size, int flags) {
    char text[100] = {0};
    struct iovec part = {text, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t got = recvmsg(in, &message, flags);
    if (got < 0) printf("  receive %d, %x: %s\n", size, flags, strerrorname_np(errno));
    else printf("  receive %d, %x: %zd \"%s\", flags %x\n", size, flags, got, text, message.msg_flags);
}

static void session(int inline_) {
    printf("inline %d\n", inline_);
    connect_both(inline_);
    state("nothing");
    get(10, MSG_OOB);
    say("abc", MSG_OOB);
    state("abc");
    get(10, MSG_PEEK);
    get(1, MSG_OOB | MSG_PEEK);
    get(10, 0);
    state("at the mark");
    get(5, MSG_PEEK);
    get(10, MSG_OOB);
    get(10, MSG_OOB);
    state("taken");
    get(10, 0);
    state("read on");

    say("de", 0);
    say("x", MSG_OOB);
    say("fg", 0);
    state("dexfg");
    get(1, 0);
    get(10, 0);
    state("before x");
    get(1, MSG_PEEK);
    get(10, 0);
    state("behind x");
    get(1, MSG_OOB);
    get(10, 0);

    say("1", MSG_OOB);
    state("one");
    say("2", MSG_OOB);
    state("two");
    get(10, 0);
    get(10, 0);
    say("h3", MSG_OOB);
    say("i4", MSG_OOB);
    state("h3i4");
    get(1, MSG_OOB);
    get(10, 0);
    get(10, 0);
    say("end", MSG_OOB);
    get(0, MSG_OOB);
    shutdown(out, SHUT_WR);
    usleep(20000);
    state("shut");
    get(10, 0);
    get(10, MSG_OOB);
    get(10, 0);
    get(10, 0);
    close(in), close(out);
}

int main(void) {
    signal(SIGURG, on_signal);
    session(0);
    session(1);

    connect_both(0);
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLPRI};
    epoll_ctl(set, EPOLL_CTL_ADD, in, &event);
    printf("epoll: %d", epoll_wait(set, &event, 1, 0));
    say("normal", 0);
    printf(" %d", epoll_wait(set, &event, 1, 0));
    say("!", MSG_OOB);
    printf(" %d %x\n", epoll_wait(set, &event, 1, 1000), event.events);
    printf("owner %d", fcntl(in, F_GETOWN) == getpid());
    fcntl(in, F_SETOWN, -getpgrp());
    printf(" %d", fcntl(in, F_GETOWN) == -getpgrp());
    struct f_owner_ex owner = {F_OWNER_PID, getppid()};
    fcntl(in, F_SETOWN_EX, &owner);
    owner.pid = 0;
    fcntl(in, F_GETOWN_EX, &owner);
    printf(" %d %d\n", owner.type, owner.pid == getppid());
    return 0;
}
