/** /proc/PID/net: sockets and what there is of a network, the loopback. Counters of packets are not kept. */

import { ioMachine } from "../../io/machine.ts";
import type { InetAddress } from "../../io/sockets/inet-address.ts";
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPPROTO_UDPLITE,
} from "../../io/sockets/numbers.ts";
import { Socket } from "../../io/sockets/socket.ts";
import { TcpSocket } from "../../io/sockets/tcp.ts";
import { UdpSocket } from "../../io/sockets/udp.ts";
import { UnixStreamSocket } from "../../io/sockets/unix-stream.ts";
import type { LinuxKernel } from "../../kernel.ts";
import type { ByteString } from "../../types.ts";
import { Descriptors } from "../descriptors.ts";

/** States of TCP, as /proc/net/tcp and udp number them. */
const ESTABLISHED = 1;
const FIN_WAIT2 = 5;
const CLOSE = 7;
const CLOSE_WAIT = 8;
const LISTEN = 10;
/** __SO_ACCEPTCON. */
const ACCEPTS = 0x10000;
const UNCONNECTED = 1;
const CONNECTED = 3;

const INTERFACES =
  "Inter-|   Receive                                                |  Transmit\n" +
  " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
  "    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n";
const ROUTES = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
const NEIGHBOURS = "IP address       HW type     Flags       HW address            Mask     Device\n";
const ADDRESSES6 = "00000000000000000000000000000001 01 80 10 80       lo\n";

const hex = (value: number, digits: number): string => value.toString(16).toUpperCase().padStart(digits, "0");

/** Words of 32 bits as a little-endian processor shows them. */
function addressText({ host, port }: InetAddress, family: number): string {
  const full = family === AF_INET6 && host.length === 8 ? `${"0".repeat(20)}ffff${host}` : host;
  const words = full.match(/.{8}/g) ?? [];
  const swapped = words.map((word) => (word.match(/../g) ?? []).reverse().join("")).join("");
  return `${swapped.toUpperCase()}:${hex(port, 4)}`;
}

function nowhere(family: number): InetAddress {
  return { host: "0".repeat(family === AF_INET ? 8 : 32), port: 0 };
}

function tcpState(socket: TcpSocket): number {
  if (socket.listening) return LISTEN;
  if (socket.peerEnded) return CLOSE_WAIT;
  return socket.writeShut ? FIN_WAIT2 : ESTABLISHED;
}

function inetRow(socket: TcpSocket | UdpSocket, place: string, state: number, received: number): string {
  const { local, remote } = socket.ends;
  const names = [local, remote].map((end) => addressText(end ?? nowhere(socket.domain), socket.domain));
  const { uid, ino } = socket.inode.stat();
  return (
    `${place}: ${names.join(" ")} ${hex(state, 2)} 00000000:${hex(received, 8)} ` +
    `00:00000000 00000000 ${String(uid).padStart(5)}        0 ${ino}`
  );
}

function tcpText(kernel: LinuxKernel, family: number): ByteString {
  const width = family === AF_INET ? 13 : 37;
  const heading = `  sl  ${"local_address".padEnd(width)} ${family === AF_INET ? "rem_address  " : "remote_address".padEnd(width)} st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode`;
  const rows = [...ioMachine(kernel).tcp.sockets()]
    .filter((socket): socket is TcpSocket => socket instanceof TcpSocket && socket.domain === family)
    .filter((socket) => socket.listening || socket.state === "connected")
    .map((socket, place) => {
      const waiting = socket.listening ? socket.accepts.length : socket.received.length;
      return `${inetRow(socket, String(place).padStart(4), tcpState(socket), waiting)} 1 0000000000000000 100 0 0 10 0`;
    });
  return [heading, ...rows].map((row) => `${row.padEnd(149)}\n`).join("");
}

function udpText(kernel: LinuxKernel, family: number, protocol = IPPROTO_UDP): ByteString {
  const width = family === AF_INET ? 13 : 37;
  const heading = `${family === AF_INET ? " " : ""}  sl  ${"local_address".padEnd(width)} ${family === AF_INET ? "rem_address  " : "remote_address".padEnd(width)} st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops`;
  const rows = [...ioMachine(kernel).udp.sockets()]
    .filter((socket): socket is UdpSocket => socket instanceof UdpSocket && socket.domain === family)
    .filter((socket) => socket.protocol === protocol)
    .map((socket, place) => {
      const state = socket.ends.remote === undefined ? CLOSE : ESTABLISHED;
      return `${inetRow(socket, String(place).padStart(5), state, socket.queuedBytes)} 2 0000000000000000 0`;
    });
  return [heading, ...rows].map((row) => `${row.padEnd(127)}\n`).join("");
}

/** Every socket that a process has open, once. */
function openSockets(kernel: LinuxKernel): Set<Socket> {
  const found = new Set<Socket>();
  for (const { files } of kernel.processes()) {
    if (!(files instanceof Descriptors)) continue;
    for (const number of files.numbers()) {
      const file = files.find(number);
      if (file instanceof Socket) found.add(file);
    }
  }
  return found;
}

function unixText(kernel: LinuxKernel): ByteString {
  const rows = [...openSockets(kernel)]
    .filter((socket) => socket.domain === AF_UNIX)
    .map((socket) => {
      const flags = socket.listening ? ACCEPTS : 0;
      const connected = socket instanceof UnixStreamSocket && socket.state === "connected";
      const name = String.fromCharCode(...socket.localName().subarray(2));
      const shown = name.startsWith("\0") ? name.replaceAll("\0", "@") : name.replace(/\0$/, "");
      const { ino } = socket.inode.stat();
      return (
        `0000000000000000: ${hex(connected ? 3 : 2, 8)} 00000000 ${hex(flags, 8)} ${hex(socket.type, 4)} ` +
        `${hex(connected ? CONNECTED : UNCONNECTED, 2)} ${String(ino).padStart(5)}${shown === "" ? "" : ` ${shown}`}\n`
      );
    });
  return `Num       RefCount Protocol Flags    Type St Inode Path\n${rows.join("")}`;
}

function sockstatText(kernel: LinuxKernel): ByteString {
  const { tcp, udp } = ioMachine(kernel);
  const count = (sockets: Iterable<Socket>, protocol: number): number =>
    [...sockets].filter((socket) => socket.domain === AF_INET && socket.protocol === protocol).length;
  return (
    `sockets: used ${openSockets(kernel).size}\n` +
    `TCP: inuse ${count(tcp.sockets(), IPPROTO_TCP)} orphan 0 tw 0 alloc ${[...tcp.sockets()].length} mem 0\n` +
    `UDP: inuse ${count(udp.sockets(), IPPROTO_UDP)} mem 0\nUDPLITE: inuse ${count(udp.sockets(), IPPROTO_UDPLITE)}\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n`
  );
}

export function netTexts(kernel: LinuxKernel): Record<ByteString, () => ByteString> {
  return {
    arp: () => NEIGHBOURS,
    dev: () => INTERFACES,
    if_inet6: () => ADDRESSES6,
    route: () => `${ROUTES.padEnd(127)}\n`,
    sockstat: () => sockstatText(kernel),
    tcp: () => tcpText(kernel, AF_INET),
    tcp6: () => tcpText(kernel, AF_INET6),
    udp: () => udpText(kernel, AF_INET),
    udp6: () => udpText(kernel, AF_INET6),
    udplite: () => udpText(kernel, AF_INET, IPPROTO_UDPLITE),
    udplite6: () => udpText(kernel, AF_INET6, IPPROTO_UDPLITE),
    unix: () => unixText(kernel),
  };
}
