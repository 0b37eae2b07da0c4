import { expect, test } from "vitest";
import { E } from "../errno.ts";
import { pipeCalls } from "../syscalls/pipes.ts";
import type { OpenFile } from "../types.ts";
import { type Caller, WAITS, attempt, callOnce, makeCaller } from "./caller.ts";
import { O_NONBLOCK, O_RDONLY, O_WRONLY, POLLERR, POLLHUP, READABLE, WRITABLE } from "./constants.ts";
import { openFifo } from "./fifo.ts";
import type { PipeFile } from "./pipe.ts";
import { PseudoInode } from "./pseudo.ts";
import { HostStream } from "./stream.ts";

function pipe(task: Caller, flags = 0): [PipeFile, PipeFile] {
  const at = task.memory.place(8);
  expect(callOnce(pipeCalls, task, "pipe2", at, flags)).toBe(0);
  const files = task.process.files;
  return [files.get(task.memory.getU32(at)) as PipeFile, files.get(task.memory.getU32(at + 4)) as PipeFile];
}

const text = (s: string): Uint8Array => new TextEncoder().encode(s);
const read = (task: Caller, file: OpenFile, size: number) => {
  const into = new Uint8Array(size);
  const count = attempt(task, () => file.read(task, into, null));
  return typeof count === "number" && count >= 0 ? new TextDecoder().decode(into.subarray(0, count)) : count;
};
const write = (task: Caller, file: OpenFile, content: Uint8Array) =>
  attempt(task, () => file.write(task, content, null));

test("bytes go through in order and the end is read after the last writer", () => {
  const task = makeCaller();
  const [from, to] = pipe(task);
  expect(read(task, from, 10)).toBe(WAITS);
  expect(write(task, to, text("hello "))).toBe(6);
  expect(write(task, to, text("world"))).toBe(5);
  expect(from.poll() & READABLE).toBe(READABLE);
  expect(read(task, from, 8)).toBe("hello wo");
  task.process.files.close(1);
  expect(read(task, from, 8)).toBe("rld");
  expect(from.poll()).toBe(POLLHUP);
  expect(read(task, from, 8)).toBe("");
});

test("a small write is whole or waits, a large one goes in parts", () => {
  const task = makeCaller();
  const other = makeCaller(task.process.kernel, task);
  const [from, to] = pipe(task);
  expect(write(task, to, new Uint8Array(65536 - 100))).toBe(65436);
  expect(write(task, to, new Uint8Array(101))).toBe(WAITS);
  expect(from.pipe.data.length).toBe(65436);
  expect(to.poll() & WRITABLE).toBe(0);
  expect(write(other, to, new Uint8Array(70000).fill(7))).toBe(WAITS);
  expect(from.pipe.data.length).toBe(65536);
  from.pipe.data.clear();
  expect(write(other, to, new Uint8Array(70000).fill(7))).toBe(WAITS);
  from.pipe.data.clear();
  other.signalPending = true;
  expect(write(other, to, new Uint8Array(70000).fill(7))).toBe(70000);
});

test("a signal ends a write that has moved something with what it has", () => {
  const task = makeCaller();
  const [, to] = pipe(task);
  expect(write(task, to, new Uint8Array(70000))).toBe(WAITS);
  task.signalPending = true;
  expect(write(task, to, new Uint8Array(70000))).toBe(65536);
});

test("without readers there is EPIPE and SIGPIPE", () => {
  const task = makeCaller();
  const [, to] = pipe(task);
  task.process.files.close(0);
  expect(to.poll() & POLLERR).toBe(POLLERR);
  expect(write(task, to, text("x"))).toBe(-E.PIPE);
  expect(task.process.kernel.takeSignals()).toEqual([`process ${task.process.pid}: 13`]);
});

test("O_NONBLOCK answers EAGAIN or what fits", () => {
  const task = makeCaller();
  const [from, to] = pipe(task, O_NONBLOCK);
  expect(read(task, from, 1)).toBe(-E.AGAIN);
  expect(write(task, to, new Uint8Array(65530))).toBe(65530);
  expect(write(task, to, new Uint8Array(10))).toBe(-E.AGAIN);
  expect(write(task, to, new Uint8Array(5000))).toBe(6);
});

test("a FIFO's opens wait for each other", () => {
  const task = makeCaller();
  const other = makeCaller(task.process.kernel);
  const inode = new PseudoInode(task, 1, 0o10600);
  let reader: OpenFile | undefined;
  let writer: OpenFile | undefined;
  const openReader = () => attempt(task, () => ((reader = openFifo(task, inode, O_RDONLY, "/f")), 0));
  expect(attempt(other, () => (openFifo(other, inode, O_WRONLY | O_NONBLOCK, "/f"), 0))).toBe(-E.NXIO);
  expect(openReader()).toBe(WAITS);
  expect(attempt(other, () => ((writer = openFifo(other, inode, O_WRONLY, "/f")), 0))).toBe(0);
  expect(write(other, writer!, text("early"))).toBe(5);
  writer!.release();
  expect(openReader()).toBe(0);
  expect(read(task, reader!, 10)).toBe("early");
  expect(read(task, reader!, 10)).toBe("");
  reader!.release();
});

test("a FIFO's open that a signal ended counts no more", () => {
  const task = makeCaller();
  const other = makeCaller(task.process.kernel);
  const inode = new PseudoInode(task, 1, 0o10600);
  expect(attempt(task, () => (openFifo(task, inode, O_RDONLY, "/f"), 0))).toBe(WAITS);
  task.restart = undefined;
  expect(attempt(other, () => (openFifo(other, inode, O_WRONLY | O_NONBLOCK, "/f"), 0))).toBe(-E.NXIO);
});

test("the host's stream gives what was pushed, then its end", () => {
  const task = makeCaller();
  const stream = new HostStream(task);
  const out: string[] = [];
  stream.onData = (bytes) => out.push(new TextDecoder().decode(bytes));
  expect(read(task, stream, 4)).toBe(WAITS);
  stream.push(text("abcdef"));
  stream.end();
  expect(read(task, stream, 4)).toBe("abcd");
  expect(read(task, stream, 4)).toBe("ef");
  expect(read(task, stream, 4)).toBe("");
  expect(write(task, stream, text("out"))).toBe(3);
  expect(out).toEqual(["out"]);
});
