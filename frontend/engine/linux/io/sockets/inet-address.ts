/** Addresses of IPv4 and IPv6. A host is hexadecimal: 8 digits of IPv4, 32 of IPv6; IPv4 inside IPv6 is IPv4. */

import { E, Errno } from "../../errno.ts";
import { AF_INET, AF_INET6 } from "./numbers.ts";

export interface InetAddress {
  host: string;
  port: number;
}

export const ANY4 = "00000000";
export const LOOPBACK4 = "7f000001";
export const ANY6 = "0".repeat(32);
export const LOOPBACK6 = "0".repeat(31) + "1";
const MAPPED = "0".repeat(20) + "ffff";

const hex = (bytes: Uint8Array): string =>
  [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** `struct sockaddr_in` or `sockaddr_in6`, of a socket of that family. */
export function parseInet(address: Uint8Array, family: number): InetAddress {
  if (address.length < 16) throw new Errno(E.INVAL);
  const view = new DataView(address.buffer, address.byteOffset);
  const given = view.getUint16(0, true);
  const port = view.getUint16(2, false);
  if (given === AF_INET) {
    const host = hex(address.subarray(4, 8));
    if (family === AF_INET6) throw new Errno(E.INVAL);
    return { host, port };
  }
  if (given !== AF_INET6 || family !== AF_INET6) throw new Errno(E.AFNOSUPPORT);
  if (address.length < 24) throw new Errno(E.INVAL);
  const host = hex(address.subarray(8, 24));
  return { host: host.startsWith(MAPPED) ? host.slice(24) : host, port };
}

export function formatInet({ host, port }: InetAddress, family: number): Uint8Array {
  const bytes = new Uint8Array(family === AF_INET ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, family, true);
  view.setUint16(2, port, false);
  const full = family === AF_INET ? host : host.length === 8 ? MAPPED + host : host;
  const at = family === AF_INET ? 4 : 8;
  for (let i = 0; i < full.length / 2; i += 1) {
    bytes[at + i] = parseInt(full.slice(2 * i, 2 * i + 2), 16);
  }
  return bytes;
}

export function isAny(host: string): boolean {
  return host === ANY4 || host === ANY6;
}

/** Whether that address is this machine's. */
export function isLocal(host: string): boolean {
  return isAny(host) || host === LOOPBACK6 || (host.length === 8 && host.startsWith("7f"));
}

/** Where something sent to `host` goes: there is only the loopback. */
export function route(host: string): string {
  if (host === ANY4) return LOOPBACK4;
  if (host === ANY6) return LOOPBACK6;
  if (!isLocal(host)) throw new Errno(E.NETUNREACH);
  return host;
}

/** The address that a sender to `host` has. */
export function sourceFor(host: string): string {
  return host.length === 8 ? LOOPBACK4 : LOOPBACK6;
}
