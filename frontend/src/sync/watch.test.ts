import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Relay, Watcher } from "./watch";

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);

let screen: string;
let wire: Uint8Array<ArrayBuffer>[];
let shown: string;
let asked: number;
let acknowledged: number;
let relay: Relay;
let watcher: Watcher;

beforeEach(() => {
  vi.useFakeTimers();
  screen = "";
  wire = [];
  shown = "";
  asked = acknowledged = 0;
  relay = new Relay({
    screen: async () => bytes(`[${screen}]`),
    send: (frame) => wire.push(frame) > 0,
  });
  watcher = new Watcher({
    show: (what, whole) => (shown = whole ? text(what) : shown + text(what)),
    askWhole: () => asked++,
    acknowledge: (count) => (acknowledged += count),
  });
});

afterEach(() => {
  relay.close();
  watcher.close();
  vi.useRealTimers();
});

function prints(what: string): void {
  screen += what;
  relay.output(bytes(what));
}

/** Brings what is on the wire to the watcher, as far as `keep` says so. */
async function deliver(keep: (frame: Uint8Array) => boolean = () => true): Promise<void> {
  await vi.advanceTimersByTimeAsync(60);
  for (const frame of wire.splice(0)) if (keep(frame)) watcher.receive(frame);
}

describe("watching", () => {
  it("shows the screen as it is and what follows", async () => {
    prints("before ");
    expect(wire).toEqual([]); // nobody watches
    relay.watched(true);
    await deliver();
    expect(shown).toBe("[before ]");
    prints("and ");
    prints("after");
    await deliver();
    expect(shown).toBe("[before ]and after");
  });

  it("asks for a whole screen after a gap, and shows nothing wrong until then", async () => {
    relay.watched(true);
    await deliver();
    prints("lost ");
    await deliver(() => false);
    prints("then");
    await deliver();
    expect(shown).toBe("[]");
    await vi.advanceTimersByTimeAsync(2100);
    expect(asked).toBeGreaterThan(0);
    relay.watched(true);
    await deliver();
    expect(shown).toBe("[lost then]");
  });

  it("notices that the last frame was lost although nothing follows", async () => {
    relay.watched(true);
    await deliver();
    prints("the last words");
    await deliver(() => false);
    relay.watched(false); // a watcher's sign of life, some seconds later
    await deliver();
    await vi.advanceTimersByTimeAsync(2100);
    expect(asked).toBeGreaterThan(0);
  });

  it("asks again when the screen that it asked for is lost, too", async () => {
    await vi.advanceTimersByTimeAsync(7000);
    expect(asked).toBeGreaterThanOrEqual(3);
  });

  it("leaves out what is too much, and a whole screen makes up for it", async () => {
    relay.watched(true);
    await deliver();
    for (let i = 0; i < 100; i++) prints("x".repeat(1000));
    await deliver();
    expect(shown).toBe("[]");
    prints("!");
    await deliver();
    expect(shown).toBe("[]");
    await vi.advanceTimersByTimeAsync(2100);
    expect(asked).toBe(1);
  });

  it("sends whole screens once a second at most, however often it is asked", async () => {
    for (let i = 0; i < 30; i++) {
      relay.watched(true);
      await vi.advanceTimersByTimeAsync(100);
    }
    expect(wire.filter((frame) => frame[5] === 1).length).toBeLessThanOrEqual(4);
  });

  it("stops when nobody has shown up for a while", async () => {
    relay.watched(true);
    await deliver();
    await vi.advanceTimersByTimeAsync(9000);
    prints("unheard");
    await deliver();
    expect(shown).toBe("[]");
    expect(relay.active).toBe(false);
  });

  it("says what has arrived", async () => {
    relay.watched(true);
    await deliver();
    for (let i = 0; i < 40; i++) {
      prints("y".repeat(1000));
      await deliver();
    }
    expect(acknowledged).toBeGreaterThan(32 << 10);
  });

  it("passes over frames that are none", () => {
    for (const frame of [[], [2], [1, 0, 0, 0, 0, 0, 65], [2, 0, 0, 0, 9]])
      watcher.receive(Uint8Array.from(frame));
    expect(shown).toBe("");
  });
});
