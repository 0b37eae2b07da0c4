/** Signing out removes the journals of whoever was signed in, in this browser. */

import type { JournalStore } from "./store";

/** Set by the service with the answer that signed somebody out: the owners, with dots between them. */
export const SIGNED_OUT_COOKIE = "webvm_signed_out";

/** So long a person who wants to sign out waits for storage that does not answer. */
const PATIENCE_MS = 2000;

/** Whether signing out would lose work that is in no snapshot. False also where that cannot be found out. */
export async function keepsUnsaved(store: JournalStore, owner: string): Promise<boolean> {
  const late = new Promise<never[]>((resolve) => setTimeout(() => resolve([]), PATIENCE_MS));
  const rows = await Promise.race([store.rows().catch(() => []), late]);
  return rows.some((row) => row.owner === owner && row.manifest !== null && row.asideAt === null);
}

/** The owners whose journals the service asks to be removed. */
export function signedOut(cookies: string): string[] {
  for (const part of cookies.split("; ")) {
    const [name, value = ""] = part.split("=");
    if (name === SIGNED_OUT_COOKIE) return value.split(".").filter((owner) => /^[0-9a-f]{32}$/.test(owner));
  }
  return [];
}

/**
 * Removes them, and the private chunks in the browser's cache, and takes the cookie away. When that fails, the cookie stays and the
 * next page tries again.
 */
export async function forgetSignedOut(
  document: { cookie: string },
  store: JournalStore,
  forgetChunks: () => Promise<void>,
): Promise<void> {
  const owners = signedOut(document.cookie);
  if (owners.length === 0) return;
  await store.signOut(owners);
  await forgetChunks();
  document.cookie = `${SIGNED_OUT_COOKIE}=; path=/; max-age=0; samesite=lax`;
}
