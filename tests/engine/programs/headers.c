// Control messages of IP and IPv6, and UDP-Lite, on the loopback.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPPROTO_UDPLITE
#define IPPROTO_UDPLITE 136
#endif
#define SEND_CSCOV 10

static void say(const char *what, long result) {
  printf("%s %ld errno %d\n", what, result, result < 0 ? errno : 0);
}

static int bound(int family, int protocol, struct sockaddr_storage *name, socklen_t *len) {
  int fd = socket(family, SOCK_DGRAM, protocol);
  memset(name, 0, sizeof *name);
  name->ss_family = family;
  *len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
  if (family == AF_INET) ((struct sockaddr_in *)name)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  else ((struct sockaddr_in6 *)name)->sin6_addr = in6addr_loopback;
  if (bind(fd, (void *)name, *len) < 0) perror("bind");
  getsockname(fd, (void *)name, len);
  return fd;
}

static void receive(int fd, size_t room) {
  char text[32], control[256];
  struct iovec part = {text, sizeof text};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = room};
  memset(control, 0x55, sizeof control);
  ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);
  if (n < 0) {
    say("recvmsg", n);
    return;
  }
  printf("%zd bytes, flags %x, control %zu:", n, message.msg_flags, message.msg_controllen);
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
    printf(" %d/%d[", c->cmsg_level, c->cmsg_type);
    for (size_t i = 0; i < c->cmsg_len - CMSG_LEN(0); i++) printf("%02x", CMSG_DATA(c)[i]);
    printf("]");
  }
  printf("\n");
}

struct wish {
  int level, type;
  size_t size;
  int value;
};

static void sends(int fd, void *to, socklen_t len, const struct wish *wishes, int count) {
  char control[256];
  memset(control, 0, sizeof control);
  struct iovec part = {"message", 7};
  struct msghdr message = {to, len, &part, 1, control, 0, 0};
  size_t at = 0;
  for (int i = 0; i < count; i++) {
    struct cmsghdr *c = (void *)(control + at);
    c->cmsg_level = wishes[i].level;
    c->cmsg_type = wishes[i].type;
    c->cmsg_len = CMSG_LEN(wishes[i].size);
    memcpy(CMSG_DATA(c), &wishes[i].value, wishes[i].size < 4 ? wishes[i].size : 4);
    at += CMSG_SPACE(wishes[i].size);
  }
  message.msg_controllen = at;
  say("sendmsg", sendmsg(fd, &message, 0));
}

static void set(int fd, int level, int name, int value) {
  if (setsockopt(fd, level, name, &value, sizeof value) < 0) perror("setsockopt");
}

static void four(int protocol) {
  struct sockaddr_storage name;
  socklen_t len;
  int a = bound(AF_INET, protocol, &name, &len), b = socket(AF_INET, SOCK_DGRAM, protocol);
  set(a, IPPROTO_IP, IP_PKTINFO, 1);
  set(a, IPPROTO_IP, IP_RECVTTL, 1);
  set(a, IPPROTO_IP, IP_RECVTOS, 1);
  sends(b, &name, len, NULL, 0);
  receive(a, 256);
  struct wish wishes[] = {{IPPROTO_IP, IP_TTL, 4, 9}, {IPPROTO_IP, IP_TOS, 4, 16}};
  sends(b, &name, len, wishes, 2);
  receive(a, 256);
  set(b, IPPROTO_IP, IP_TTL, 17);
  sends(b, &name, len, NULL, 0);
  receive(a, 44);
  struct wish wrong[] = {{IPPROTO_IP, IP_TTL, 4, 0}, {IPPROTO_IP, IP_TTL, 2, 1}, {IPPROTO_IP, 99, 4, 1}, {IPPROTO_IPV6, 99, 4, 1}};
  for (int i = 0; i < 4; i++) sends(b, &name, len, &wrong[i], 1);
  receive(a, 0);
  close(a);
  close(b);
}

static void six(int protocol) {
  struct sockaddr_storage name;
  socklen_t len;
  int a = bound(AF_INET6, protocol, &name, &len), b = socket(AF_INET6, SOCK_DGRAM, protocol);
  set(a, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  set(a, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
  set(a, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
  struct wish wishes[] = {{IPPROTO_IPV6, IPV6_HOPLIMIT, 4, 9}, {IPPROTO_IPV6, IPV6_TCLASS, 4, 200}};
  sends(b, &name, len, wishes, 2);
  receive(a, 256);
  set(b, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 33);
  size_t rooms[] = {0, 1, 16, 17, 36, 40, 50, 56, 60, 64, 79, 82, 88, 256};
  for (int i = 0; i < 14; i++) {
    sends(b, &name, len, NULL, 0);
    receive(a, rooms[i]);
  }
  struct wish wrong[] = {{IPPROTO_IPV6, IPV6_HOPLIMIT, 4, 256}, {IPPROTO_IPV6, IPV6_HOPLIMIT, 3, 1}, {IPPROTO_IPV6, IPV6_TCLASS, 4, 256}, {IPPROTO_IPV6, 9999, 4, 1}};
  for (int i = 0; i < 4; i++) sends(b, &name, len, &wrong[i], 1);
  receive(a, 256);
  close(a);
  close(b);
}

static void apart(void) {
  struct sockaddr_storage name;
  socklen_t len, size = sizeof(int);
  int a = bound(AF_INET, IPPROTO_UDPLITE, &name, &len), b = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE);
  say("the same port of UDP", bind(b, (void *)&name, len));
  say("the same port of UDP-Lite", bind(c, (void *)&name, len));
  sends(c, &name, len, NULL, 0);
  receive(b, 0);
  receive(a, 0);
  int value = -1;
  getsockopt(a, SOL_SOCKET, SO_PROTOCOL, &value, &size);
  printf("protocol %d\n", value);
  set(a, IPPROTO_UDPLITE, SEND_CSCOV, 20);
  say("coverage", getsockopt(a, IPPROTO_UDPLITE, SEND_CSCOV, &value, &size));
  printf("%d\n", value);
  say("of UDP", setsockopt(b, IPPROTO_UDPLITE, SEND_CSCOV, &value, size));
}

static void credentials(void) {
  int pair[2], on = 1;
  socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
  setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  size_t rooms[] = {0, 15, 16, 24, 28, 32};
  for (int i = 0; i < 6; i++) {
    char text[8], control[64];
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = rooms[i]};
    write(pair[0], "x", 1);
    ssize_t n = recvmsg(pair[1], &message, 0);
    printf("%zu: %zd flags %x control %zu", rooms[i], n, message.msg_flags, message.msg_controllen);
    if (message.msg_controllen >= 16) printf(" length %zu", ((struct cmsghdr *)control)->cmsg_len);
    printf("\n");
  }
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  four(0);
  four(IPPROTO_UDPLITE);
  six(0);
  six(IPPROTO_UDPLITE);
  apart();
  credentials();
  return 0;
}
