/** Saves that nobody asked for, and handing the machine over: a session with a fake machine and a fake service. */

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { JournalEntry } from "../journal/journal";
import { Expected } from "../sync/errors";
import { FakeServer } from "../sync/fake-server";
import type { Api } from "./api";
import { FakeMachine } from "./fake-machine";
import { Phases } from "./phases";
import { Session } from "./session";

const VM = "11111111-1111-4111-8111-111111111111";
const CHUNK = "c".repeat(64);

let server: FakeServer;
let machines: FakeMachine[];
let seconds: number;
let screen: string;
let sizes: boolean[];
let kept: JournalEntry[];
let session: Session;

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function makeSession(): Session {
  const api = {
    open: async () => ({
      vm: { id: VM, name: "box", tenant: "t", autosave_seconds: seconds },
      snapshot: server.head ? { id: server.head, message: "", created_at: "" } : null,
      machine: { kind: "pc" },
      locate_url: "/locate",
    }),
    setAutosave: async () => undefined,
  } as unknown as Api;
  return new Session({
    vm: VM,
    descriptorUrl: "/open",
    socketUrl: (vm) => vm,
    session: "run",
    api,
    phases: new Phases(),
    terminals: {
      shown: 0,
      sizes: [{ terminal: 0, columns: 100, rows: 30 }],
      prepare: () => undefined,
      write: (bytes) => (screen += text(bytes)),
      restore: (bytes, keepSize = false) => {
        screen = text(bytes);
        sizes.push(keepSize);
        return [0];
      },
      serialize: async () => new TextEncoder().encode(screen),
      serializeShown: async () => new TextEncoder().encode(screen),
      screenText: () => screen,
      fit: () => undefined,
    },
    openSocket: server.open,
    timing: { requestMs: 200, backoffFirstMs: 4, backoffMostMs: 8, askMs: 5, yieldMs: 10, heldMs: 20 },
    startWorker: () =>
      ({ terminate: () => undefined, addEventListener: () => undefined }) as unknown as Worker,
    startMachine: () => {
      const machine = new FakeMachine();
      machine.parent = server.head;
      machines.push(machine);
      return machine;
    },
    takePicture: async () => null,
    journal: {
      keep: async (_save, about) => void kept.push(about),
      clear: async () => undefined,
    },
  });
}

beforeEach(() => {
  vi.useFakeTimers();
  server = new FakeServer();
  machines = [];
  seconds = 30;
  screen = "";
  sizes = [];
  kept = [];
});

afterEach(() => {
  session.close();
  vi.useRealTimers();
});

async function running(): Promise<FakeMachine> {
  session = makeSession();
  const started = session.start();
  await vi.advanceTimersByTimeAsync(50);
  await started;
  expect(session.view).toMatchObject({ state: "running", lease: "online" });
  return machines[0] as FakeMachine;
}

const type = (what: string): void => session.input(new TextEncoder().encode(what));
const pass = (s: number): Promise<unknown> => vi.advanceTimersByTimeAsync(s * 1000);

describe("autosave", () => {
  it("sends ahead what has changed, then commits it as an autosave", async () => {
    const machine = await running();
    machine.ahead = [CHUNK];
    type("make\r");
    await pass(40);
    expect(machine.calls).toEqual(["start", "round", "sent ahead 1", "committed snapshot-1"]);
    expect(server.commits).toMatchObject([{ kind: "auto", message: "" }]);
    expect(session.view).toMatchObject({ unsaved: false, head: "snapshot-1", state: "running" });
    expect(session.view.autosave).toMatchObject({ kind: "on", at: expect.any(Number) });
    await pass(300);
    expect(server.commits).toHaveLength(1); // left alone
  });

  it("goes on when the guest goes on by itself: it prints, or computes", async () => {
    const machine = await running();
    type("make\r");
    await pass(40);
    machine.prints("more");
    await pass(40);
    expect(server.commits).toHaveLength(2);
    const computing = setInterval(() => (machine.instructions += 50_000_000), 1000);
    await pass(45);
    clearInterval(computing);
    expect(server.commits.length).toBeGreaterThan(2);
  });

  it("makes room for an explicit save", async () => {
    const machine = await running();
    server.mood.lateMs = 50;
    machine.ahead = [CHUNK];
    type("make\r");
    await pass(13);
    const saved = session.save("mine");
    await pass(5);
    expect((await saved).kind).toBe("save");
    expect(server.commits.at(-1)).toMatchObject({ kind: "save", message: "mine" });
  });

  it("lets the person work on when the storage is full, and goes on when there is room", async () => {
    const machine = await running();
    server.mood.refuseNegotiate = "quota_exceeded";
    type("make\r");
    await pass(40);
    expect(session.view.autosave).toEqual({ kind: "full" });
    expect(session.view).toMatchObject({ state: "running", unsaved: true });
    expect(kept.length).toBeGreaterThan(0);
    expect(machine.calls).toContain("discard");
    const failed = session.save("mine").catch((error: unknown) => error);
    await pass(1);
    expect(await failed).toMatchObject({ code: "quota_exceeded" });
    delete server.mood.refuseNegotiate;
    await pass(70);
    expect(session.view).toMatchObject({ unsaved: false, autosave: { kind: "on" } });
    expect(server.commits).toHaveLength(1);
  });

  it("works into the journal while offline, and completes a save that was asked for then", async () => {
    const machine = await running();
    type("before\r");
    server.mood.down = true;
    server.kill();
    await pass(2);
    expect(session.view.offlineSince).toBeDefined();
    await pass(40);
    expect(kept).toHaveLength(1);
    expect(machine.calls).toContain("discard");
    expect(session.view).toMatchObject({ state: "running", unsaved: true });
    const saved = session.save("offline");
    await pass(60);
    expect(session.view.saving?.phase).toBe("waiting");
    server.mood.down = false;
    await pass(5);
    expect((await saved).snapshot).toBe("snapshot-1");
    expect(server.commits).toMatchObject([{ message: "offline", kind: "save" }]);
  });

  it("is off when it was set so", async () => {
    seconds = 0;
    await running();
    type("make\r");
    await pass(120);
    expect(server.commits).toEqual([]);
    await session.setAutosave(10);
    await pass(20);
    expect(server.commits).toHaveLength(1);
  });
});

describe("handing over", () => {
  it("saves what was done, stands still, and says who has it", async () => {
    const machine = await running();
    type("work\r");
    server.tell({ type: "asked", by: "Bob", at: "2026-01-01T00:00:00Z" });
    await pass(1);
    expect(machine.calls.slice(0, 4)).toEqual(["start", "trim", "pause", "committed snapshot-1"]);
    expect(machine.calls).not.toContain("run");
    expect(server.commits).toMatchObject([{ kind: "auto" }]);
    expect(server.yields).toBeGreaterThan(0);
    expect(server.released).toBe(1);
    expect(session.view.conflict).toMatchObject({ kind: "lost", saved: true });
    expect(session.view.conflict).toMatchObject({ message: expect.stringMatching(/^Taken over by Bob at /) });
    expect(session.view.state).toBe("paused");
  });

  it("simply opens what the machine has become when it is taken back", async () => {
    const machine = await running();
    type("work\r");
    server.tell({ type: "asked", by: "Bob", at: "2026-01-01T00:00:00Z" });
    await pass(1);
    server.head = "bobs";
    server.epoch++;
    await Promise.all([session.takeOver(), pass(1)]);
    expect(session.view).toMatchObject({ head: "bobs", state: "running", conflict: undefined });
    expect(machines).toHaveLength(2);
    expect(machine.calls.at(-1)).toBe("destroy");
  });

  it("gives a machine in which nothing was done away at once", async () => {
    await running();
    server.tell({ type: "asked", by: "Bob", at: "2026-01-01T00:00:00Z" });
    await pass(1);
    expect(server.commits).toEqual([]);
    expect(server.released).toBe(1);
  });

  it("runs on when it cannot be saved, until it is taken", async () => {
    const machine = await running();
    type("work\r");
    machine.failSave = new Expected("disk_error", "A disk read has not been answered.");
    server.tell({ type: "asked", by: "Bob", at: "2026-01-01T00:00:00Z" });
    await pass(1);
    expect(server.released).toBe(0);
    expect(session.view.conflict).toBeUndefined();
    expect(session.view.state).toBe("running");
    server.takeAway("Bob");
    server.tell({ type: "taken_over", holder: "Bob", since: "2026-01-01T10:00:00Z", yours: false });
    await pass(0.01);
    server.kill(4409);
    await pass(1);
    expect(session.view.conflict).toMatchObject({ kind: "lost", saved: false });
    expect(session.view.conflict).toMatchObject({ message: expect.stringContaining("Bob") });
  });
});

describe("taking over", () => {
  async function held(answers: string[]): Promise<void> {
    server.takeAway("Ada");
    server.mood.askAnswers = answers;
    session = makeSession();
    void session.start();
    await pass(0.1);
    expect(session.view.conflict).toMatchObject({ kind: "held", holder: "Ada", asking: false });
  }

  it("waits while the holder saves, then runs what they saved", async () => {
    await held(["asked", "saving", "saving", "saving"]);
    void session.takeOver();
    await pass(0.012);
    expect(session.view.conflict).toMatchObject({ kind: "held", asking: true, saving: true });
    server.head = "theirs";
    server.lease = undefined;
    await pass(1);
    expect(session.view).toMatchObject({ head: "theirs", state: "running", conflict: undefined });
    expect(machines).toHaveLength(2);
  });

  it("passes over a holder that is silent", async () => {
    await held(["asked", "asked", "silent"]);
    await Promise.all([session.takeOver(), pass(1)]);
    expect(server.asked).toBe(3);
    expect(session.view).toMatchObject({ state: "running", conflict: undefined });
  });

  it("does not wait when the person does not want to", async () => {
    await held(Array.from({ length: 1000 }, () => "saving"));
    void session.takeOver();
    await pass(0.1);
    await Promise.all([session.takeOver(true), pass(0.1)]);
    expect(session.view).toMatchObject({ state: "running", conflict: undefined });
  });

  it("watches in the meantime: read-only, and in the holder's size", async () => {
    await held([]);
    session.watch(true);
    await pass(0.1);
    expect(session.view).toMatchObject({ watching: true, state: "paused" });
    expect(server.watching.at(-1)).toMatchObject({ type: "watch", on: true, fresh: true });
    server.show(Uint8Array.from([2, 0, 0, 0, 7, 1, ...new TextEncoder().encode("theirs")]));
    server.show(Uint8Array.from([2, 0, 0, 0, 8, 0, ...new TextEncoder().encode(" goes on")]));
    expect(screen).toBe("theirs goes on");
    expect(sizes).toEqual([true]);
    type("not mine");
    expect(machines.flatMap((machine) => machine.typed).join("")).not.toContain("mine");
    server.lease = undefined;
    await pass(1);
    expect(session.view).toMatchObject({ watching: false, state: "running" });
  });

  it("shows what is watched here to others", async () => {
    const machine = await running();
    screen = "as it is";
    machine.prints("unseen");
    server.tell({ type: "watched", fresh: true });
    await pass(0.1);
    machine.prints("!");
    await pass(0.1);
    expect(server.frames.map((frame) => text(frame.subarray(6)))).toEqual(["as it isunseen", "!"]);
    await pass(10);
    machine.prints("unseen");
    await pass(1);
    expect(server.frames).toHaveLength(2);
  });
});
