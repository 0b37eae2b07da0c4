/**
 * An entry of its own, loaded before the console's: the emulator's worker begins to load and to compile while the browser still reads
 * the rest of the page.
 */

import { startWorker } from "./client";
import type { MachineKind } from "./machine";

/** What the page says about its machine. */
function kindOfPage(): MachineKind {
  const text = document.getElementById("descriptor")?.textContent;
  const descriptor = text ? (JSON.parse(text) as { machine: { kind: MachineKind } } | null) : null;
  return descriptor?.machine.kind ?? "pc";
}

const kind = kindOfPage();
let early: Worker | undefined = startWorker(kind);
// An error that comes before anybody listens would be lost: such a worker is not handed out.
early.addEventListener("error", () => (early = undefined), { once: true });

/** The worker that was started with the page, else (it failed, or has been taken) a new one. */
export function takeWorker(): Worker {
  const worker = early ?? startWorker(kind);
  early = undefined;
  return worker;
}
