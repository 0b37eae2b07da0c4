/**
 * A clock that a hidden tab keeps. Browsers let the timers of a page that has been out of sight for minutes fire once a
 * minute; a lease runs out in half of that. Timers of workers go on.
 */

import type { Every } from "../sync/timing";

export const steadily: Every = (tick, ms) => {
  const worker = new Worker(new URL("./steady-worker.ts", import.meta.url), {
    type: "module",
    name: "clock",
  });
  worker.addEventListener("message", tick);
  worker.postMessage(ms);
  return () => worker.terminate();
};
