/**
 * v86 drives its processor from a second worker that it makes of a `blob:` URL, unless it finds no `Worker`. Ours is one already,
 * and its own message channel (see `createEmulator`) is faster and needs no `blob:` in the page's security policy.
 */
Object.defineProperty(globalThis, "Worker", { value: undefined, configurable: true });

export {};
