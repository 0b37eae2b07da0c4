import { expect, test } from "vitest";
import { E } from "../../errno.ts";
import { epollCalls } from "../../syscalls/epoll.ts";
import { messageCalls } from "../../syscalls/messages.ts";
import { pollingCalls } from "../../syscalls/polling.ts";
import { socketCalls } from "../../syscalls/sockets.ts";
import type { SystemCalls } from "../../types.ts";
import { type Caller, WAITS, attempt, callOnce, makeCaller } from "../caller.ts";
import { O_NONBLOCK, POLLIN, POLLOUT } from "../constants.ts";
import { AF_INET, AF_UNIX, MSG_DONTWAIT, SHUT_WR, SOCK_DGRAM, SOCK_STREAM } from "./numbers.ts";
import { parseInet } from "./inet-address.ts";

const calls: SystemCalls = { ...socketCalls, ...messageCalls, ...epollCalls, ...pollingCalls };
const call = (task: Caller, name: string, ...a: number[]) => callOnce(calls, task, name, ...a);

function inet(task: Caller, port: number): number {
  return task.memory.put(Uint8Array.of(2, 0, port >>> 8, port & 255, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0));
}

function abstract(task: Caller, name: string): [number, number] {
  return [task.memory.put(`\x01\x00\x00${name}`), 3 + name.length];
}

function portOf(task: Caller, fd: number): number {
  const [at, length] = [task.memory.place(28), task.memory.place(4)];
  task.memory.setU32(length, 28);
  expect(call(task, "getsockname", fd, at, length)).toBe(0);
  return parseInet(task.memory.readable(at, 16), AF_INET).port;
}

function send(task: Caller, fd: number, content: string): number | string {
  return call(task, "sendto", fd, task.memory.put(content), content.length, 0, 0, 0);
}

function receive(task: Caller, fd: number, size = 100, flags = MSG_DONTWAIT): number | string {
  const at = task.memory.place(size);
  const count = call(task, "recvfrom", fd, at, size, flags, 0, 0);
  return typeof count === "number" && count >= 0 ? task.memory.text(at, count) : count;
}

test("a TCP connection is made when there is room, and carries bytes both ways until both ends are shut", () => {
  const task = makeCaller();
  const server = call(task, "socket", AF_INET, SOCK_STREAM, 0) as number;
  expect(call(task, "bind", server, inet(task, 0), 16)).toBe(0);
  const port = portOf(task, server);
  const client = call(task, "socket", AF_INET, SOCK_STREAM, 0) as number;
  expect(call(task, "connect", client, inet(task, port), 16)).toBe(-E.CONNREFUSED);
  expect(call(task, "listen", server, 0)).toBe(0);
  expect(call(task, "accept", server, 0, 0)).toBe(WAITS);
  expect(call(task, "connect", client, inet(task, port), 16)).toBe(0);
  const second = call(task, "socket", AF_INET, SOCK_STREAM, 0) as number;
  const other = makeCaller(task.process.kernel, task);
  expect(call(other, "connect", second, inet(other, port), 16)).toBe(WAITS);
  const accepted = call(task, "accept", server, 0, 0) as number;
  expect(call(other, "connect", second, inet(other, port), 16)).toBe(0);
  expect(send(task, client, "question")).toBe(8);
  expect(receive(task, accepted)).toBe("question");
  expect(call(task, "shutdown", client, SHUT_WR)).toBe(0);
  expect(receive(task, accepted)).toBe("");
  expect(send(task, accepted, "answer")).toBe(6);
  expect(receive(task, client)).toBe("answer");
  expect(send(task, client, "more")).toBe(-E.PIPE);
  expect(task.process.kernel.takeSignals()).toEqual([`process ${task.process.pid}: 13`]);
});

test("outside of the machine there is nothing", () => {
  const task = makeCaller();
  const fd = call(task, "socket", AF_INET, SOCK_DGRAM, 0) as number;
  const outside = task.memory.put(Uint8Array.of(2, 0, 0, 53, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0));
  expect(call(task, "connect", fd, outside, 16)).toBe(-E.NETUNREACH);
  expect(call(task, "bind", fd, outside, 16)).toBe(-E.ADDRNOTAVAIL);
  expect(call(task, "socket", 17, SOCK_DGRAM, 0)).toBe(-E.AFNOSUPPORT);
});

test("a name is used once, and a full receiver makes the sender wait", () => {
  const task = makeCaller();
  const [name, length] = abstract(task, "service");
  const server = call(task, "socket", AF_UNIX, SOCK_DGRAM, 0) as number;
  const client = call(task, "socket", AF_UNIX, SOCK_DGRAM, 0) as number;
  expect(call(task, "connect", client, name, length)).toBe(-E.CONNREFUSED);
  expect(call(task, "bind", server, name, length)).toBe(0);
  expect(call(task, "bind", client, name, length)).toBe(-E.ADDRINUSE);
  expect(call(task, "connect", client, name, length)).toBe(0);
  for (let i = 0; i < 512; i += 1) expect(send(task, client, "x")).toBe(1);
  expect(send(task, client, "y")).toBe(WAITS);
  expect(receive(task, server)).toBe("x");
  expect(send(task, client, "y")).toBe(1);
  task.process.files.close(server);
  expect(send(task, client, "z")).toBe(-E.CONNREFUSED);
});

test("a stream that is full waits, goes on where it was, and tells a signal what went", () => {
  const task = makeCaller();
  const at = task.memory.place(8);
  expect(call(task, "socketpair", AF_UNIX, SOCK_STREAM, 0, at)).toBe(0);
  const [a, b] = [task.memory.getU32(at), task.memory.getU32(at + 4)];
  const reader = makeCaller(task.process.kernel, task);
  const data = task.memory.place(300000);
  task.memory.bytes.fill(7, data, data + 300000);
  const write = () => call(task, "sendto", a, data, 300000, 0, 0, 0);
  expect(write()).toBe(WAITS);
  expect(task.restart?.done).toBe(212992);
  expect((receive(reader, b, 200000) as string).length).toBe(200000);
  expect(write()).toBe(300000);
  expect((receive(reader, b, 200000) as string).length).toBe(100000);
});

test("a descriptor that is passed lives on though its sender has closed it", () => {
  const task = makeCaller();
  const at = task.memory.place(8);
  call(task, "socketpair", AF_UNIX, SOCK_STREAM, 0, at);
  const [a, b] = [task.memory.getU32(at), task.memory.getU32(at + 4)];
  call(task, "socketpair", AF_UNIX, SOCK_STREAM, 0, at);
  const [inner, other] = [task.memory.getU32(at), task.memory.getU32(at + 4)];
  const { memory } = task;
  const header = (control: number): number => {
    const message = memory.place(56);
    const parts = memory.place(16);
    memory.setI64(parts, memory.put("m"));
    memory.setI64(parts + 8, 1);
    memory.setI64(message + 16, parts);
    memory.setI64(message + 24, 1);
    memory.setI64(message + 32, control);
    memory.setI64(message + 40, 24);
    return message;
  };
  const control = memory.place(24);
  memory.setI64(control, 20);
  memory.setU32(control + 8, 1);
  memory.setU32(control + 12, 1);
  memory.setU32(control + 16, inner);
  const file = task.process.files.get(inner);
  expect(call(task, "sendmsg", a, header(control), 0)).toBe(1);
  task.process.files.close(inner);
  expect(file.references).toBe(1);
  expect(send(task, other, "alive")).toBe(5);
  const got = memory.place(24);
  expect(call(task, "recvmsg", b, header(got), 0)).toBe(1);
  expect(receive(task, memory.getU32(got + 16))).toBe("alive");
  // One that nobody takes goes with the socket.
  memory.setU32(control + 16, memory.getU32(got + 16));
  call(task, "sendmsg", a, header(control), 0);
  task.process.files.close(memory.getU32(got + 16));
  task.process.files.close(b);
  expect(file.references).toBe(0);
});

test("epoll tells levels again and again, edges once, and forgets what was closed", () => {
  const task = makeCaller();
  const { memory } = task;
  const at = memory.place(8);
  call(task, "socketpair", AF_UNIX, SOCK_STREAM, 0, at);
  const [a, b] = [memory.getU32(at), memory.getU32(at + 4)];
  const epoll = call(task, "epoll_create1", 0) as number;
  const event = memory.place(12);
  const control = (operation: number, events: number): number | string => {
    memory.setU32(event, events >>> 0);
    memory.setU32(event + 4, 77);
    return call(task, "epoll_ctl", epoll, operation, b, event);
  };
  const found = memory.place(120);
  const wait = (timeout = 0) => call(task, "epoll_wait", epoll, found, 10, timeout);
  expect(control(1, POLLIN)).toBe(0);
  expect(control(1, POLLIN)).toBe(-E.EXIST);
  expect(wait(-1)).toBe(WAITS);
  send(task, a, "x");
  expect(wait(-1)).toBe(1);
  expect(memory.getU32(found + 4)).toBe(77);
  expect(wait()).toBe(1);
  expect(control(3, POLLIN | -0x80000000)).toBe(0);
  expect([wait(), wait()]).toEqual([1, 0]);
  send(task, a, "y");
  expect([wait(), wait()]).toEqual([1, 0]);
  // An edge for writing is none for who waits to read.
  receive(task, b);
  expect(wait()).toBe(0);
  expect(control(3, POLLIN | POLLOUT | 0x40000000)).toBe(0);
  expect([wait(), wait()]).toEqual([1, 0]);
  expect(control(3, POLLIN | POLLOUT)).toBe(0);
  expect(wait()).toBe(1);
  task.process.files.close(b);
  expect(wait()).toBe(0);
  expect(call(task, "epoll_ctl", epoll, 1, epoll, event)).toBe(-E.INVAL);
});

test("a wait with a time ends with it, and tells what is left", () => {
  const task = makeCaller();
  const { memory } = task;
  const at = memory.place(8);
  call(task, "socketpair", AF_UNIX, SOCK_STREAM | O_NONBLOCK, 0, at);
  const fd = memory.getU32(at);
  const set = memory.place(8);
  const time = memory.place(16);
  memory.setI64(time, 2);
  const select = () => {
    memory.setU32(set, 1 << fd);
    return call(task, "select", fd + 1, set, 0, 0, time);
  };
  expect(select()).toBe(WAITS);
  task.process.kernel.advance(1_500_000_000);
  expect(select()).toBe(WAITS);
  const other = makeCaller(task.process.kernel, task);
  send(other, memory.getU32(at + 4), "now");
  expect(select()).toBe(1);
  expect([memory.getI64(time), memory.getI64(time + 8)]).toEqual([0, 500000]);
  receive(task, fd);
  expect(select()).toBe(WAITS);
  task.process.kernel.advance(600_000_000);
  expect(select()).toBe(0);
  expect(memory.getU32(set)).toBe(0);
  expect(attempt(task, () => task.process.files.get(fd).poll(task))).toBe(POLLOUT | 0x100);
});
