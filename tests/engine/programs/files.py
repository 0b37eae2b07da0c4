"""Files as Python's os module uses them: results and errors. Run in an empty directory, as root."""

# ruff: noqa: T201

import errno
import fcntl
import mmap
import os
from collections.abc import Callable


def got(call: Callable[..., object], *arguments: object, **named: object) -> object:
    try:
        return call(*arguments, **named)
    except OSError as problem:
        return errno.errorcode[problem.errno or 0]


for directory in ("c", "c/b"):
    os.mkdir(directory)
os.symlink("loop", "loop")
with open("x", "w") as file:
    file.write("hel")
print(
    got(os.mkdir, "c"), got(os.rmdir, "c"), got(os.open, "c", os.O_WRONLY), got(os.open, "no/x", os.O_CREAT)
)
print(
    got(os.open, "x/y", 0),
    got(os.open, "x", os.O_DIRECTORY),
    got(os.rename, "x", "c"),
    got(os.rename, "c", "x"),
)
print(
    got(os.link, "c", "q"),
    got(os.unlink, "c"),
    got(os.rmdir, "x"),
    got(os.readlink, "x"),
    got(os.rename, "c", "c/b"),
)
print(got(os.open, "x", os.O_CREAT | os.O_EXCL), got(os.open, "loop", 0), got(os.open, "loop", os.O_NOFOLLOW))
print(
    got(os.open, "new/", os.O_CREAT | os.O_WRONLY),
    got(os.open, "", 0),
    got(os.truncate, "c", 0),
    got(os.chdir, "x"),
)
print(
    got(os.lseek, 99, 0, 0),
    got(os.close, 99),
    got(os.dup2, 99, 5),
    got(os.listdir, "x"),
    got(os.statvfs, "no"),
)

fd = os.open("m", os.O_CREAT | os.O_RDWR)
os.ftruncate(fd, 8192)
with mmap.mmap(fd, 8192) as mapped:
    mapped[5:10] = b"abcde"
    mapped.flush()
    print(os.pread(fd, 12, 0))
    os.pwrite(fd, b"ZZ", 6)
    print(mapped[4:12])
print(fcntl.fcntl(fd, fcntl.F_GETFL) & 3, fcntl.fcntl(fd, fcntl.F_GETFD), os.lseek(fd, 0, os.SEEK_END))
print(got(os.lseek, fd, -1, 0), os.lseek(fd, 10, os.SEEK_CUR), os.writev(fd, [b"ab", b"cd"]))
print(os.preadv(fd, [bytearray(2), bytearray(3)], 0), got(os.preadv, fd, [bytearray(1)], -5))

unnamed = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
os.write(unnamed, b"tmp")
os.link(f"/proc/self/fd/{unnamed}", "linked", src_dir_fd=0)
with open("linked") as file:
    print(file.read(), os.fstat(unnamed).st_nlink)

at = os.open("c", os.O_RDONLY | os.O_DIRECTORY)
print(sorted(os.listdir(at)), got(os.read, at, 5), oct(os.stat("b", dir_fd=at).st_mode))
os.mkdir("made", dir_fd=at)
os.rename("made", "moved", src_dir_fd=at, dst_dir_fd=at)
print(sorted(os.listdir("c")))
with os.scandir("c") as entries:
    print(sorted((entry.name, entry.is_dir(), entry.is_symlink()) for entry in entries))
place = os.open("x", os.O_PATH)
print(got(os.read, place, 1), oct(os.fstat(place).st_mode), got(os.fchmod, place, 0))

print(os.copy_file_range(fd, os.open("cfr", os.O_CREAT | os.O_WRONLY), 100, 0), os.path.getsize("cfr"))
print(os.sendfile(os.open("sent", os.O_CREAT | os.O_WRONLY), fd, 0, 50), os.path.getsize("sent"))
r, w = os.pipe()
spliced = os.splice(fd, w, 20, offset_src=0)
print(spliced, len(os.read(r, 100)))
memory = os.memfd_create("name")
os.write(memory, b"mem")
print(os.pread(memory, 9, 0), os.readlink(f"/proc/self/fd/{memory}"))
sealed = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
print(got(os.write, sealed, b"x"), fcntl.fcntl(sealed, fcntl.F_GET_SEALS))
os.setxattr("x", "user.k", b"v")
print(os.getxattr("x", "user.k"), os.listxattr("x"), got(os.getxattr, "x", "user.no"))
os.utime("x", ns=(123456789012345678, 987654321012345678))
print(os.stat("x").st_mtime_ns, os.stat("x").st_atime_ns)
append = os.open("append", os.O_CREAT | os.O_APPEND | os.O_RDWR)
os.write(append, b"1")
os.lseek(append, 0, 0)
os.write(append, b"2")
print(os.pread(append, 5, 0), os.lseek(append, 0, 1))
sparse = os.open("sparse", os.O_CREAT | os.O_RDWR)
os.pwrite(sparse, b"end", 1 << 20)
print(
    os.lseek(sparse, 0, os.SEEK_DATA),
    os.lseek(sparse, 0, os.SEEK_HOLE),
    got(os.lseek, sparse, 1 << 21, os.SEEK_DATA),
)
os.seteuid(1000)
print(got(os.mkdir, "nope"), got(os.chown, "x", 0, 0), got(os.chmod, "x", 0), got(os.unlink, "x"))
print(got(os.open, "x", os.O_RDONLY) != "EACCES", got(os.open, "x", os.O_WRONLY))
