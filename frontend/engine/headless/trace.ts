/** Shows system calls on standard error, like strace. */

import { E, Errno } from "../linux/errno.ts";
import type { Tracer } from "../linux/kernel.ts";
import { SIGNAL_NAMES, SIGRTMIN } from "../linux/signals/numbers.ts";
import type { SignalInfo } from "../linux/signals/pending.ts";
import { callName } from "../linux/syscalls/numbers.ts";
import { NO_RESULT, type Thread } from "../linux/task.ts";
import type { Arguments } from "../linux/types.ts";
import { Block } from "../linux/wait.ts";
import { ARGUMENTS, OPEN_FLAGS, PROT_NAMES, MAP_NAMES, HEX_RESULT } from "./trace-table.ts";

const NAMES = new Map<number, string>(Object.entries(E).map(([name, code]) => [code, `E${name}`]));
const SHOWN = 32;

export function signalName(signal: number): string {
  if (signal >= SIGRTMIN) return `SIGRT_${signal - SIGRTMIN}`;
  return SIGNAL_NAMES[signal] === undefined ? `${signal}` : `SIG${SIGNAL_NAMES[signal]}`;
}

function hex(value: number): string {
  return value === 0 ? "NULL" : `0x${BigInt.asUintN(64, BigInt(value)).toString(16)}`;
}

function quote(bytes: Uint8Array, more: boolean): string {
  let text = "";
  for (const byte of bytes) {
    if (byte === 10) text += "\\n";
    else if (byte === 9) text += "\\t";
    else if (byte === 13) text += "\\r";
    else if (byte === 34 || byte === 92) text += `\\${String.fromCharCode(byte)}`;
    else if (byte >= 32 && byte < 127) text += String.fromCharCode(byte);
    else text += `\\${byte.toString(8)}`;
  }
  return `"${text}"${more ? "..." : ""}`;
}

function flags(value: number, names: readonly (readonly [number, string])[], none: string): string {
  let rest = value;
  const found: string[] = [];
  for (const [bits, name] of names) {
    if ((rest & bits) !== bits) continue;
    found.push(name);
    rest &= ~bits;
  }
  if (rest !== 0) found.push(`0x${(rest >>> 0).toString(16)}`);
  return found.length === 0 ? none : found.join("|");
}

function openFlags(value: number): string {
  const shown = flags(value, OPEN_FLAGS, "");
  return (value & 3) !== 0 ? shown : `O_RDONLY${shown === "" ? "" : `|${shown}`}`;
}

/** Guest memory for showing: what is not there is not shown. */
function peek<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof Errno || error instanceof Block) return otherwise;
    throw error;
  }
}

function buffer(thread: Thread, address: number, length: number): string {
  if (length < 0 || address === 0) return hex(address);
  const shown = Math.min(length, SHOWN);
  const bytes = peek<Uint8Array | undefined>(() => thread.memory.readable(address, shown), undefined);
  return bytes === undefined ? hex(address) : quote(bytes, length > shown);
}

function text(thread: Thread, address: number): string {
  if (address === 0) return "NULL";
  const found = peek<string | undefined>(() => thread.memory.string(address), undefined);
  return found === undefined ? hex(address) : quote(Buffer.from(found, "latin1"), false);
}

function list(thread: Thread, address: number): string {
  const found: string[] = [];
  for (let at = address; found.length < 16; at += 8) {
    const pointer = peek(() => thread.memory.getI64(at), 0);
    if (pointer === 0) return `[${found.join(", ")}]`;
    found.push(text(thread, pointer));
  }
  return `[${found.join(", ")}, ...]`;
}

/** One argument. `result`: the call's, once it is known. */
function show(thread: Thread, kind: string, a: Arguments, index: number, result: number): string {
  const value = a[index]!;
  switch (kind) {
    case "d":
      return `${value | 0}`;
    case "u":
      return `${value}`;
    case "f":
      return (value | 0) === -100 ? "AT_FDCWD" : `${value | 0}`;
    case "s":
      return text(thread, value);
    case "v":
      return list(thread, value);
    case "w":
      return buffer(thread, value, a[index + 1]!);
    case "r":
      return buffer(thread, value, result);
    case "O":
      return openFlags(value | 0);
    case "P":
      return flags(value | 0, PROT_NAMES, "PROT_NONE");
    case "M":
      return flags(value | 0, MAP_NAMES, "0");
    case "o":
      return `0${(value & 0xffff).toString(8)}`;
    case "S":
      return signalName(value | 0);
    default:
      return hex(value);
  }
}

/** What was told of a call before its end: its end then has a line of its own. */
export class ConsoleTracer implements Tracer {
  readonly #write: (line: string) => void;
  readonly #pending = new Map<number, string>();

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  enter(thread: Thread, number: number, a: Arguments): void {
    const name = callName(number);
    // What the call replaces can't be read after it.
    if (name.startsWith("exec") || name.startsWith("exit"))
      this.#pending.set(thread.tid, this.#call(thread, number, a, 0));
  }

  #call(thread: Thread, number: number, a: Arguments, result: number): string {
    const name = callName(number);
    const kinds = ARGUMENTS[name] ?? "xxxxxx";
    const shown = [...kinds].map((kind, index) => show(thread, kind, a, index, result));
    return `${name}(${shown.join(", ")})`;
  }

  leave(thread: Thread, number: number, a: Arguments, result: number): void {
    const call = this.#pending.get(thread.tid) ?? this.#call(thread, number, a, result);
    this.#pending.delete(thread.tid);
    let shown = `${result}`;
    if (result === NO_RESULT) shown = callName(number).startsWith("exec") ? "0" : "?";
    else if (result < 0 && result > -4096) shown = `-1 ${NAMES.get(-result) ?? -result}`;
    else if (HEX_RESULT.has(callName(number))) shown = hex(result);
    this.#write(`[${thread.tid}] ${call} = ${shown}`);
  }

  interrupted(thread: Thread, number: number, restarts: boolean): void {
    this.#pending.delete(thread.tid);
    this.#write(
      `[${thread.tid}] ${callName(number)}(...) = ? ${restarts ? "ERESTARTSYS" : "EINTR"} (interrupted)`,
    );
  }

  signal(thread: Thread, info: SignalInfo): void {
    const from = info.pid === undefined ? "" : `, si_pid=${info.pid}`;
    const at = info.address === undefined ? "" : `, si_addr=0x${info.address.toString(16)}`;
    this.#write(`[${thread.tid}] --- ${signalName(info.signal)} {si_code=${info.code}${from}${at}} ---`);
  }
}
