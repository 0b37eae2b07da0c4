/*
 * The agent: answers the machine's page on the second serial port, a line for a line. The lines are in docs/design/guest.md.
 *
 * For Linux on i386, without a C library: what it holds is part of every machine's first download, and it must run in every guest.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;

/* <asm/unistd_32.h> */
enum {
    SYS_exit = 1, SYS_fork = 2, SYS_read = 3, SYS_write = 4, SYS_open = 5, SYS_close = 6, SYS_waitpid = 7, SYS_execve = 11,
    SYS_chdir = 12, SYS_pipe = 42, SYS_signal = 48, SYS_ioctl = 54, SYS_dup2 = 63, SYS_socket = 359,
    SYS_clock_settime64 = 404,
};
/* <asm/fcntl.h>, <asm/ioctls.h>, <linux/random.h>, <linux/sockios.h>, <linux/if.h>, <linux/time.h>, <asm/errno.h>, <asm/signal.h> */
enum { O_WRONLY = 1, O_RDWR = 2, EINTR = 4, SIGINT = 2, SIGQUIT = 3 };
enum { TIOCSWINSZ = 0x5414, RNDADDENTROPY = 0x40085203, RNDRESEEDCRNG = 0x5207, SIOCSIFFLAGS = 0x8914 };
enum { AF_INET = 2, SOCK_DGRAM = 2, IFF_UP = 0x1, IFF_RUNNING = 0x40, CLOCK_REALTIME = 0 };

/* The longest line: a command of `run`. */
enum { LINE = 1 << 20, PIECE = 3072 };

static u8 line[LINE + 1];
static u8 command[LINE];
static int port;

static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

/* The compiler may make calls of these from loops and from structures. */
void *memcpy(void *to, const void *from, __SIZE_TYPE__ count) {
    for (__SIZE_TYPE__ i = 0; i < count; i++) ((volatile u8 *)to)[i] = ((const u8 *)from)[i];
    return to;
}

void *memset(void *to, int value, __SIZE_TYPE__ count) {
    for (__SIZE_TYPE__ i = 0; i < count; i++) ((volatile u8 *)to)[i] = (u8)value;
    return to;
}

static long reading(int file, u8 *to, u32 count) {
    long got;
    do got = call(SYS_read, file, (long)to, count);
    while (got == -EINTR);
    return got;
}

static void writing(int file, const u8 *from, u32 count) {
    while (count) {
        long done = call(SYS_write, file, (long)from, count);
        if (done == -EINTR) continue;
        if (done <= 0) return;
        from += done, count -= done;
    }
}

static u32 length(const char *text) {
    u32 count = 0;
    while (text[count]) count++;
    return count;
}

static void say(const char *text) { writing(port, (const u8 *)text, length(text)); }

static void say_number(u32 number) {
    char digits[11];
    u32 at = sizeof digits - 1;
    digits[at] = 0;
    do digits[--at] = '0' + number % 10;
    while (number /= 10);
    say(digits + at);
}

/* `ok <what>`, or `error <what>` with the number of the error. */
static void answer(const char *what, long result) {
    say(result < 0 ? "error " : "ok ");
    say(what);
    if (result < 0) say(" "), say_number(-result);
    say("\n");
}

/* ---- parts of a line: each moves `*at` on and tells whether it was there ---- */

static int word(const u8 **at, const char *text) {
    const u8 *here = *at;
    while (*text)
        if (*here++ != (u8)*text++) return 0;
    *at = here;
    return 1;
}

static int number(const u8 **at, u32 most_digits, i64 *value) {
    const u8 *first = *at;
    *value = 0;
    while (**at >= '0' && **at <= '9' && *at - first < (long)most_digits) *value = *value * 10 + (*(*at)++ - '0');
    return *at != first;
}

static int hex(u8 digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    digit |= 0x20;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* ---- what the lines do: 0 or a negative error, as from the kernel ---- */

static long set_clock(i64 seconds, i64 nanoseconds) {
    i64 time[2] = {seconds, nanoseconds};
    return call(SYS_clock_settime64, CLOCK_REALTIME, (long)time, 0);
}

static long set_size(u16 columns, u16 rows) {
    u16 size[4] = {rows, columns, 0, 0};
    long tty = call(SYS_open, (long)"/dev/ttyS0", O_RDWR, 0);
    if (tty < 0) return tty;
    long result = call(SYS_ioctl, tty, TIOCSWINSZ, (long)size);
    call(SYS_close, tty, 0, 0);
    return result;
}

static long reseed(const u8 *bytes) {
    struct { int bits, size; u8 bytes[32]; } pool = {8 * 32, 32, {0}};
    for (int i = 0; i < 32; i++) pool.bytes[i] = bytes[i];
    long random = call(SYS_open, (long)"/dev/urandom", O_RDWR, 0);
    if (random < 0) return random;
    long result = call(SYS_ioctl, random, RNDADDENTROPY, (long)&pool);
    if (result >= 0) result = call(SYS_ioctl, random, RNDRESEEDCRNG, 0);
    call(SYS_close, random, 0, 0);
    return result;
}

static long trim(void) {
    long caches = call(SYS_open, (long)"/proc/sys/vm/drop_caches", O_WRONLY, 0);
    if (caches < 0) return caches;
    long result = call(SYS_write, caches, (long)"1", 1);
    call(SYS_close, caches, 0, 0);
    return result;
}

static void raise_loopback(void) {
    struct { char name[16]; u16 flags; u8 rest[14]; } request = {"lo", IFF_UP | IFF_RUNNING, {0}};
    long socket = call(SYS_socket, AF_INET, SOCK_DGRAM, 0);
    if (socket < 0) return;
    call(SYS_ioctl, socket, SIOCSIFFLAGS, (long)&request);
    call(SYS_close, socket, 0, 0);
}

/* ---- run: base64 (RFC 4648) in, base64 out ---- */

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void say_piece(const u8 *bytes, u32 count) {
    static u8 coded[4 + PIECE / 3 * 4 + 4 + 1];
    u8 *to = coded;
    for (const char *out = "out "; *out;) *to++ = *out++;
    for (u32 i = 0; i < count; i += 3) {
        u32 left = count - i;
        u32 bits = bytes[i] << 16 | (left > 1 ? bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
        *to++ = DIGITS[bits >> 18];
        *to++ = DIGITS[bits >> 12 & 63];
        *to++ = left > 1 ? DIGITS[bits >> 6 & 63] : '=';
        *to++ = left > 2 ? DIGITS[bits & 63] : '=';
    }
    *to++ = '\n';
    writing(port, coded, to - coded);
}

/* Into `command`, with a zero behind it. False for what is no base64. */
static int decode(const u8 *coded) {
    u32 bits = 0, have = 0, size = 0;
    for (; *coded && *coded != '='; coded++) {
        u32 digit = 0;
        while (DIGITS[digit] && (u8)DIGITS[digit] != *coded) digit++;
        if (!DIGITS[digit]) return 0;
        bits = bits << 6 | digit;
        if ((have += 6) >= 8) command[size++] = bits >> (have -= 8);
    }
    while (*coded == '=') coded++;
    command[size] = 0;
    return !*coded;
}

static u32 run(void) {
    static const char *const environment[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", 0,
    };
    const char *const arguments[] = {"/bin/sh", "-c", (const char *)command, 0};
    static u8 piece[PIECE];
    int pipe[2], status = 0;
    if (call(SYS_pipe, (long)pipe, 0, 0) < 0) return 127;
    long child = call(SYS_fork, 0, 0, 0);
    if (child == 0) {
        call(SYS_dup2, pipe[1], 1, 0);
        call(SYS_dup2, pipe[1], 2, 0);
        call(SYS_close, pipe[0], 0, 0);
        call(SYS_close, pipe[1], 0, 0);
        call(SYS_close, port, 0, 0);
        if (call(SYS_chdir, (long)"/root", 0, 0) < 0) call(SYS_chdir, (long)"/", 0, 0);
        call(SYS_execve, (long)arguments[0], (long)arguments, (long)environment);
        call(SYS_exit, 127, 0, 0);
    }
    call(SYS_close, pipe[1], 0, 0);
    for (long got; child > 0 && (got = reading(pipe[0], piece, PIECE)) > 0;) say_piece(piece, got);
    call(SYS_close, pipe[0], 0, 0);
    if (child < 0) return 127;
    while (call(SYS_waitpid, child, (long)&status, 0) == -EINTR) continue;
    return status & 127 ? 128 + (status & 127) : status >> 8 & 255;
}

static void take(const u8 *at) {
    i64 a, b;
    if (word(&at, "ping") && !*at) {
        answer("ping", 0);
    } else if (word(&at, "clock ") && number(&at, 12, &a)) {
        b = 0;
        if (*at == '.') {
            at++;
            for (u32 i = 0; i < 9; i++) b = b * 10 + (*at >= '0' && *at <= '9' ? *at++ - '0' : 0);
            while (*at >= '0' && *at <= '9') at++;
        }
        if (*at) goto unknown;
        answer("clock", set_clock(a, b));
    } else if (word(&at, "resize ") && number(&at, 4, &a) && word(&at, " ") && number(&at, 4, &b) && !*at) {
        answer("resize", set_size(a, b));
    } else if (word(&at, "reseed ")) {
        u8 bytes[32];
        for (int i = 0; i < 64; i++) {
            int digit = hex(*at);
            if (digit < 0) goto unknown;
            at++;
            bytes[i / 2] = i % 2 ? bytes[i / 2] | digit : digit << 4;
        }
        if (*at) goto unknown;
        answer("reseed", reseed(bytes));
    } else if (word(&at, "trim") && !*at) {
        answer("trim", trim());
    } else if (word(&at, "run ") && decode(at)) {
        u32 status = run();
        say("exit "), say_number(status), say("\n");
    } else {
    unknown:
        say("error unknown line\n");
    }
}

__attribute__((force_align_arg_pointer)) void _start(void) {
    /* Ignored by what init's shell starts in the background, and by what `run` starts then. */
    call(SYS_signal, SIGINT, 0, 0);
    call(SYS_signal, SIGQUIT, 0, 0);
    port = call(SYS_open, (long)"/dev/ttyS1", O_RDWR, 0);
    if (port < 0) call(SYS_exit, 1, 0, 0);
    raise_loopback();
    /* A line longer than there is room for is left out whole. */
    for (u32 have = 0, whole = 1;;) {
        long got = reading(port, line + have, LINE - have);
        if (got <= 0) call(SYS_exit, 0, 0, 0);
        u32 end = have + got, first = 0;
        for (u32 i = have; i < end; i++) {
            if (line[i] != '\n') continue;
            line[i] = 0;
            if (i > first && line[i - 1] == '\r') line[i - 1] = 0;
            if (whole && line[first]) take(line + first);
            whole = 1;
            first = i + 1;
        }
        have = end - first;
        for (u32 i = 0; i < have; i++) line[i] = line[first + i];
        if (have == LINE) have = whole = 0;
    }
}
