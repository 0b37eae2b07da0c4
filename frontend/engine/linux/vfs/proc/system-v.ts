/** /proc/sysvipc, and what /proc/sys/kernel says of System V IPC. */

import { PAGE_SIZE } from "../../abi.ts";
import { type Ipc, IPC_LIMITS, type Owned, SHM_DEST } from "../../ipc.ts";
import type { LinuxKernel } from "../../kernel.ts";
import type { ByteString } from "../../types.ts";

type Column = readonly [name: string, width: number];

const OWNERS: readonly Column[] = [
  ["uid", 5],
  ["gid", 5],
  ["cuid", 5],
  ["cgid", 5],
];
const SHM: readonly Column[] = [
  ["size", 21],
  ["cpid", 5],
  ["lpid", 5],
  ["nattch", 6],
  ...OWNERS,
  ...times("atime", "dtime", "ctime"),
  ["rss", 21],
  ["swap", 21],
];
const SEM: readonly Column[] = [["nsems", 10], ...OWNERS, ...times("otime", "ctime")];
const MSG: readonly Column[] = [
  ["cbytes", 11],
  ["qnum", 10],
  ["lspid", 5],
  ["lrpid", 5],
  ...OWNERS,
  ...times("stime", "rtime", "ctime"),
];

function times(...names: string[]): Column[] {
  return names.map((name) => [name, 10]);
}

interface Row {
  object: Owned;
  mode: number;
  values: readonly number[];
}

/** As proc_sysvipc_* of Linux's ipc/ write them. */
function table(id: string, columns: readonly Column[], rows: Iterable<Row>): ByteString {
  const fields = columns.map(([name, width]) => name.padStart(width));
  let text = `       key      ${id} perms ${fields.join(" ")}\n`;
  for (const { object, mode, values } of rows) {
    const head = [String(object.key | 0).padStart(10), String(object.id).padStart(10)];
    const perms = mode.toString(8).padStart(5);
    const cells = columns.map(([, width], index) => String(values[index]).padStart(width));
    text += `${[...head, perms, ...cells].join(" ")}\n`;
  }
  return text;
}

function owners({ uid, gid, cuid, cgid }: Owned): number[] {
  return [uid, gid, cuid, cgid];
}

function* segmentRows(ipc: Ipc): Iterable<Row> {
  ipc.sweep();
  for (const object of ipc.segments.values()) {
    const { memory, size, creator, lastPid } = object;
    const stamps = [object.attachTime, object.detachTime, object.changed];
    const values = [size, creator, lastPid, memory.holders - 1, ...owners(object), ...stamps];
    const mode = object.mode | (object.removed ? SHM_DEST : 0);
    yield { object, mode, values: [...values, memory.pages.size * PAGE_SIZE, 0] };
  }
}

function* setRows(ipc: Ipc): Iterable<Row> {
  for (const object of ipc.semaphores.values()) {
    const values = [object.semaphores.length, ...owners(object), object.operated, object.changed];
    yield { object, mode: object.mode, values };
  }
}

function* queueRows(ipc: Ipc): Iterable<Row> {
  for (const object of ipc.queues.values()) {
    const { bytes, messages, sender, receiver, sent, received, changed } = object;
    const values = [bytes, messages.length, sender, receiver, ...owners(object), sent, received, changed];
    yield { object, mode: object.mode, values };
  }
}

export function systemVTables({ ipc }: LinuxKernel): Record<string, () => ByteString> {
  return {
    msg: () => table("msqid", MSG, queueRows(ipc)),
    sem: () => table("semid", SEM, setRows(ipc)),
    shm: () => table("shmid", SHM, segmentRows(ipc)),
  };
}

export function systemVLimits(): Record<string, () => ByteString> {
  const { semaphores, sets, operations } = IPC_LIMITS;
  const is = (value: number | string) => (): ByteString => `${value}\n`;
  return {
    msgmax: is(IPC_LIMITS.messageBytes),
    msgmnb: is(IPC_LIMITS.queueBytes),
    msgmni: is(IPC_LIMITS.queues),
    sem: is([semaphores, semaphores * sets, operations, sets].join("\t")),
    shmall: is(IPC_LIMITS.pages),
    shmmax: is(IPC_LIMITS.segmentBytes),
    shmmni: is(IPC_LIMITS.segments),
  };
}
