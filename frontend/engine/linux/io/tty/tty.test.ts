import { expect, test } from "vitest";
import { E } from "../../errno.ts";
import { type Caller, CallerKernel, WAITS, attempt, makeCaller } from "../caller.ts";
import { O_NONBLOCK, O_RDWR, READABLE } from "../constants.ts";
import { PseudoInode } from "../pseudo.ts";
import { Console } from "./console.ts";
import { TerminalFile } from "./file.ts";
import { ECHO, ECHOE, ICANON, ISIG, IUTF8, IXON, NOFLSH, TOSTOP, VMIN, VTIME } from "./termios.ts";

interface Setup {
  task: Caller;
  tty: Console;
  file: TerminalFile;
  /** What was shown since the last time. */
  shown: () => string;
  type: (text: string) => void;
  read: (size?: number) => string | number;
}

function setup(flags = O_RDWR): Setup {
  const kernel = new CallerKernel();
  const task = makeCaller(kernel);
  const tty = new Console(kernel, 0);
  let out = "";
  tty.onOutput = (bytes) => void (out += Buffer.from(bytes).toString("latin1"));
  const file = new TerminalFile(tty, new PseudoInode(task, 5, 0o20620), flags, "/dev/ttyS0");
  return {
    task,
    tty,
    file,
    shown: () => {
      const text = out;
      out = "";
      return text;
    },
    type: (text) => tty.input(Uint8Array.from(Buffer.from(text, "latin1"))),
    read: (size = 100) => {
      const into = new Uint8Array(size);
      const count = attempt(task, () => file.read(task, into, null));
      if (typeof count !== "number" || count < 0) return count;
      return Buffer.from(into.subarray(0, count)).toString("latin1");
    },
  };
}

function change({ tty }: Setup, set: number, clear = 0, iflag = 0): void {
  const old = tty.termios;
  tty.setTermios({ ...old, lflag: (old.lflag | set) & ~clear, iflag: old.iflag | iflag, cc: old.cc.slice() });
}

test("a line is read when it ends, one at a time, and echoed", () => {
  const t = setup();
  t.type("ls -l");
  expect(t.read()).toBe(WAITS);
  expect(t.file.poll() & READABLE).toBe(0);
  t.type("\rpwd\r");
  expect(t.shown()).toBe("ls -l\r\npwd\r\n");
  expect(t.read(3)).toBe("ls ");
  expect(t.read()).toBe("-l\n");
  expect(t.read()).toBe("pwd\n");
  expect(t.read()).toBe(WAITS);
});

test("end of file ends a line without a byte, alone it is an end", () => {
  const t = setup();
  t.type("abc\x04\x04");
  expect(t.read()).toBe("abc");
  expect(t.read()).toBe("");
  t.type("abc\x04");
  expect(t.read(3)).toBe("abc");
  expect(t.read()).toBe(WAITS);
});

test("erasing goes back over what is shown", () => {
  const t = setup();
  t.type("ab\x7f");
  expect(t.shown()).toBe("ab\b \b");
  t.type("\x01\x7f");
  expect(t.shown()).toBe("^A\b \b\b \b");
  t.type("\tx\x7f\x7f");
  expect(t.shown()).toBe("\tx\b \b\b\b\b\b\b\b\b");
  t.type(" one two\x17");
  expect(t.shown()).toBe(" one two\b \b\b \b\b \b");
  t.type("\x15");
  expect(t.shown()).toBe("\b \b".repeat(6));
  t.type("\x7f\rx");
  expect(t.read()).toBe("\n");
});

test("with IUTF8 a character of several bytes is erased as one", () => {
  const t = setup();
  change(t, 0, 0, IUTF8);
  t.type("a\xc3\xa9\x7f\n");
  expect(t.shown()).toBe("a\xc3\xa9\b \b\r\n");
  expect(t.read()).toBe("a\n");
});

test("Ctrl-V takes the next character as it is, Ctrl-R shows the line again", () => {
  const t = setup();
  t.type("\x16\x03a\x12");
  expect(t.shown()).toBe("^\b^Ca^R\r\n^Ca");
  t.type("\n");
  expect(t.read()).toBe("\x03a\n");
});

test("without ECHOE an erase shows the erasing character", () => {
  const t = setup();
  change(t, 0, ECHOE);
  t.type("ab\x7f");
  expect(t.shown()).toBe("ab^?");
});

test("Ctrl-C and Ctrl-Z reach the foreground and flush what was typed", () => {
  const t = setup();
  t.tty.takeSession(t.task.process);
  t.type("abc\x03");
  expect(t.shown()).toBe("^C");
  expect(t.task.process.kernel.takeSignals()).toEqual([`group ${t.task.process.pgid}: 2`]);
  t.type("\r");
  expect(t.read()).toBe("\n");
  change(t, NOFLSH);
  t.type("abc\x1a\r");
  expect(t.task.process.kernel.takeSignals()).toEqual([`group ${t.task.process.pgid}: 20`]);
  expect(t.read()).toBe("abc\n");
  change(t, 0, ISIG);
  t.type("\x03\r");
  expect(t.read()).toBe("\x03\n");
});

test("Ctrl-S stops the output, Ctrl-Q lets it go on", () => {
  const t = setup();
  t.type("\x13");
  const write = (text: string) =>
    attempt(t.task, () => t.file.write(t.task, new TextEncoder().encode(text), null));
  expect(write("later")).toBe(WAITS);
  t.type("x");
  expect(t.shown()).toBe("");
  t.type("\x11");
  expect(t.shown()).toBe("x");
  expect(write("later\n")).toBe(6);
  expect(t.shown()).toBe("later\r\n");
  expect(t.tty.termios.iflag & IXON).toBe(IXON);
});

test("VMIN and VTIME decide when a raw read ends", () => {
  const t = setup();
  change(t, 0, ICANON | ECHO);
  const { cc } = t.tty.termios;
  cc[VMIN] = 3;
  t.type("ab");
  expect(t.read()).toBe(WAITS);
  expect(t.read(2)).toBe("ab");
  t.type("cde");
  expect(t.read()).toBe("cde");
  cc[VMIN] = 0;
  expect(t.read()).toBe("");
  cc[VTIME] = 2;
  expect(t.read()).toBe(WAITS);
  t.task.process.kernel.advance(150_000_000);
  expect(t.read()).toBe(WAITS);
  t.task.process.kernel.advance(60_000_000);
  expect(t.read()).toBe("");
  cc[VMIN] = 3;
  expect(t.read()).toBe(WAITS);
  t.type("x");
  expect(t.read()).toBe(WAITS);
  t.task.process.kernel.advance(150_000_000);
  t.type("y");
  expect(t.read()).toBe(WAITS);
  t.task.process.kernel.advance(150_000_000);
  expect(t.read()).toBe(WAITS);
  t.task.process.kernel.advance(60_000_000);
  expect(t.read()).toBe("xy");
});

test("what was typed before raw mode is read in it", () => {
  const t = setup(O_RDWR | O_NONBLOCK);
  t.type("abc");
  expect(t.read()).toBe(-E.AGAIN);
  change(t, 0, ICANON);
  expect(t.read()).toBe("abc");
  t.type("def");
  change(t, ICANON);
  expect(t.read()).toBe("def");
});

test("a line that is too long keeps its beginning, and raw input waits", () => {
  const t = setup();
  change(t, 0, ECHO);
  t.type("x".repeat(5000) + "\n");
  const line = t.read(6000) as string;
  expect(line.length).toBe(4095 + 1);
  expect(line.endsWith("x\n")).toBe(true);
  change(t, 0, ICANON);
  t.type("y".repeat(10000));
  expect((t.read(10000) as string).length).toBe(4095);
  expect((t.read(10000) as string).length).toBe(4095);
  expect((t.read(10000) as string).length).toBe(10000 - 2 * 4095);
});

test("background processes are stopped when they read, and with TOSTOP when they write", () => {
  const t = setup();
  const { kernel } = t.task.process;
  t.tty.takeSession(t.task.process);
  const other = makeCaller(kernel, t.task);
  other.process.pgid = other.process.pid;
  const into = new Uint8Array(10);
  expect(attempt(other, () => t.file.read(other, into, null))).toBe(WAITS);
  expect(kernel.takeSignals()).toEqual([`group ${other.process.pgid}: 21`]);
  kernel.ignored.add(21);
  expect(attempt(other, () => t.file.read(other, into, null))).toBe(-E.IO);
  kernel.ignored.clear();
  kernel.orphaned.add(other.process.pgid);
  expect(attempt(other, () => t.file.read(other, into, null))).toBe(-E.IO);
  kernel.orphaned.clear();
  const write = () => attempt(other, () => t.file.write(other, new Uint8Array(1), null));
  expect(write()).toBe(1);
  change(t, TOSTOP);
  expect(write()).toBe(WAITS);
  expect(kernel.takeSignals()).toEqual([`group ${other.process.pgid}: 22`]);
});

test("a dropped line hangs up its session and what is open of it", () => {
  const t = setup();
  const { pid, pgid } = t.task.process;
  t.tty.takeSession(t.task.process);
  t.tty.disconnect();
  expect(t.task.process.kernel.takeSignals()).toEqual([
    `process ${pid}: 1`,
    `process ${pid}: 18`,
    `group ${pgid}: 1`,
  ]);
  expect(t.task.process.session.terminal).toBe(undefined);
  expect(t.read()).toBe("");
  expect(attempt(t.task, () => t.file.write(t.task, new Uint8Array(1), null))).toBe(-E.IO);
});

test("a new size tells the foreground once", () => {
  const t = setup();
  t.tty.takeSession(t.task.process);
  const size = { rows: 24, columns: 80, xpixels: 0, ypixels: 0 };
  t.tty.resize(size);
  t.tty.resize(size);
  expect(t.task.process.kernel.takeSignals()).toEqual([`group ${t.task.process.pgid}: 28`]);
});
