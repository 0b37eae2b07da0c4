/* UNIX sockets, and TCP and UDP on the loopback. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A call's result and the error that it left. */
static void say(const char *format, long result) { printf(format, result, result < 0 ? errno : 0); }

static void send_fd(int socket, int fd) {
  char control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec io = {"f", 1};
  struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(c), &fd, sizeof fd);
  printf("sendmsg %zd\n", sendmsg(socket, &m, 0));
}

static void receive_all(int socket) {
  char control[256], data[64] = "";
  struct iovec io = {data, sizeof data - 1};
  struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t n = recvmsg(socket, &m, 0);
  printf("recvmsg %zd '%s' flags %x control %zu\n", n, data, m.msg_flags, (size_t)m.msg_controllen);
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
    if (c->cmsg_type == SCM_RIGHTS) {
      int fd;
      memcpy(&fd, CMSG_DATA(c), sizeof fd);
      char text[32] = "";
      ssize_t got = read(fd, text, sizeof text - 1);
      printf("passed file gives %zd '%s'\n", got, text);
      close(fd);
    } else if (c->cmsg_type == SCM_CREDENTIALS) {
      struct ucred u;
      memcpy(&u, CMSG_DATA(c), sizeof u);
      printf("credentials pid %d uid %d gid %d\n", u.pid == getpid(), u.uid == getuid(), u.gid == getgid());
    }
  }
}

static void pairs(void) {
  int s[2], p[2];
  socketpair(AF_UNIX, SOCK_STREAM, 0, s);
  pipe(p);
  write(p[1], "in the pipe", 11);
  send_fd(s[0], p[0]);
  close(p[0]);
  close(p[1]);
  receive_all(s[1]);
  int on = 1;
  setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  write(s[0], "who", 3);
  receive_all(s[1]);
  struct ucred u;
  socklen_t len = sizeof u;
  getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &u, &len);
  printf("peer %d %d\n", u.pid == getpid(), (int)len);
  char b[16];
  write(s[0], "0123456789", 10);
  ssize_t peeked = recv(s[1], b, 4, MSG_PEEK);
  int waiting;
  ioctl(s[1], FIONREAD, &waiting);
  printf("peek %zd waiting %d\n", peeked, waiting);
  printf("all %zd\n", recv(s[1], b, 10, MSG_WAITALL));
  say("none %ld errno %d\n", recv(s[1], b, 10, MSG_DONTWAIT));
  shutdown(s[0], SHUT_WR);
  printf("end %zd\n", read(s[1], b, 1));
  write(s[1], "y", 1);
  printf("back %zd\n", read(s[0], b, 16));
  say("shut %ld errno %d\n", send(s[0], "x", 1, MSG_NOSIGNAL));
  close(s[1]);
  struct pollfd f = {s[0], POLLIN | POLLRDHUP, 0};
  poll(&f, 1, 0);
  printf("poll %x\n", f.revents);
  socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s);
  write(s[0], "first", 5);
  write(s[0], "second", 6);
  printf("packets %zd", recv(s[1], b, 3, MSG_TRUNC));
  printf(" %zd\n", recv(s[1], b, 16, 0));
  close(s[0]);
  printf("end %zd\n", recv(s[1], b, 16, 0));
  socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
  write(s[0], "", 0);
  write(s[0], "dg", 2);
  printf("datagrams %zd", read(s[1], b, 16));
  printf(" %zd\n", read(s[1], b, 16));
}

static socklen_t unix_name(struct sockaddr_un *a, const char *name) {
  memset(a, 0, sizeof *a);
  a->sun_family = AF_UNIX;
  strcpy(a->sun_path + (name[0] == '@'), name + (name[0] == '@'));
  if (name[0] != '@') return sizeof *a;
  return offsetof(struct sockaddr_un, sun_path) + strlen(name);
}

static void unix_server(const char *name) {
  struct sockaddr_un a, got;
  socklen_t len = unix_name(&a, name);
  int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
  int refused = connect(client, (void *)&a, len);
  printf("early %d errno %d\n", refused, errno);
  printf("bind %d", bind(server, (void *)&a, len));
  refused = connect(client, (void *)&a, len);
  printf(" not listening %d errno %d\n", refused, errno);
  listen(server, 1);
  printf("connect %d\n", connect(client, (void *)&a, len));
  int other = socket(AF_UNIX, SOCK_STREAM, 0);
  say("in use %ld errno %d\n", bind(other, (void *)&a, len));
  socklen_t got_len = sizeof got;
  int c = accept4(server, (void *)&got, &got_len, SOCK_CLOEXEC);
  printf("accept %d name %d\n", c >= 0, (int)got_len);
  got_len = sizeof got;
  getsockname(c, (void *)&got, &got_len);
  printf("name %d\n", (int)got_len == (int)len || got.sun_path[0] != 0);
  write(client, "hi", 2);
  char b[8];
  printf("read %zd\n", read(c, b, 8));
  close(server);
  int late = connect(other, (void *)&a, len);
  printf("late %d errno %d\n", late, errno);
  struct stat st;
  if (name[0] != '@') {
    stat(name, &st);
    printf("mode %o\n", st.st_mode);
    unlink(name);
  }
  close(c);
  close(client);
}

static int tcp_listener(int family, struct sockaddr_storage *a, socklen_t *len) {
  int server = socket(family, SOCK_STREAM, 0), on = 1;
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  memset(a, 0, sizeof *a);
  a->ss_family = family;
  if (family == AF_INET) ((struct sockaddr_in *)a)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  else ((struct sockaddr_in6 *)a)->sin6_addr = in6addr_loopback;
  *len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
  say("bind %ld errno %d\n", bind(server, (void *)a, *len));
  say("listen %ld errno %d\n", listen(server, 5));
  getsockname(server, (void *)a, len);
  return server;
}

/* A server on epoll answers some clients at once. */
static void tcp(int family) {
  struct sockaddr_storage a;
  socklen_t len;
  int server = tcp_listener(family, &a, &len);
  int epoll = epoll_create1(0);
  struct epoll_event ev = {EPOLLIN, {.fd = server}}, got[8];
  epoll_ctl(epoll, EPOLL_CTL_ADD, server, &ev);
  for (int i = 0; i < 3; i++) {
    if (fork() == 0) {
      int c = socket(family, SOCK_STREAM, 0), on = 1;
      if (connect(c, (void *)&a, len) != 0) _exit(1);
      setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      char text[100000], back[100000];
      memset(text, 'a' + i, sizeof text);
      if (write(c, text, sizeof text) != sizeof text) _exit(2);
      shutdown(c, SHUT_WR);
      size_t n = 0;
      ssize_t r;
      while ((r = read(c, back + n, sizeof back - n)) > 0) n += r;
      _exit(n == sizeof back && memcmp(text, back, n) == 0 ? 0 : 3);
    }
  }
  int open_clients = 0, served = 0;
  while (served < 3) {
    int n = epoll_wait(epoll, got, 8, 5000);
    if (n <= 0) break;
    for (int i = 0; i < n; i++) {
      int fd = got[i].data.fd;
      if (fd == server) {
        ev.data.fd = accept(server, 0, 0);
        epoll_ctl(epoll, EPOLL_CTL_ADD, ev.data.fd, &ev);
        open_clients++;
        continue;
      }
      char b[5000];
      ssize_t r = read(fd, b, sizeof b);
      if (r > 0) write(fd, b, r);
      else close(fd), served++;
    }
  }
  int ok = 0, status;
  for (int i = 0; i < 3; i++) wait(&status), ok += status == 0;
  printf("served %d of %d, %d content\n", served, open_clients, ok);
  int c = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
  say("connect %ld errno %d\n", connect(c, (void *)&a, len));
  struct pollfd f = {c, POLLOUT, 0};
  poll(&f, 1, 1000);
  int error = -1;
  socklen_t size = sizeof error;
  getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &size);
  printf("revents %x error %d\n", f.revents, error);
  struct sockaddr_storage peer;
  socklen_t plen = sizeof peer;
  getpeername(c, (void *)&peer, &plen);
  printf("peer %d\n", plen == len && memcmp(&peer, &a, len) == 0);
  close(server);
  close(c);
  c = socket(family, SOCK_STREAM, 0);
  say("refused %ld errno %d\n", connect(c, (void *)&a, len));
  int server2 = tcp_listener(family, &a, &len);
  int d = socket(family, SOCK_STREAM, 0);
  connect(d, (void *)&a, len);
  int e = accept(server2, 0, 0);
  write(d, "unread", 6);
  usleep(10000);
  close(e);
  char b[8];
  usleep(10000);
  say("reset %ld errno %d\n", read(d, b, 8));
}

static void ended(int fd) {
  struct pollfd f = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};
  poll(&f, 1, 1000);
  struct sockaddr_storage name;
  socklen_t len = sizeof name;
  printf("revents %x", f.revents);
  say(", peer %ld errno %d\n", getpeername(fd, (void *)&name, &len));
}

/* A connection that is thrown away: what had come is read first, and it is none any more. */
static void resets(int family) {
  struct sockaddr_storage a;
  socklen_t len;
  struct linger now = {1, 0};
  char b[8];
  int server = tcp_listener(family, &a, &len);
  for (int abrupt = 0; abrupt < 2; abrupt++) {
    int c = socket(family, SOCK_STREAM, 0);
    connect(c, (void *)&a, len);
    int s = accept(server, 0, 0);
    if (abrupt) setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    write(c, "data", 4);
    close(c);
    usleep(10000);
    ended(s);
    say("data %ld errno %d\n", read(s, b, 8));
    say("then %ld errno %d\n", read(s, b, 8));
    say("then %ld errno %d\n", read(s, b, 8));
    ended(s);
    say("send %ld errno %d\n", send(s, "x", 1, MSG_NOSIGNAL));
    usleep(10000);
    ended(s);
    say("send %ld errno %d\n", send(s, "x", 1, MSG_NOSIGNAL));
    ended(s);
    say("shutdown %ld errno %d\n", shutdown(s, SHUT_WR));
    close(s);
  }
  close(server);
}

static void udp(void) {
  int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in name = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}}, from;
  bind(a, (void *)&name, sizeof name);
  socklen_t len = sizeof name;
  getsockname(a, (void *)&name, &len);
  printf("sendto %zd\n", sendto(b, "datagram", 8, 0, (void *)&name, len));
  char text[32] = "";
  len = sizeof from;
  ssize_t n = recvfrom(a, text, 4, MSG_TRUNC, (void *)&from, &len);
  printf("recvfrom %zd %s from loopback %d\n", n, text, from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
  printf("answer %zd\n", sendto(a, "yes", 3, 0, (void *)&from, len));
  printf("read %zd\n", recv(b, text, 32, 0));
  close(a);
  connect(b, (void *)&name, sizeof name);
  send(b, "x", 1, 0);
  usleep(10000);
  say("gone %ld errno %d\n", recv(b, text, 32, MSG_DONTWAIT));
  struct timeval tv = {0, 30000};
  setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
  say("timeout %ld errno %d\n", recv(b, text, 32, 0));
}

static void options(void) {
  int s = socket(AF_INET, SOCK_STREAM, 0), v;
  socklen_t len = sizeof v;
  int asked[][2] = {{SOL_SOCKET, SO_TYPE}, {SOL_SOCKET, SO_DOMAIN}, {SOL_SOCKET, SO_PROTOCOL},
                    {SOL_SOCKET, SO_ACCEPTCONN}, {SOL_SOCKET, SO_KEEPALIVE}, {IPPROTO_TCP, TCP_NODELAY},
                    {IPPROTO_IP, IP_TTL}, {SOL_SOCKET, SO_REUSEADDR}};
  for (int i = 0; i < 8; i++) {
    getsockopt(s, asked[i][0], asked[i][1], &v, &len);
    printf("%d ", v);
  }
  v = 10000;
  setsockopt(s, SOL_SOCKET, SO_RCVBUF, &v, sizeof v);
  getsockopt(s, SOL_SOCKET, SO_RCVBUF, &v, &len);
  printf("buffer %d\n", v);
  say("unknown %ld errno %d\n", getsockopt(s, SOL_SOCKET, 9999, &v, &len));
  say("not a socket %ld errno %d\n", getsockopt(0, SOL_SOCKET, SO_TYPE, &v, &len));
  struct addrinfo hints = {.ai_flags = AI_ADDRCONFIG, .ai_socktype = SOCK_STREAM}, *found;
  int r = getaddrinfo("127.0.0.1", "80", &hints, &found);
  printf("getaddrinfo %d family %d\n", r, r == 0 ? found->ai_family : 0);
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  signal(SIGPIPE, SIG_IGN);
  char name[64];
  pairs();
  snprintf(name, sizeof name, "/tmp/socket-%d", getpid());
  unix_server(name);
  snprintf(name, sizeof name, "@abstract-%d", getpid());
  unix_server(name);
  tcp(AF_INET);
  tcp(AF_INET6);
  resets(AF_INET);
  resets(AF_INET6);
  udp();
  options();
  return 0;
}
