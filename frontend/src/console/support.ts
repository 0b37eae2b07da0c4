/** What the browser must have before anything is loaded. */

interface Globals {
  isSecureContext?: boolean;
  crypto?: { subtle?: unknown };
  WebAssembly?: unknown;
  Worker?: unknown;
  WebSocket?: unknown;
}

/** One sentence that says what is missing and what to do, or undefined when the machine can run here. */
export function missingSupport(globals: Globals = globalThis as Globals): string | undefined {
  if (globals.isSecureContext === false || !globals.crypto?.subtle)
    return "This page needs HTTPS (or http://localhost): over plain HTTP the browser gives it no way to check what it downloads. Open it with https://, or ask whoever runs this service to set it up.";
  if (!globals.WebAssembly)
    return "This browser has WebAssembly switched off, so the machine cannot run in it. Allow it (Lockdown Mode and some policies switch it off) or use another browser.";
  if (!globals.Worker || !globals.WebSocket)
    return "This browser is too old to run the machine. Use a current Firefox, Chrome, Edge or Safari.";
  return undefined;
}
