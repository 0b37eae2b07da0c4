/** One save into the journal and to the service side by side, against a fake service. */

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Journal } from "../journal/journal";
import type { PreparedSave } from "../machine/client";
import { SyncClient } from "../sync/client";
import { FakeServer } from "../sync/fake-server";
import { FakeMachine } from "./fake-machine";
import type { SaveReport, SessionTerminals } from "./model";
import { saveMachine } from "./saver";
import { SharedFrames } from "./shared-frames";

/** A journal that is slow: it takes all frames at once, and has the save when it is told. */
class SlowJournal implements Journal {
  readonly events: string[] = [];
  has: () => void = () => undefined;

  async keep(save: PreparedSave): Promise<void> {
    await Promise.all(save.chunks.map(({ digest }) => save.frame(digest)));
    await new Promise<void>((resolve) => (this.has = resolve));
    this.events.push("kept");
  }

  async clear(): Promise<void> {
    this.events.push("cleared");
  }
}

let server: FakeServer;
let sync: SyncClient;
let machine: FakeMachine;
let journal: SlowJournal;
let cancel: AbortController;

beforeEach(() => {
  vi.useFakeTimers();
  server = new FakeServer();
  sync = new SyncClient({ url: "/vm", session: "run", openSocket: server.open });
  machine = new FakeMachine();
  journal = new SlowJournal();
  cancel = new AbortController();
});

afterEach(() => {
  sync.close();
  vi.useRealTimers();
});

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

function save(): Promise<SaveReport> {
  return saveMachine({
    ...{ machine, sync, journal, message: "m", kind: "auto" as const },
    terminals: { serialize: async () => new Uint8Array() } as unknown as SessionTerminals,
    takePicture: async () => null,
    signal: cancel.signal,
    onView: () => undefined,
    onFrozen: () => undefined,
  });
}

describe("a save with a journal", () => {
  it("sends while the journal writes, and commits when the journal has it", async () => {
    const saved = save();
    await pass(100);
    expect(server.stored.size).toBe(2);
    expect(server.commits).toEqual([]);
    expect(journal.events).toEqual([]);
    journal.has();
    await pass(100);
    await saved;
    expect(server.commits).toHaveLength(1);
    expect(journal.events).toEqual(["kept", "cleared"]);
  });

  it("makes each frame once", async () => {
    const saved = save();
    await pass(100);
    journal.has();
    await pass(100);
    await saved;
    expect(machine.frames).toHaveLength(2);
  });

  it("is dropped only when the journal has it, whatever the service says", async () => {
    server.mood.refuseNegotiate = "quota_exceeded";
    const failed = save().catch((error: unknown) => error);
    await pass(100);
    expect(machine.calls).toEqual([]);
    journal.has();
    await pass(10);
    expect(await failed).toMatchObject({ code: "quota_exceeded" });
    expect(machine.calls).toEqual(["discard"]);
    expect(journal.events).toEqual(["kept"]);
  });

  it("can be cancelled while the journal writes, and is kept all the same", async () => {
    const failed = save().catch((error: unknown) => error);
    await pass(100);
    cancel.abort();
    await pass(10);
    expect(machine.calls).toEqual([]);
    journal.has();
    await pass(10);
    expect(String(await failed)).toMatch(/cancel/i);
    expect(server.commits).toEqual([]);
    expect(journal.events).toEqual(["kept"]);
    expect(machine.calls).toEqual(["discard"]);
  });
});

describe("frames for two", () => {
  it("makes a frame again for whoever asks a third time, and keeps few for a slow one", async () => {
    const made: string[] = [];
    const frames = new SharedFrames(async (digest) => {
      made.push(digest);
      return new TextEncoder().encode(digest);
    });
    for (let i = 0; i < 3; i++) expect(new TextDecoder().decode(await frames.frame("a"))).toBe("a");
    expect(made).toEqual(["a", "a"]);
    made.length = 0;
    for (let i = 0; i < 40; i++) await frames.frame(`f${i}`);
    await frames.frame("f39");
    await frames.frame("f0");
    expect(made.slice(40)).toEqual(["f0"]);
  });
});
