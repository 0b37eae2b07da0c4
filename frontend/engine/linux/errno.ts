/** Error numbers of x86-64 Linux (include/uapi/asm-generic/errno*.h), and how a system call fails. */

// prettier-ignore
export const E = {
  PERM: 1, NOENT: 2, SRCH: 3, INTR: 4, IO: 5, NXIO: 6, "2BIG": 7, NOEXEC: 8, BADF: 9, CHILD: 10, AGAIN: 11, NOMEM: 12, ACCES: 13,
  FAULT: 14, NOTBLK: 15, BUSY: 16, EXIST: 17, XDEV: 18, NODEV: 19, NOTDIR: 20, ISDIR: 21, INVAL: 22, NFILE: 23, MFILE: 24, NOTTY: 25,
  TXTBSY: 26, FBIG: 27, NOSPC: 28, SPIPE: 29, ROFS: 30, MLINK: 31, PIPE: 32, DOM: 33, RANGE: 34, DEADLK: 35, NAMETOOLONG: 36,
  NOLCK: 37, NOSYS: 38, NOTEMPTY: 39, LOOP: 40, NOMSG: 42, IDRM: 43, NODATA: 61, TIME: 62, OVERFLOW: 75, BADFD: 77, ILSEQ: 84, USERS: 87,
  NOTSOCK: 88, DESTADDRREQ: 89, MSGSIZE: 90, PROTOTYPE: 91, NOPROTOOPT: 92, PROTONOSUPPORT: 93, SOCKTNOSUPPORT: 94, OPNOTSUPP: 95,
  PFNOSUPPORT: 96, AFNOSUPPORT: 97, ADDRINUSE: 98, ADDRNOTAVAIL: 99, NETDOWN: 100, NETUNREACH: 101, NETRESET: 102, CONNABORTED: 103,
  CONNRESET: 104, NOBUFS: 105, ISCONN: 106, NOTCONN: 107, SHUTDOWN: 108, TOOMANYREFS: 109, TIMEDOUT: 110, CONNREFUSED: 111,
  HOSTDOWN: 112, HOSTUNREACH: 113, ALREADY: 114, INPROGRESS: 115, STALE: 116, DQUOT: 122, CANCELED: 125,
} as const;

/** Thrown by system calls and everything under them; the guest sees `-code`. */
export class Errno extends Error {
  override readonly name = "Errno";
  readonly code: number;

  constructor(code: number) {
    super(`errno ${code}`);
    this.code = code;
  }
}
