/** TCP's urgent byte: a mark in the stream, as Linux has it (tcp_check_urg, tcp_recv_urg). */

import type { Kernel } from "../../types.ts";
import { SIGURG } from "../constants.ts";

/** The last urgent byte that came, until the reader has passed it. */
export interface UrgentByte {
  /** Bytes of the stream before it that nobody has read. */
  ahead: number;
  value: number;
  /** Received with MSG_OOB. */
  taken: boolean;
}

/** Tells whom F_SETOWN has named: a process, or with a minus a group. */
export function tellOwner(kernel: Kernel, owner: number): void {
  if (owner < 0) return kernel.signalGroup(-owner, SIGURG);
  const process = owner > 0 ? kernel.process(owner) : undefined;
  if (process !== undefined) kernel.signalProcess(process, SIGURG);
}
