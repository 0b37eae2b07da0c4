/*
 * Process 1 of the `linux` machine: file systems, the host's name, a login shell on every terminal, and reaping.
 *
 * For Linux on x86-64, without a C library: a shell script would start a dozen programs before the first prompt, and what this holds is
 * part of every machine's first download.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

/* <asm/unistd_64.h> */
enum {
    SYS_read = 0, SYS_write = 1, SYS_close = 3, SYS_stat = 4, SYS_poll = 7, SYS_rt_sigprocmask = 14, SYS_ioctl = 16, SYS_dup2 = 33,
    SYS_nanosleep = 35, SYS_getpid = 39, SYS_fork = 57, SYS_execve = 59, SYS_exit = 60, SYS_wait4 = 61, SYS_kill = 62, SYS_chdir = 80,
    SYS_mkdir = 83, SYS_chmod = 90, SYS_setsid = 112, SYS_rt_sigtimedwait = 128, SYS_sync = 162, SYS_mount = 165,
    SYS_sethostname = 170, SYS_open = 2, SYS_signalfd4 = 289,
};
/* <asm/fcntl.h>, <asm/ioctls.h>, <asm/termbits.h>, <linux/mount.h>, <asm/signal.h>, <linux/wait.h>, <asm/poll.h> */
enum { O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_CREAT = 0100, O_NOCTTY = 0400, O_TRUNC = 01000, EAGAIN = 11 };
enum { TCSETS = 0x5402, TIOCSCTTY = 0x540e, TIOCGWINSZ = 0x5413, TIOCSWINSZ = 0x5414 };
enum { ICRNL = 0400, IXON = 02000, IUTF8 = 040000, OPOST = 1, ONLCR = 4, B115200 = 010002, CS8 = 060, CREAD = 0200, HUPCL = 02000 };
enum { ISIG = 1, ICANON = 2, ECHO = 010, ECHOE = 020, ECHOK = 040, ECHOCTL = 01000, ECHOKE = 04000, IEXTEN = 0100000 };
enum { MS_NOSUID = 2, MS_NODEV = 4, MS_NOEXEC = 8 };
enum { SIGINT = 2, SIGKILL = 9, SIGUSR1 = 10, SIGUSR2 = 12, SIGTERM = 15, SIGCHLD = 17, SIGWINCH = 28 };
enum { SIG_BLOCK = 0, SIG_SETMASK = 2, WNOHANG = 1, POLLIN = 1 };

enum { MOST_TERMINALS = 16, OTHERS_MS = 250, RESPAWN_MS = 200, STOP_MS = 1000 };

struct termios { u32 input, output, control, local; u8 line, keys[19]; };
struct window { u16 rows, columns, width, height; };
struct moment { long seconds, nanoseconds; };
struct stat { u64 device, inode, links; u32 mode, uid, gid, padding; u64 rest[15]; };

#define BIT(signal) (1UL << ((signal) - 1))

static long shells[MOST_TERMINALS];
static u32 terminals;

static long call4(long number, long a, long b, long c, long d) {
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}

static long call5(long number, long a, long b, long c, long d, long e) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}

static long call(long number, long a, long b, long c) { return call4(number, a, b, c, 0); }

/* The compiler may make calls of these from loops and from structures. */
void *memcpy(void *to, const void *from, __SIZE_TYPE__ count) {
    for (__SIZE_TYPE__ i = 0; i < count; i++) ((volatile u8 *)to)[i] = ((const u8 *)from)[i];
    return to;
}

void *memset(void *to, int value, __SIZE_TYPE__ count) {
    for (__SIZE_TYPE__ i = 0; i < count; i++) ((volatile u8 *)to)[i] = (u8)value;
    return to;
}

static u32 length(const char *text) {
    u32 count = 0;
    while (text[count]) count++;
    return count;
}

/* Writes the number in decimal behind `to`; returns the end. */
static char *decimal(char *to, u32 number) {
    char digits[10];
    u32 count = 0;
    do digits[count++] = '0' + number % 10;
    while (number /= 10);
    while (count) *to++ = digits[--count];
    *to = 0;
    return to;
}

static long open(const char *path, int flags) { return call(SYS_open, (long)path, flags, 0644); }

static void set_mask(int how, u64 mask) { call4(SYS_rt_sigprocmask, how, (long)&mask, 0, sizeof mask); }

/* ---- file systems ---- */

static u64 device_of(const char *path) {
    struct stat found;
    return call(SYS_stat, (long)path, (long)&found, 0) < 0 ? 0 : found.device;
}

/* Unless something is mounted there: on another device than the directory above. */
static void mount(const char *type, const char *path, const char *above, u64 flags, const char *options) {
    if (device_of(path) != device_of(above)) return;
    call(SYS_mkdir, (long)path, 0755, 0);
    call5(SYS_mount, (long)type, (long)path, (long)type, flags, (long)options);
}

static void prepare(void) {
    mount("proc", "/proc", "/", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0);
    mount("sysfs", "/sys", "/", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0);
    mount("devtmpfs", "/dev", "/", MS_NOSUID, 0);
    mount("devpts", "/dev/pts", "/dev", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
    mount("tmpfs", "/dev/shm", "/dev", MS_NOSUID | MS_NODEV, "mode=1777");
    mount("tmpfs", "/run", "/", MS_NOSUID | MS_NODEV, "mode=755");
    mount("tmpfs", "/tmp", "/", MS_NOSUID | MS_NODEV, "mode=1777");
    call(SYS_mkdir, (long)"/run/lock", 01777, 0);
    call(SYS_chmod, (long)"/run/lock", 01777, 0);
    call(SYS_mkdir, (long)"/run/webvm", 0755, 0);
    call(SYS_close, open("/run/utmp", O_WRONLY | O_CREAT | O_TRUNC), 0, 0);
    char name[65];
    long file = open("/etc/hostname", O_RDONLY), got = call(SYS_read, file, (long)name, sizeof name - 1);
    call(SYS_close, file, 0, 0);
    long size = 0;
    while (size < got && name[size] > ' ') size++;
    if (size) call(SYS_sethostname, (long)name, size, 0);
}

/* ---- terminals ---- */

static void set_modes(long terminal, int is_raw) {
    struct termios modes = {
        .input = ICRNL | IXON | IUTF8,
        .output = OPOST | ONLCR,
        .control = B115200 | CS8 | CREAD | HUPCL,
        .local = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
        .keys = {3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22},
    };
    if (is_raw) modes.input = IUTF8, modes.local = 0;
    call(SYS_ioctl, terminal, TCSETS, (long)&modes);
}

/* A terminal has no size until somebody looks at it: a shell that nobody sees is neither started nor kept. */
static void wait_for_a_person(long terminal) {
    struct window size = {0};
    u64 changed = BIT(SIGWINCH);
    long signals = call4(SYS_signalfd4, -1, (long)&changed, sizeof changed, 0);
    struct { int file; short wanted, got; } files[2] = {{terminal, POLLIN, 0}, {signals, POLLIN, 0}};
    set_modes(terminal, 1);
    call(SYS_ioctl, terminal, TIOCGWINSZ, (long)&size);
    if (!size.columns) call(SYS_poll, (long)files, 2, -1);
    call(SYS_close, signals, 0, 0);
}

static void note_pid(const char *name) {
    char path[32] = "/run/webvm/", digits[12], *to = path + length(path);
    for (const char *from = name; *from;) *to++ = *from++;
    for (const char *from = ".pid"; *from;) *to++ = *from++;
    char *end = decimal(digits, call(SYS_getpid, 0, 0, 0));
    *end++ = '\n';
    long file = open(path, O_WRONLY | O_CREAT | O_TRUNC);
    call(SYS_write, file, (long)digits, end - digits);
    call(SYS_close, file, 0, 0);
}

static void run_shell(u32 number) {
    static const char *const arguments[] = {"-bash", 0};
    static const char *const environment[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LOGNAME=root",
        "SHELL=/bin/bash", "LANG=C.UTF-8", "TERM=xterm-256color", 0,
    };
    char path[16] = "/dev/ttyS";
    decimal(path + length(path), number);
    call(SYS_setsid, 0, 0, 0);
    long terminal = open(path, O_RDWR);
    call(SYS_ioctl, terminal, TIOCSCTTY, 1);
    note_pid(path + length("/dev/"));
    if (number) wait_for_a_person(terminal);
    set_modes(terminal, 0);
    struct window size = {0}, usual = {.rows = 24, .columns = 80};
    call(SYS_ioctl, terminal, TIOCGWINSZ, (long)&size);
    if (!size.columns) call(SYS_ioctl, terminal, TIOCSWINSZ, (long)&usual);
    for (int file = 0; file < 3; file++) call(SYS_dup2, terminal, file, 0);
    if (terminal > 2) call(SYS_close, terminal, 0, 0);
    if (call(SYS_chdir, (long)"/root", 0, 0) < 0) call(SYS_chdir, (long)"/", 0, 0);
    set_mask(SIG_SETMASK, 0);
    call(SYS_execve, (long)"/bin/bash", (long)arguments, (long)environment);
    call(SYS_exit, 127, 0, 0);
}

static void rest(u32 ms) {
    struct moment pause = {0, ms * 1000000L};
    call(SYS_nanosleep, (long)&pause, 0, 0);
}

static void start_shell(u32 number, u32 after_ms) {
    long child = call(SYS_fork, 0, 0, 0);
    if (child == 0) {
        if (after_ms) rest(after_ms);
        run_shell(number);
    }
    shells[number] = child;
}

/* ---- the end ---- */

/* Waits for one of the signals; 0 when the time is over. */
static long wait_for(u64 signals, struct moment *most) {
    for (;;) {
        long signal = call4(SYS_rt_sigtimedwait, (long)&signals, 0, (long)most, sizeof signals);
        if (signal > 0) return signal;
        if (signal == -EAGAIN) return 0;
    }
}

static void start_again(int is_off) {
    static const char *const arguments[] = {"/sbin/init", 0};
    static const char *const environment[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "TERM=linux", 0,
    };
    struct moment most = {STOP_MS / 1000, 0};
    call(SYS_kill, -1, SIGTERM, 0);
    wait_for(0, &most); /* not for children: a shell at its prompt does not hear SIGTERM */
    call(SYS_kill, -1, SIGKILL, 0);
    while (call4(SYS_wait4, -1, 0, 0, 0) > 0) continue;
    call(SYS_sync, 0, 0, 0);
    if (is_off) {
        static const char off[] = "\r\n\033[1;36m::\033[0m The machine is off. Press Enter to start it again.\n";
        char letter = 0;
        long console = open("/dev/console", O_RDWR | O_NOCTTY);
        set_modes(console, 0);
        call(SYS_write, console, (long)off, sizeof off - 1);
        while (call(SYS_read, console, (long)&letter, 1) > 0 && letter != '\n') continue;
        call(SYS_close, console, 0, 0);
    }
    call(SYS_execve, (long)arguments[0], (long)arguments, (long)environment);
    call(SYS_exit, 1, 0, 0);
}

__attribute__((force_align_arg_pointer)) void _start(void) {
    /* Blocked signals wait for us, and none of them ends process 1. */
    set_mask(SIG_BLOCK, ~0UL);
    prepare();
    for (; terminals < MOST_TERMINALS; terminals++) {
        char path[16] = "/dev/ttyS";
        decimal(path + length(path), terminals);
        if (!device_of(path)) break;
        start_shell(terminals, 0);
        /* The first prompt does not wait for the other terminals, at which nobody looks yet. */
        if (!terminals) rest(OTHERS_MS);
    }
    for (;;) {
        switch (wait_for(BIT(SIGCHLD) | BIT(SIGTERM) | BIT(SIGINT) | BIT(SIGUSR1) | BIT(SIGUSR2), 0)) {
            case SIGTERM: case SIGINT: start_again(0); break;
            case SIGUSR1: case SIGUSR2: start_again(1); break;
            default:
                for (long ended; (ended = call4(SYS_wait4, -1, 0, WNOHANG, 0)) > 0;)
                    for (u32 i = 0; i < terminals; i++)
                        if (shells[i] == ended) start_shell(i, RESPAWN_MS);
        }
    }
}
