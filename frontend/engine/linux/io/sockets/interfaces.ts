/** What ioctl tells of network interfaces (netdevice(7)): there is the loopback. */

import { E, Errno } from "../../errno.ts";
import type { Task } from "../../types.ts";
import { AF_INET } from "./numbers.ts";

const SIOCGIFNAME = 0x8910;
const SIOCGIFCONF = 0x8912;
const SIOCGIFFLAGS = 0x8913;
const SIOCGIFADDR = 0x8915;
const SIOCGIFDSTADDR = 0x8917;
const SIOCGIFBRDADDR = 0x8919;
const SIOCGIFNETMASK = 0x891b;
const SIOCGIFMETRIC = 0x891d;
const SIOCGIFMTU = 0x8921;
const SIOCGIFHWADDR = 0x8927;
const SIOCGIFINDEX = 0x8933;
const SIOCGIFTXQLEN = 0x8942;
const SIOCETHTOOL = 0x8946;
const SIOCGMIIPHY = 0x8947;
const SIOCGIFMAP = 0x8970;

/** struct ifreq: a name and a union. */
const REQUEST = 40;
const NAME = 16;
const LOOPBACK = "lo";
const INDEX = 1;
/** UP, LOOPBACK, RUNNING. */
const FLAGS = 0x49;
const MTU = 65536;
const TRANSMIT_QUEUE = 1000;
const ARPHRD_LOOPBACK = 772;
/** Of IPv4, as in memory. */
const ADDRESSES = new Map([
  [SIOCGIFADDR, 0x0100007f],
  [SIOCGIFDSTADDR, 0x0100007f],
  [SIOCGIFBRDADDR, 0],
  [SIOCGIFNETMASK, 0x000000ff],
]);
const NUMBERS = new Map([
  [SIOCGIFMETRIC, 0],
  [SIOCGIFMTU, MTU],
  [SIOCGIFINDEX, INDEX],
  [SIOCGIFTXQLEN, TRANSMIT_QUEUE],
]);
const OTHERS = [SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCETHTOOL, SIOCGMIIPHY, SIOCGIFMAP];

/** Undefined: the request is about something else. */
export function interfaceControl(
  task: Task,
  family: number,
  request: number,
  argument: number,
): number | undefined {
  const { memory } = task;
  if (request === SIOCGIFCONF) return list(task, argument);
  if (request === SIOCGIFNAME) {
    if (memory.getI32(argument + NAME) !== INDEX) throw new Errno(E.NODEV);
    writeName(task, argument);
    return 0;
  }
  const address = ADDRESSES.get(request);
  const number = NUMBERS.get(request);
  if (address === undefined && number === undefined && !OTHERS.includes(request)) return undefined;
  if (address !== undefined && family !== AF_INET) throw new Errno(E.NOTTY);
  const name = String.fromCharCode(...memory.readable(argument, NAME)).replace(/[\0:].*$/s, "");
  if (name !== LOOPBACK) throw new Errno(E.NODEV);
  const at = argument + NAME;
  if (address !== undefined) writeAddress(task, at, address);
  else if (number !== undefined) memory.setU32(at, number);
  else if (request === SIOCGIFFLAGS) memory.setU16(at, FLAGS);
  else if (request === SIOCGIFHWADDR) {
    memory.writable(at, 16).fill(0);
    memory.setU16(at, ARPHRD_LOOPBACK);
  } else if (request === SIOCGIFMAP) memory.writable(at, 24).fill(0);
  else throw new Errno(E.OPNOTSUPP);
  return 0;
}

function writeName(task: Task, at: number): void {
  const bytes = task.memory.writable(at, NAME);
  bytes.fill(0);
  for (let i = 0; i < LOOPBACK.length; i += 1) bytes[i] = LOOPBACK.charCodeAt(i);
}

/** struct sockaddr_in. */
function writeAddress(task: Task, at: number, address: number): void {
  task.memory.writable(at, 16).fill(0);
  task.memory.setU16(at, AF_INET);
  task.memory.setU32(at + 4, address);
}

/** struct ifconf: room in bytes, and where; only the length is asked for when there is no place. */
function list(task: Task, argument: number): number {
  const { memory } = task;
  const room = memory.getI32(argument);
  const at = memory.getI64(argument + 8);
  if (at !== 0 && room < REQUEST) {
    memory.setU32(argument, 0);
    return 0;
  }
  if (at !== 0) {
    memory.writable(at, REQUEST).fill(0);
    writeName(task, at);
    writeAddress(task, at + NAME, ADDRESSES.get(SIOCGIFADDR)!);
  }
  memory.setU32(argument, REQUEST);
  return 0;
}
