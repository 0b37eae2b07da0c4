import { expect, test } from "vitest";
import { E } from "../errno.ts";
import type { OpenFile } from "../types.ts";
import { type Caller, CallerKernel, WAITS, attempt, makeCaller } from "./caller.ts";
import { O_RDWR } from "./constants.ts";
import { Locks } from "./locks.ts";
import { PseudoFile, PseudoInode } from "./pseudo.ts";

class Plain extends PseudoFile {
  readonly name = "/file";
  poll(): number {
    return 0;
  }
}

const kernel = new CallerKernel();
const inode = new PseudoInode(makeCaller(kernel), 1, 0o100600);
const open = (): OpenFile => new Plain(inode, O_RDWR);
const [READ, WRITE, UNLOCK] = [0, 1, 2] as const;

function range(
  locks: Locks,
  task: Caller,
  file: OpenFile,
  command: number,
  type: number,
  start: number,
  length: number,
) {
  const at = task.memory.place(32);
  task.memory.setU16(at, type);
  task.memory.setI64(at + 8, start);
  task.memory.setI64(at + 16, length);
  const result = attempt(task, () => locks.control(task, file, command, at));
  if (command !== 5) return result;
  const [a, b] = [task.memory.getI64(at + 8), task.memory.getI64(at + 16)];
  return `${task.memory.getU16(at)} ${a}+${b} pid ${task.memory.getI32(at + 24)}`;
}

test("ranges split, join, and keep others out", () => {
  const locks = new Locks();
  const [one, two] = [makeCaller(kernel), makeCaller(kernel)];
  const [mine, theirs] = [open(), open()];
  const set = (task: Caller, file: OpenFile, type: number, start: number, length: number) =>
    range(locks, task, file, 6, type, start, length);
  expect(set(one, mine, WRITE, 0, 100)).toBe(0);
  expect(set(two, theirs, READ, 99, 1)).toBe(-E.AGAIN);
  expect(set(one, mine, UNLOCK, 40, 20)).toBe(0);
  expect(set(two, theirs, WRITE, 40, 20)).toBe(0);
  expect(set(one, mine, READ, 0, 40)).toBe(0);
  expect(set(two, theirs, READ, 0, 40)).toBe(0);
  expect(range(locks, two, theirs, 5, WRITE, 0, 0)).toBe(`0 0+40 pid ${one.process.pid}`);
  expect(range(locks, one, mine, 5, WRITE, 50, 1)).toBe(`1 40+20 pid ${two.process.pid}`);
  locks.closed(one.process.files, mine);
  expect(set(two, theirs, WRITE, 0, 0)).toBe(0);
});

test("who would wait for himself gets EDEADLK", () => {
  const locks = new Locks();
  const [one, two] = [makeCaller(kernel), makeCaller(kernel)];
  const [mine, theirs] = [open(), open()];
  expect(range(locks, one, mine, 7, WRITE, 0, 1)).toBe(0);
  expect(range(locks, two, theirs, 7, WRITE, 1, 1)).toBe(0);
  expect(range(locks, one, mine, 7, WRITE, 1, 1)).toBe(WAITS);
  expect(range(locks, two, theirs, 7, WRITE, 0, 1)).toBe(-E.DEADLK);
  // A signal ended the first wait: there is no circle any more.
  one.restart = undefined;
  expect(range(locks, two, theirs, 7, WRITE, 0, 1)).toBe(WAITS);
});

test("flock is the open file's, shared or alone", () => {
  const locks = new Locks();
  const task = makeCaller(kernel);
  const [a, b, c] = [open(), open(), open()];
  const flock = (file: OpenFile, operation: number) =>
    attempt(task, () => locks.flock(task, file, operation));
  expect(flock(a, 1)).toBe(0);
  expect(flock(b, 1)).toBe(0);
  expect(flock(c, 2 | 4)).toBe(-E.AGAIN);
  expect(flock(c, 2)).toBe(WAITS);
  locks.released(a);
  expect(flock(b, 8)).toBe(0);
  expect(flock(c, 2)).toBe(0);
  expect(flock(b, 1 | 4)).toBe(-E.AGAIN);
});
