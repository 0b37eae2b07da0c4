/** Fetches what a machine needs first while the person still reads what it is, into the cache where the console looks for it. */

import { openBrowserCache } from "../disk/browser-cache";

export interface Pack {
  digest: string;
  url: string;
}

/** After so long without a byte, ms, it is left to the console, which tries again and says what is wrong. */
const STALLED = 5000;

/** Whether the browser was told to be sparing. */
function isSparing(): boolean {
  return (navigator as { connection?: { saveData?: boolean } }).connection?.saveData === true;
}

/** Brings the pack into the cache. Settles in any case; `progress` hears of raw bytes. The console checks what is in it. */
export async function fetchAhead(pack: Pack, progress: (bytes: number) => void): Promise<void> {
  if (isSparing()) return;
  const stop = new AbortController();
  let stalled: ReturnType<typeof setTimeout> | undefined;
  const touch = (): void => {
    clearTimeout(stalled);
    stalled = setTimeout(() => stop.abort(), STALLED);
  };
  try {
    const cache = await openBrowserCache();
    const there = await cache?.open(pack.digest);
    await there?.cancel();
    if (!cache || there) return;
    touch();
    const response = await fetch(pack.url, { signal: stop.signal });
    if (!response.ok || !response.body) return;
    const pieces: Uint8Array[] = [];
    let done = 0;
    for await (const piece of response.body) {
      touch();
      pieces.push(piece);
      progress((done += piece.length));
    }
    await cache.put(pack.digest, pieces, true);
  } catch {
    // only ever a faster way
  } finally {
    clearTimeout(stalled);
  }
}
