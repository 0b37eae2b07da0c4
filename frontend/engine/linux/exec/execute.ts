/** execve: finding what really runs (`#!`, interpreter), and replacing the process's program by it. */

import { afterExecve } from "../capabilities.ts";
import { CPU_MXCSR, CPU_RFLAGS, PAGE_SIZE, PAGE_WRITABLE } from "../abi.ts";
import { E, Errno } from "../errno.ts";
import { exitThread, releaseVfork } from "../exit.ts";
import { RLIMIT_AS, RLIMIT_STACK } from "../limits.ts";
import { pageUp, PROT_EXEC, PROT_READ, PROT_WRITE } from "../memory/areas.ts";
import { Maps } from "../memory/maps.ts";
import { RSP } from "../registers.ts";
import { resetActions } from "../process.ts";
import { SIGCHLD } from "../signals/numbers.ts";
import type { Thread } from "../task.ts";
import type { ByteString, Credentials, Inode } from "../types.ts";
import { type Elf, isElf, readBacking, readElf } from "./elf.ts";
import { extent, load, prefetch } from "./load.ts";
import { buildStack, stackSize } from "./stack.ts";

export interface ExecutableFile {
  inode: Inode;
  /** The path walked to it. */
  name: ByteString;
}

/** Where programs that may lie anywhere are put. */
const PIE_BASE = 0x0040_0000;
/** Those without an interpreter (static ones, or the dynamic linker itself) leave the usual place to others. */
const LONE_BASE = 0x0800_0000;
const BRK_ROOM = 64 * 1024 * 1024;
const STACK_AT_MOST = 256 * 1024 * 1024;
const STACK_GAP = 1024 * 1024;
const STACK_FIRST = 33 * PAGE_SIZE;
const STRING_AT_MOST = 32 * PAGE_SIZE;
const ARGUMENTS_AT_MOST = 6 * 1024 * 1024;
const SCRIPTS_AT_MOST = 5;
const SCRIPT_HEAD = 256;
const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o0010;
const FPU_CONTROL = 544;
const AT_FDCWD = -100;

interface Plan {
  file: ExecutableFile;
  elf: Elf;
  arguments: ByteString[];
  interpreter: { file: ExecutableFile; elf: Elf } | undefined;
}

/** `#! interpreter argument`, or undefined. */
function scriptLine(head: Uint8Array): [ByteString, ByteString | undefined] | undefined {
  if (head[0] !== 0x23 || head[1] !== 0x21) return undefined;
  const text = String.fromCharCode(...head.subarray(2, SCRIPT_HEAD));
  const newline = text.indexOf("\n");
  const end = newline < 0 ? text.indexOf("\0") : newline;
  const line = (end < 0 ? text : text.slice(0, end)).replace(/^[ \t]+|[ \t]+$/g, "");
  const match = /^([^ \t]+)(?:[ \t]+(.*))?$/.exec(line);
  if (match === null || (newline < 0 && match[2] === undefined && end < 0)) throw new Errno(E.NOEXEC);
  return [match[1]!, match[2]];
}

/** Everything that can fail or keep waiting. */
function plan(thread: Thread, first: ExecutableFile, path: ByteString, given: readonly ByteString[]): Plan {
  const { files } = thread.process.kernel;
  let file = first;
  let argv = given.length === 0 ? [""] : [...given];
  let name = path;
  for (let depth = 0; ; depth += 1) {
    const head = readBacking(file.inode, 0, SCRIPT_HEAD);
    if (isElf(head)) break;
    const script = scriptLine(head);
    if (script === undefined) throw new Errno(E.NOEXEC);
    if (depth >= SCRIPTS_AT_MOST) throw new Errno(E.LOOP);
    const [interpreter, argument] = script;
    argv = [interpreter, ...(argument === undefined ? [] : [argument]), name, ...argv.slice(1)];
    name = interpreter;
    file = files.openExecutable(thread, AT_FDCWD, interpreter, 0);
  }
  const elf = readElf(file.inode);
  extent(elf);
  prefetch(elf, file.inode);
  if (elf.interpreter === undefined) return { file, elf, arguments: argv, interpreter: undefined };
  const linker = files.openExecutable(thread, AT_FDCWD, elf.interpreter, 0);
  const linkerElf = readElf(linker.inode);
  extent(linkerElf);
  prefetch(linkerElf, linker.inode);
  return { file, elf, arguments: argv, interpreter: { file: linker, elf: linkerElf } };
}

function checkSize(thread: Thread, strings: readonly ByteString[]): void {
  const stack = thread.process.limit(RLIMIT_STACK);
  const most = Math.max(STRING_AT_MOST, Math.min(stack / 4, ARGUMENTS_AT_MOST));
  if (strings.some((string) => string.length >= STRING_AT_MOST) || stackSize(strings) > most) {
    throw new Errno(E["2BIG"]);
  }
}

/** Set-user-ID and set-group-ID of the file. */
function credentialsFor(thread: Thread, file: ExecutableFile): Credentials {
  const { process } = thread;
  const now = process.credentials;
  const { mode, uid, gid } = file.inode.stat();
  const next = { ...now, suid: now.euid, fsuid: now.euid, sgid: now.egid, fsgid: now.egid };
  if (process.noNewPrivileges) return afterExecve(now, next);
  if ((mode & S_ISUID) !== 0) next.euid = next.suid = next.fsuid = uid;
  if ((mode & (S_ISGID | S_IXGRP)) === (S_ISGID | S_IXGRP)) next.egid = next.sgid = next.fsgid = gid;
  return afterExecve(now, next);
}

/** The new program's address space. Nothing in it waits: `plan` has read what is needed. */
function build(
  thread: Thread,
  { file, elf, arguments: argv, interpreter }: Plan,
  path: ByteString,
  environment: readonly ByteString[],
  credentials: Credentials,
): { maps: Maps; entry: number; sp: number } {
  const { process } = thread;
  const { kernel } = process;
  const maps = new Maps(kernel.pool, kernel.sharedVersions, kernel.pages, thread.maps.space.bytes.length);
  try {
    maps.stackLimit = Math.min(process.limit(RLIMIT_STACK), STACK_AT_MOST);
    const bias = elf.relocatable ? (interpreter === undefined ? LONE_BASE : PIE_BASE) - extent(elf)[0] : 0;
    const program = load(maps, elf, bias, file.inode, file.name);
    maps.codeStart = program.codeStart;
    maps.codeEnd = program.codeEnd;
    maps.dataStart = program.dataStart;
    maps.dataEnd = program.dataEnd;
    maps.brkStart = maps.brk = pageUp(program.end);
    maps.brkLimit = maps.brkStart + BRK_ROOM;
    const top = maps.brkLimit + STACK_GAP + pageUp(maps.stackLimit);
    maps.map(top - STACK_FIRST, {
      length: STACK_FIRST,
      prot: PROT_READ | PROT_WRITE | (elf.executableStack ? PROT_EXEC : 0),
      shared: false,
      backing: undefined,
      offset: 0,
      name: "[stack]",
      growsDown: true,
    });
    maps.mmapBase = top + 16 * PAGE_SIZE;
    let { entry } = program;
    let base = 0;
    if (interpreter !== undefined) {
      const [low, high] = extent(interpreter.elf);
      base = interpreter.elf.relocatable ? maps.findRoom(0, high - low) - low : 0;
      const linker = load(maps, interpreter.elf, base, interpreter.file.inode, interpreter.file.name);
      entry = linker.entry;
    }
    const random = new Uint8Array(16);
    kernel.random(random);
    const contents = {
      path,
      arguments: argv,
      environment,
      random,
      headers: program.headers,
      headerCount: elf.headerCount,
      entry: program.entry,
      base,
      uid: credentials.uid,
      euid: credentials.euid,
      gid: credentials.gid,
      egid: credentials.egid,
      secure: credentials.uid !== credentials.euid || credentials.gid !== credentials.egid,
    };
    const sp = buildStack(maps, top, contents, (address, length) => {
      for (let at = address - (address % PAGE_SIZE); at < address + length; at += PAGE_SIZE) {
        maps.fault(at, PAGE_WRITABLE);
      }
      return maps.space.raw(address, length);
    });
    maps.setExecutable(file.inode, file.name);
    maps.limit = process.limit(RLIMIT_AS);
    return { maps, entry, sp };
  } catch (error) {
    maps.discard();
    throw error;
  }
}

/** A processor as a new program finds it. */
function resetProcessor(thread: Thread, entry: number, sp: number): void {
  const { cpu } = thread;
  const instructions = cpu.slice(592, 600);
  cpu.fill(0);
  cpu.set(instructions, 592);
  const view = new DataView(cpu.buffer);
  view.setUint32(CPU_MXCSR, 0x1f80, true);
  view.setUint16(FPU_CONTROL, 0x37f, true);
  view.setUint32(CPU_RFLAGS, 0x202, true);
  thread.registers.rip = entry;
  thread.registers.set(RSP, sp);
}

/** Replaces the thread's program. Throws `Errno` or `Block` before anything has changed. */
export function execute(
  thread: Thread,
  file: ExecutableFile,
  path: ByteString,
  argv: readonly ByteString[],
  environment: readonly ByteString[],
): void {
  const { process } = thread;
  const { kernel } = process;
  const planned = plan(thread, file, path, argv);
  checkSize(thread, [...planned.arguments, ...environment, path]);
  const credentials = credentialsFor(thread, planned.file);
  const { maps, entry, sp } = build(thread, planned, path, environment, credentials);
  // From here on the old program is gone.
  for (const other of [...process.threads]) if (other !== thread) exitThread(other, 0);
  if (thread.tid !== process.pid) kernel.renumber(thread, process.pid);
  kernel.futexes.forget(thread);
  thread.maps.space.unload();
  thread.replaceMaps(maps);
  resetProcessor(thread, entry, sp);
  process.credentials = credentials;
  process.hasExecuted = true;
  process.exitSignal = process.exitSignal === 0 ? 0 : SIGCHLD;
  process.posixTimers.clear();
  resetActions(process.actions);
  thread.alternateStack = { address: 0, size: 0, flags: 2 };
  thread.robustList = 0;
  thread.clearChildTid = 0;
  thread.name = path.slice(path.lastIndexOf("/") + 1).slice(0, 15);
  kernel.unshareFiles(process);
  process.files.closeOnExec();
  releaseVfork(process);
}
