/** System calls on files of a tmpfs and of a host directory, as programs make them. */

import {
  chmodSync,
  mkdtempSync,
  mkdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  linkSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hostDirectory } from "../../headless/host-directory.ts";
import { E } from "../errno.ts";
import { callOnce, type Caller, makeCaller, WAITS } from "../io/caller.ts";
import { fileCalls } from "../syscalls/files.ts";
import * as C from "./constants.ts";
import { Context } from "./context.ts";
import { Descriptors } from "./descriptors.ts";
import { MemoryFileSystem } from "./memory-fs.ts";
import { makeRoot } from "./root.ts";

let task: Caller;
let host: string;

function start(onHost: boolean): void {
  task = makeCaller();
  const vfs = makeRoot({
    now: () => task.process.kernel.realtime(),
    root: (v) => new MemoryFileSystem(v, onHost ? { lower: hostDirectory(host) } : {}),
  });
  task.process.fs = new Context(vfs.root);
  task.process.files = new Descriptors(vfs);
}

function call(name: string, ...a: (number | string)[]): number {
  const numbers = a.map((argument) => (typeof argument === "string" ? task.memory.put(argument) : argument));
  const result = callOnce(fileCalls, task, name, ...numbers);
  if (result === WAITS) throw new Error(`${name} waits`);
  return result;
}

function write(path: string, text: string): void {
  const fd = call("open", path, C.O_CREAT | C.O_WRONLY | C.O_TRUNC, 0o644);
  expect(fd).toBeGreaterThanOrEqual(0);
  expect(call("write", fd, text, text.length)).toBe(text.length);
  call("close", fd);
}

function read(path: string): string | number {
  const fd = call("open", path, C.O_RDONLY, 0);
  if (fd < 0) return fd;
  const at = task.memory.place(65536);
  const count = call("read", fd, at, 65536);
  call("close", fd);
  return count < 0 ? count : task.memory.text(at, count);
}

function list(path: string): string[] {
  const fd = call("open", path, C.O_DIRECTORY, 0);
  const at = task.memory.place(512);
  const names: string[] = [];
  for (;;) {
    const count = call("getdents64", fd, at, 512);
    expect(count).toBeGreaterThanOrEqual(0);
    if (count === 0) break;
    for (let i = 0; i < count; i += task.memory.getU16(at + i + 16))
      names.push(task.memory.string(at + i + 19));
  }
  call("close", fd);
  return names.sort();
}

function stat(path: string): { ino: number; nlink: number; mode: number; size: number } | number {
  const at = task.memory.place(144);
  const result = call("lstat", path, at);
  if (result !== 0) return result;
  const { memory } = task;
  return {
    ino: memory.getI64(at + 8),
    nlink: memory.getI64(at + 16),
    mode: memory.getU32(at + 24),
    size: memory.getI64(at + 48),
  };
}

beforeEach(() => {
  host = mkdtempSync(join(tmpdir(), "lower-"));
  chmodSync(host, 0o755);
  mkdirSync(join(host, "dir/sub"), { recursive: true });
  writeFileSync(join(host, "dir/file"), "below");
  writeFileSync(join(host, "big"), "x".repeat(10000));
  linkSync(join(host, "dir/file"), join(host, "other"));
  symlinkSync("dir/file", join(host, "link"));
});

afterEach(() => rmSync(host, { recursive: true }));

describe.each([false, true])("names (over a host directory: %s)", (onHost) => {
  beforeEach(() => start(onHost));

  it("makes, reads, renames and removes files", () => {
    write("/a", "hello");
    expect(read("/a")).toBe("hello");
    expect(call("rename", "/a", "/b")).toBe(0);
    expect(read("/a")).toBe(-E.NOENT);
    expect(read("/b")).toBe("hello");
    expect(call("link", "/b", "/c")).toBe(0);
    expect(stat("/b")).toMatchObject({ nlink: 2, size: 5 });
    expect(call("unlink", "/b")).toBe(0);
    expect(stat("/c")).toMatchObject({ nlink: 1 });
    expect(call("unlink", "/b")).toBe(-E.NOENT);
  });

  it("makes and removes directories", () => {
    expect(call("mkdir", "/d/", 0o755)).toBe(0);
    expect(call("mkdir", "/d", 0o755)).toBe(-E.EXIST);
    expect(call("mkdir", "/d/e", 0o755)).toBe(0);
    expect(stat("/d")).toMatchObject({ nlink: 3, mode: C.S_IFDIR | 0o755 });
    expect(call("rmdir", "/d")).toBe(-E.NOTEMPTY);
    expect(call("rmdir", "/d/.")).toBe(-E.INVAL);
    expect(call("unlink", "/d/e")).toBe(-E.ISDIR);
    expect(call("rename", "/d", "/d/e/f")).toBe(-E.INVAL);
    expect(call("rename", "/d/e", "/d")).toBe(-E.NOTEMPTY);
    expect(call("rmdir", "/d/e")).toBe(0);
    expect(list("/d")).toEqual([".", ".."]);
    expect(call("rmdir", "/d")).toBe(0);
  });

  it("follows symbolic links as Linux does", () => {
    write("/target", "t");
    call("symlink", "target", "/s");
    call("symlink", "loop", "/loop");
    call("symlink", "new", "/dangling");
    expect(read("/s")).toBe("t");
    expect(read("/s/")).toBe(-E.NOTDIR);
    expect(read("/s/x")).toBe(-E.NOTDIR);
    expect(read("/loop")).toBe(-E.LOOP);
    expect(call("open", "/s", C.O_NOFOLLOW, 0)).toBe(-E.LOOP);
    expect(call("open", "/dangling", C.O_CREAT | C.O_EXCL | C.O_WRONLY, 0o600)).toBe(-E.EXIST);
    write("/dangling", "made");
    expect(read("/new")).toBe("made");
    expect(read("/" + "n".repeat(256))).toBe(-E.NAMETOOLONG);
    expect(read("")).toBe(-E.NOENT);
    expect(call("open", "/new/", C.O_CREAT | C.O_WRONLY, 0o600)).toBe(-E.ISDIR);
  });

  it("knows its working directory though it moves", () => {
    call("mkdir", "/w", 0o755);
    call("mkdir", "/w/x", 0o755);
    expect(call("chdir", "/w/x")).toBe(0);
    call("rename", "/w", "/v");
    const at = task.memory.place(100);
    expect(call("getcwd", at, 100)).toBe(5);
    expect(task.memory.string(at)).toBe("/v/x");
    write("../f", "up");
    expect(read("/v/f")).toBe("up");
    call("rmdir", "/v/x");
    expect(call("getcwd", at, 100)).toBe(-E.NOENT);
    expect(call("open", "y", C.O_CREAT | C.O_WRONLY, 0o600)).toBe(-E.NOENT);
  });

  it("lists long directories while names go", () => {
    call("mkdir", "/l", 0o755);
    const names = Array.from({ length: 100 }, (_, i) => `name-${i}`);
    for (const name of names) write(`/l/${name}`, "");
    expect(list("/l")).toEqual([".", "..", ...names].sort());
    const fd = call("open", "/l", C.O_DIRECTORY, 0);
    const at = task.memory.place(300);
    for (let count = call("getdents64", fd, at, 300); count > 0; count = call("getdents64", fd, at, 300)) {
      for (let i = 0; i < count; i += task.memory.getU16(at + i + 16)) {
        const name = task.memory.string(at + i + 19);
        if (name[0] !== ".") expect(call("unlink", `/l/${name}`)).toBe(0);
      }
    }
    expect(call("rmdir", "/l")).toBe(0);
  });

  it("keeps holes and finds data", () => {
    const fd = call("open", "/sparse", C.O_CREAT | C.O_RDWR, 0o644);
    expect(call("pwrite64", fd, "end", 3, 100000)).toBe(3);
    expect(stat("/sparse")).toMatchObject({ size: 100003 });
    expect(call("lseek", fd, 0, 3)).toBe(98304);
    expect(call("lseek", fd, 98304, 4)).toBe(100003);
    expect(call("ftruncate", fd, 100001)).toBe(0);
    expect(call("ftruncate", fd, 100003)).toBe(0);
    const at = task.memory.place(8);
    expect(call("pread64", fd, at, 8, 100000)).toBe(3);
    expect(task.memory.text(at, 3)).toBe("e\0\0");
    expect(call("lseek", fd, 0, 9)).toBe(-E.INVAL);
  });

  it("lets others do what modes and sticky bits allow", () => {
    call("mkdir", "/tmp", 0o1777);
    call("chmod", "/tmp", 0o1777);
    write("/tmp/roots", "r");
    write("/secret", "s");
    call("chmod", "/secret", 0o600);
    Object.assign(task.process.credentials, { uid: 1000, euid: 1000, fsuid: 1000, fsgid: 1000 });
    expect(read("/secret")).toBe(-E.ACCES);
    expect(read("/tmp/roots")).toBe("r");
    expect(call("unlink", "/tmp/roots")).toBe(-E.PERM);
    expect(call("open", "/new", C.O_CREAT | C.O_WRONLY, 0o600)).toBe(-E.ACCES);
    write("/tmp/mine", "m");
    expect(call("unlink", "/tmp/mine")).toBe(0);
    expect(call("chmod", "/secret", 0o777)).toBe(-E.PERM);
    expect(call("access", "/secret", 4)).toBe(-E.ACCES);
  });

  it("exchanges names and refuses to replace", () => {
    write("/1", "one");
    write("/2", "two");
    const cwd = C.AT_FDCWD;
    expect(call("renameat2", cwd, "/1", cwd, "/2", C.RENAME_NOREPLACE)).toBe(-E.EXIST);
    expect(call("renameat2", cwd, "/1", cwd, "/2", C.RENAME_EXCHANGE)).toBe(0);
    expect([read("/1"), read("/2")]).toEqual(["two", "one"]);
  });

  it("uses an unlinked file on", () => {
    write("/gone", "still here");
    const fd = call("open", "/gone", C.O_RDWR, 0);
    call("unlink", "/gone");
    const at = task.memory.place(20);
    expect(call("read", fd, at, 20)).toBe(10);
    expect(call("write", fd, "!", 1)).toBe(1);
    expect(call("close", fd)).toBe(0);
    expect(call("close", fd)).toBe(-E.BADF);
  });
});

describe("a host directory below", () => {
  beforeEach(() => start(true));

  it("shows what is there, with its links", () => {
    expect(list("/")).toEqual([".", "..", "big", "dev", "dir", "link", "other"]);
    expect(read("/link")).toBe("below");
    const { ino } = statSync(join(host, "other"));
    expect(stat("/other")).toMatchObject({ ino, nlink: 2 });
    expect(stat("/dir/file")).toMatchObject({ ino });
  });

  it("changes nothing of it", () => {
    write("/dir/file", "above");
    expect(read("/other")).toBe("above");
    expect(statSync(join(host, "other")).size).toBe(5);
    const fd = call("open", "/big", C.O_RDWR, 0);
    expect(call("pwrite64", fd, "yy", 2, 5000)).toBe(2);
    expect(call("ftruncate", fd, 6000)).toBe(0);
    expect(read("/big")).toBe("x".repeat(5000) + "yy" + "x".repeat(998));
    expect(call("rename", "/dir", "/moved")).toBe(0);
    expect(list("/moved")).toEqual([".", "..", "file", "sub"]);
    expect(call("unlink", "/other")).toBe(0);
    expect(read("/other")).toBe(-E.NOENT);
    expect(stat("/moved/file")).toMatchObject({ nlink: 1 });
    expect(list("/")).toEqual([".", "..", "big", "dev", "link", "moved"]);
    expect(read("/link")).toBe(-E.NOENT);
  });
});
