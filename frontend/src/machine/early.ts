/**
 * An entry of its own, loaded before the console's: the emulator's worker begins to load and to compile while the browser still reads
 * the rest of the page.
 */

import { startWorker } from "./client";

let early: Worker | undefined = startWorker();
// An error that comes before anybody listens would be lost: such a worker is not handed out.
early.addEventListener("error", () => (early = undefined), { once: true });

/** The worker that was started with the page, else (it failed, or has been taken) a new one. */
export function takeWorker(): Worker {
  const worker = early ?? startWorker();
  early = undefined;
  return worker;
}
