/** Control messages of IP and IPv6: what a datagram's header says beside its addresses. */

import { E, Errno } from "../../errno.ts";
import { type InetAddress, formatInet, isAny, isLocal } from "./inet-address.ts";
import { AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6 } from "./numbers.ts";
import type { ControlMessage, Socket } from "./socket.ts";

const IP_TOS = 1;
const IP_TTL = 2;
const IP_PKTINFO = 8;
const IP_RECVTTL = 12;
const IP_RECVTOS = 13;
const IPV6_UNICAST_HOPS = 16;
const IPV6_RECVPKTINFO = 49;
const IPV6_PKTINFO = 50;
const IPV6_RECVHOPLIMIT = 51;
const IPV6_HOPLIMIT = 52;
const IPV6_DONTFRAG = 62;
const IPV6_RECVTCLASS = 66;
const IPV6_TCLASS = 67;

const DEFAULT_HOPS = 64;
/** The interface's number: there is only the loopback. */
const LOOPBACK = 1;

/** Of a header: hops that are left, traffic class, and the host that it goes to. */
export interface PacketHeader {
  hops: number;
  trafficClass: number;
  to: string;
}

/** What a sender said about one datagram. */
export interface PacketWishes {
  hops?: number;
  trafficClass?: number;
  source?: string;
}

/** Takes the sender's control messages for a datagram to an address of that family. */
export function packetWishes(messages: readonly ControlMessage[], family: number): PacketWishes {
  const wishes: PacketWishes = {};
  for (const { level, type, bytes } of messages) {
    if (family === AF_INET && level === IPPROTO_IP) takeWish4(wishes, type, bytes);
    if (family === AF_INET6 && level === IPPROTO_IPV6) takeWish6(wishes, type, bytes);
  }
  return wishes;
}

function takeWish4(wishes: PacketWishes, type: number, bytes: Uint8Array): void {
  switch (type) {
    case IP_TTL:
      wishes.hops = intOf(bytes, 1);
      return;
    case IP_TOS:
      wishes.trafficClass = bytes.length === 1 ? bytes[0]! : intOf(bytes, 0);
      return;
    case IP_PKTINFO:
      if (bytes.length !== 12) throw new Errno(E.INVAL);
      return takeSource(wishes, hostOf(bytes.subarray(4, 8)));
    default:
      throw new Errno(E.INVAL);
  }
}

function takeWish6(wishes: PacketWishes, type: number, bytes: Uint8Array): void {
  switch (type) {
    case IPV6_HOPLIMIT:
      wishes.hops = orDefault(intOf(bytes, -1), DEFAULT_HOPS);
      return;
    case IPV6_TCLASS:
      wishes.trafficClass = orDefault(intOf(bytes, -1), 0);
      return;
    case IPV6_DONTFRAG: // Nothing is ever cut into fragments.
      intOf(bytes, 0);
      return;
    case IPV6_PKTINFO:
      if (bytes.length < 20) throw new Errno(E.INVAL);
      return takeSource(wishes, hostOf(bytes.subarray(0, 16)));
    default:
      throw new Errno(E.INVAL);
  }
}

/** A number of a byte, or `least`. */
function intOf(bytes: Uint8Array, least: number): number {
  if (bytes.length !== 4) throw new Errno(E.INVAL);
  const value = new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
  if (value < least || value > 255) throw new Errno(E.INVAL);
  return value;
}

function hostOf(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function takeSource(wishes: PacketWishes, host: string): void {
  if (isAny(host)) return;
  if (!isLocal(host)) throw new Errno(E.INVAL);
  wishes.source = host;
}

function orDefault(value: number, missing: number): number {
  return value < 0 ? missing : value;
}

/** The header of a datagram that `sender` sends to that host. */
export function headerOf(sender: Socket, wishes: PacketWishes, to: string): PacketHeader {
  const four = to.length === 8;
  const hops = four
    ? sender.option(IPPROTO_IP, IP_TTL, DEFAULT_HOPS)
    : sender.option(IPPROTO_IPV6, IPV6_UNICAST_HOPS, DEFAULT_HOPS);
  const trafficClass = four ? sender.option(IPPROTO_IP, IP_TOS) : sender.option(IPPROTO_IPV6, IPV6_TCLASS);
  return {
    hops: wishes.hops ?? orDefault(hops, DEFAULT_HOPS),
    trafficClass: wishes.trafficClass ?? orDefault(trafficClass, 0),
    to,
  };
}

/** What `receiver` asked to be told of a datagram's header. */
export function headerMessages(receiver: Socket, header: PacketHeader): ControlMessage[] {
  const four = header.to.length === 8;
  const messages: ControlMessage[] = [];
  const tell = (level: number, asked: number, type: number, bytes: Uint8Array): void => {
    if (receiver.option(level, asked) !== 0) messages.push({ level, type, bytes });
  };
  if (receiver.domain === AF_INET6) {
    tell(IPPROTO_IPV6, IPV6_RECVPKTINFO, IPV6_PKTINFO, packetInfo6(header.to));
  }
  if (four) {
    tell(IPPROTO_IP, IP_PKTINFO, IP_PKTINFO, packetInfo4(header.to));
    tell(IPPROTO_IP, IP_RECVTTL, IP_TTL, int(header.hops));
    tell(IPPROTO_IP, IP_RECVTOS, IP_TOS, Uint8Array.of(header.trafficClass));
  } else {
    tell(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT, int(header.hops));
    tell(IPPROTO_IPV6, IPV6_RECVTCLASS, IPV6_TCLASS, int(header.trafficClass));
  }
  return messages;
}

function int(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}

const addressBytes = (host: string, family: number): Uint8Array => {
  const address: InetAddress = { host, port: 0 };
  return family === AF_INET
    ? formatInet(address, family).subarray(4, 8)
    : formatInet(address, family).subarray(8, 24);
};

/** `struct in_pktinfo`: interface, the address to answer from, and the header's. */
function packetInfo4(to: string): Uint8Array {
  const bytes = new Uint8Array(12);
  bytes[0] = LOOPBACK;
  bytes.set(addressBytes(to, AF_INET), 4);
  bytes.set(addressBytes(to, AF_INET), 8);
  return bytes;
}

/** `struct in6_pktinfo`. */
function packetInfo6(to: string): Uint8Array {
  const bytes = new Uint8Array(20);
  bytes.set(addressBytes(to, AF_INET6));
  bytes[16] = LOOPBACK;
  return bytes;
}
