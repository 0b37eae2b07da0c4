/** Ports of TCP, or of UDP and UDP-Lite, which are apart: who is bound to which. */

import { E, Errno } from "../../errno.ts";
import type { Kernel, Task } from "../../types.ts";
import { ANY6, type InetAddress, isAny } from "./inet-address.ts";
import { AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, SOL_SOCKET, SO_REUSEADDR, SO_REUSEPORT } from "./numbers.ts";
import type { Socket } from "./socket.ts";

/** net.ipv4.ip_local_port_range. */
const FIRST_EPHEMERAL = 32768;
const LAST_EPHEMERAL = 60999;
/** net.ipv4.ip_unprivileged_port_start. */
const FIRST_UNPRIVILEGED = 1024;

interface Bound extends InetAddress {
  socket: Socket;
}

export class Ports {
  private readonly bound = new Map<number, Bound[]>();
  private nextEphemeral = 0;

  /** Port 0: a free one is chosen. Returns the port. */
  bind(task: Task, socket: Socket, { host, port }: InetAddress): number {
    if (port !== 0 && port < FIRST_UNPRIVILEGED && task.process.credentials.euid !== 0) {
      throw new Errno(E.ACCES);
    }
    const chosen = port === 0 ? this.choose(task.process.kernel, socket, host) : port;
    if (port !== 0 && this.conflicts(socket, host, port)) throw new Errno(E.ADDRINUSE);
    this.add(socket, { host, port: chosen });
    return chosen;
  }

  /** The accepted side of a connection shares its listener's port and keeps it in use. */
  share(socket: Socket, address: InetAddress): void {
    this.add(socket, address);
  }

  private add(socket: Socket, { host, port }: InetAddress): void {
    const there = this.bound.get(port);
    if (there === undefined) this.bound.set(port, [{ socket, host, port }]);
    else there.push({ socket, host, port });
  }

  unbind(socket: Socket, port: number): void {
    const rest = (this.bound.get(port) ?? []).filter((bound) => bound.socket !== socket);
    if (rest.length > 0) this.bound.set(port, rest);
    else this.bound.delete(port);
  }

  /** Everybody who is bound, for /proc/net. */
  *sockets(): Iterable<Socket> {
    for (const there of this.bound.values()) for (const { socket } of there) yield socket;
  }

  private choose(kernel: Kernel, socket: Socket, host: string): number {
    const count = LAST_EPHEMERAL - FIRST_EPHEMERAL + 1;
    if (this.nextEphemeral === 0) {
      const random = new Uint8Array(2);
      kernel.random(random);
      this.nextEphemeral = (random[0]! | (random[1]! << 8)) % count;
    }
    for (let i = 0; i < count; i += 1) {
      this.nextEphemeral = (this.nextEphemeral + 1) % count;
      const port = FIRST_EPHEMERAL + this.nextEphemeral;
      if (!this.bound.has(port) || !this.conflicts(socket, host, port)) return port;
    }
    throw new Errno(E.ADDRINUSE);
  }

  private conflicts(socket: Socket, host: string, port: number): boolean {
    return (this.bound.get(port) ?? []).some(
      (other) => overlap(socket, host, other.socket, other.host) && !together(socket, other.socket),
    );
  }

  /** Before a socket that shares its port begins to listen: nobody else may listen there. */
  mustListenAlone(socket: Socket, { host, port }: InetAddress): void {
    const other = (this.bound.get(port) ?? []).some(
      (bound) =>
        bound.socket !== socket &&
        bound.socket.listening &&
        overlap(socket, host, bound.socket, bound.host) &&
        !(reuses(socket, SO_REUSEPORT) && reuses(bound.socket, SO_REUSEPORT)),
    );
    if (other) throw new Errno(E.ADDRINUSE);
  }

  /** Who gets what is sent to that address: the most particular one that `takes` it. */
  find({ host, port }: InetAddress, takes: (socket: Socket) => boolean): Socket | undefined {
    let best: Bound | undefined;
    for (const bound of this.bound.get(port) ?? []) {
      if (!takes(bound.socket) || !reaches(bound, host)) continue;
      if (best === undefined || rank(bound, host) > rank(best, host)) best = bound;
    }
    return best?.socket;
  }
}

function reuses(socket: Socket, option: number): boolean {
  return socket.option(SOL_SOCKET, option) !== 0;
}

/** Both families, where an IPv6 socket takes IPv4, too. */
function dual(socket: Socket, host: string): boolean {
  return socket.domain === AF_INET6 && host === ANY6 && socket.option(IPPROTO_IPV6, IPV6_V6ONLY) === 0;
}

function overlap(a: Socket, hostA: string, b: Socket, hostB: string): boolean {
  if (a.protocol !== b.protocol) return false;
  if (hostA.length !== hostB.length) return dual(a, hostA) || dual(b, hostB);
  return hostA === hostB || isAny(hostA) || isAny(hostB);
}

function together(a: Socket, b: Socket): boolean {
  if (reuses(a, SO_REUSEPORT) && reuses(b, SO_REUSEPORT)) return true;
  return reuses(a, SO_REUSEADDR) && reuses(b, SO_REUSEADDR) && !a.listening && !b.listening;
}

function reaches({ host: bound, socket }: Bound, host: string): boolean {
  if (bound === host) return true;
  if (bound.length === host.length) return isAny(bound);
  return dual(socket, bound);
}

function rank({ host: bound }: Bound, host: string): number {
  return bound === host ? 2 : bound.length === host.length ? 1 : 0;
}
