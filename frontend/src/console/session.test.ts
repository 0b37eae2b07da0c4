import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Cancelled, Expected } from "../sync/errors";
import { FakeServer } from "../sync/fake-server";
import type { Api, Descriptor } from "./api";
import { makeAutomation } from "./automation";
import { FakeMachine } from "./fake-machine";
import type { TerminalSize } from "./model";
import { Phases } from "./phases";
import { Session } from "./session";
import type { Terminals } from "./terminals";

const VM = "11111111-1111-4111-8111-111111111111";
const COPY = "22222222-2222-4222-8222-222222222222";

let server: FakeServer;
let copyServer: FakeServer;
let machines: FakeMachine[];
let prepare: (machine: FakeMachine) => void;
let screen: string;
let shown: number;
let restoredTerminals: number[];
let sizes: TerminalSize[];
let restored: string[];
let session: Session;
let snapshot: string | null;
let forked: string[];
let brought: Descriptor | undefined;
let opens: number;

function descriptor(): Descriptor {
  return {
    vm: { id: VM, name: "box", tenant: "t" },
    snapshot: snapshot ? { id: snapshot, message: "", created_at: "" } : null,
    machine: { kind: "pc" },
    locate_url: "/locate",
  } as unknown as Descriptor;
}

const api = {
  open: async () => {
    opens++;
    return descriptor();
  },
  forkSnapshot: async (id: string) => {
    forked.push(id);
    copyServer.head = "fork-head";
    return { id: COPY };
  },
  vm: async () => ({ id: VM, image: { slug: "starter" } }),
  runningVms: async () => [
    { id: VM, name: "box" },
    { id: COPY, name: "other" },
  ],
  createVm: async () => {
    copyServer.head = null;
    return { id: COPY };
  },
} as unknown as Api;

function makeSession(): Session {
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  return new Session({
    vm: VM,
    descriptorUrl: "/open",
    descriptor: brought,
    socketUrl: (vm) => vm,
    session: "run",
    api,
    phases: new Phases(),
    terminals: {
      get shown() {
        return shown;
      },
      get sizes() {
        return sizes;
      },
      prepare: () => undefined,
      write: (bytes, terminal) => {
        if (terminal === 0) screen += text(bytes);
      },
      restore: (bytes) => {
        restored.push(text(bytes));
        return restoredTerminals;
      },
      serialize: async () => new TextEncoder().encode(screen),
      serializeShown: async () => new TextEncoder().encode(screen),
      screenText: () => screen,
      fit: () => undefined,
    },
    openSocket: (url, events) => (url === VM ? server : copyServer).open(url, events),
    timing: { requestMs: 100, backoffFirstMs: 4, backoffMostMs: 8, askMs: 5 },
    startWorker: () =>
      ({ terminate: () => undefined, addEventListener: () => undefined }) as unknown as Worker,
    startMachine: ({ coldBoot }) => {
      const machine = new FakeMachine();
      if (coldBoot) machine.started = { resumed: false, extra: false };
      machine.parent = snapshot;
      prepare(machine);
      machines.push(machine);
      return machine;
    },
    takePicture: async () => "cGljdHVyZQ==",
  });
}

beforeEach(() => {
  server = new FakeServer();
  copyServer = new FakeServer();
  machines = [];
  prepare = () => undefined;
  screen = "";
  shown = 0;
  restoredTerminals = [0];
  sizes = [{ terminal: 0, columns: 100, rows: 30 }];
  restored = [];
  forked = [];
  brought = undefined;
  opens = 0;
  snapshot = null;
});

afterEach(() => session.close());

async function running(): Promise<FakeMachine> {
  session = makeSession();
  await session.start();
  await vi.waitFor(() => expect(session.view).toMatchObject({ state: "running", lease: "online" }));
  return machines[0] as FakeMachine;
}

const type = (text: string): void => session.input(new TextEncoder().encode(text));

describe("starting", () => {
  it("sets the clock, fresh random numbers and the size, and asks the shell for its prompt", async () => {
    const machine = await running();
    expect(machine.agentLines[0]).toMatch(/^clock \d+\.\d{3}$/);
    expect(machine.agentLines[1]).toMatch(/^reseed [0-9a-f]{64}$/);
    expect(machine.agentLines[2]).toBe("resize 100 30");
    expect(machine.typed).toEqual(["\r"]);
    expect(session.view.unsaved).toBe(false);
  });

  it("is running for a script when the lease is ours, not before", async () => {
    server.mood.down = true;
    session = makeSession();
    await session.start();
    expect(session.view).toMatchObject({ state: "running", lease: "connecting" });
    const { whenRunning } = makeAutomation(session, {} as Terminals, new Phases());
    await expect(whenRunning(20)).rejects.toMatchObject({ code: "timeout" });
    server.mood.down = false;
    await whenRunning();
    expect(session.view.lease).toBe("online");
  });

  it("starts from what the page brought, and asks the service when it starts again", async () => {
    brought = descriptor();
    await running();
    expect(opens).toBe(0);
    snapshot = "newer";
    server.head = "newer";
    await session.retry();
    expect(opens).toBe(1);
    expect(session.view.head).toBe("newer");
  });

  describe("of a machine with several terminals", () => {
    const several = { kind: "linux", memory_mib: 64, terminals: 3 };
    beforeEach(() => {
      brought = { ...descriptor(), machine: several } as unknown as Descriptor;
    });

    it("has each draw itself when it is first shown after a resume without screens", async () => {
      const machine = await running();
      expect(machine.typed).toEqual(["\r"]);
      session.shown(2);
      session.shown(0);
      session.shown(2);
      expect(machine.typed).toEqual(["\r"]);
      expect(machine.typedElsewhere).toEqual(["2: \f"]);
    });

    it("asks only those whose screen was not saved", async () => {
      prepare = (machine) => {
        machine.screen = new TextEncoder().encode("as they were");
        machine.started = { resumed: true, extra: true };
      };
      restoredTerminals = [0, 2];
      shown = 2;
      const machine = await running();
      session.shown(2);
      session.shown(1);
      expect(machine.typed).toEqual([]);
      expect(machine.typedElsewhere).toEqual(["1: \f"]);
    });

    it("asks none after a cold boot", async () => {
      prepare = (machine) => {
        machine.started = { resumed: false, extra: false };
      };
      session = makeSession();
      await session.start();
      session.shown(1);
      expect(machines[0]?.typedElsewhere).toEqual([]);
    });

    it("tells the guest the size of each that there is, and of the one that changes", async () => {
      sizes.push({ terminal: 2, columns: 90, rows: 20 });
      const machine = await running();
      session.resized({ terminal: 2, columns: 70, rows: 10 });
      const resizes = machine.agentLines.filter((line) => line.startsWith("resize"));
      expect(resizes).toEqual(["resize 100 30", "resize 90 20 2", "resize 70 10 2"]);
    });

    it("types into the one that is named", async () => {
      const machine = await running();
      session.input(new TextEncoder().encode("ls"), 1);
      expect(machine.typedElsewhere).toEqual(["1: ls"]);
    });
  });

  it("shows the screen that was saved, and types nothing", async () => {
    prepare = (machine) => {
      machine.screen = new TextEncoder().encode("as it was");
      machine.started = { resumed: true, extra: true };
    };
    const machine = await running();
    expect(restored).toEqual(["as it was"]);
    expect(machine.typed).toEqual([]);
  });

  it("is booting until the agent answers", async () => {
    prepare = (machine) => (machine.started = { resumed: false, extra: false });
    session = makeSession();
    await session.start();
    expect(session.view.state).toBe("booting");
    const machine = machines[0] as FakeMachine;
    machine.agentSays("ok ping");
    await vi.waitFor(() => expect(session.view.state).toBe("running"));
    expect(machine.agentLines.filter((line) => line.startsWith("reseed"))).toHaveLength(2);
  });

  it("says why it failed, and tries everything again", async () => {
    prepare = (machine) => {
      if (machines.length === 0) machine.failStart = new Expected("disk_error", "A chunk is damaged.");
    };
    session = makeSession();
    await session.start();
    expect(session.view).toMatchObject({
      state: "error",
      failure: { message: "A chunk is damaged.", retry: "start" },
    });
    await session.retry();
    expect(session.view.state).toBe("running");
  });
});

describe("a machine that cannot be resumed", () => {
  it("boots from its disk", async () => {
    prepare = (machine) => {
      if (machines.length === 0)
        machine.failStart = new Expected("state_version", "Saved by another version.");
    };
    session = makeSession();
    await session.start();
    expect(session.view).toMatchObject({ state: "error", failure: { retry: "boot" } });
    await session.bootFromDisk();
    expect(session.view).toMatchObject({ state: "booting", failure: undefined });
    machines[1]?.agentSays("ok ping");
    await vi.waitFor(() => expect(session.view.state).toBe("running"));
  });
});

describe("switching off and on", () => {
  it("boots, leaves the screens of programs, and greets the guest anew", async () => {
    const machine = await running();
    await session.pause();
    machine.prints("\x1b[?1049hvim");
    await session.restart();
    expect(machine.calls.at(-1)).toBe("restart");
    expect(session.view).toMatchObject({ state: "booting", unsaved: true });
    expect(screen).toMatch(/\x1b\[\?1047l.*switched off and on again/s);
    machine.agentSays("ok ping");
    await vi.waitFor(() => expect(session.view.state).toBe("running"));
    expect(machine.agentLines.filter((line) => line.startsWith("reseed"))).toHaveLength(2);
  });

  it("is refused while there is no machine", async () => {
    prepare = (machine) => {
      machine.failStart = new Expected("disk_error", "A chunk is damaged.");
    };
    session = makeSession();
    await session.start();
    await expect(session.restart()).rejects.toMatchObject({ code: "not_started" });
    expect(session.view.unsaved).toBe(false);
  });
});

describe("the disk", () => {
  it("stops the machine with a message, and a try continues where it stopped", async () => {
    const machine = await running();
    machine.become("stopped-on-disk", "Chunk 7 answers 500.");
    expect(session.view).toMatchObject({
      state: "error",
      failure: { message: "Chunk 7 answers 500.", retry: "disk" },
    });
    await session.retry();
    expect(machine.calls).toContain("retryDisk");
    expect(machines).toHaveLength(1);
    expect(session.view).toMatchObject({ state: "running", failure: undefined });
  });
});

describe("a disk that stopped while the service was away", () => {
  it("goes on by itself when the connection is back", async () => {
    const machine = await running();
    server.kill();
    machine.become("stopped-on-disk", "The service cannot be reached.");
    await vi.waitFor(() => expect(session.view).toMatchObject({ state: "running", failure: undefined }));
    expect(machine.calls).toContain("retryDisk");
  });
});

describe("saving", () => {
  it("stores the screen and becomes the head", async () => {
    const machine = await running();
    machine.prints("# ");
    type("make\r");
    expect(session.view.unsaved).toBe(true);
    const report = await session.save("built");
    expect(report).toMatchObject({ snapshot: "snapshot-1", dirtyBlocks: 3, pausedMs: 5, retries: 0 });
    expect(report.uploadedBytes).toBe(128);
    expect(machine.savedExtra).toBe("# ");
    expect(server.commits[0]).toMatchObject({
      message: "built",
      expected_head: null,
      thumbnail: "cGljdHVyZQ==",
    });
    expect(session.view).toMatchObject({ head: "snapshot-1", unsaved: false });
    await session.save("again");
    expect(server.commits[1]).toMatchObject({ expected_head: "snapshot-1" });
  });

  it("knows that what was typed during a save is not in it", async () => {
    await running();
    type("a");
    server.mood.lateMs = 20;
    const saving = session.save("");
    await new Promise((resolve) => setTimeout(resolve, 10));
    type("b");
    await saving;
    expect(session.view.unsaved).toBe(true);
  });

  it.each(["ok trim", "error unknown line", undefined])(
    "asks the guest to give up what its disk has, and saves when it answers %s",
    async (answer) => {
      const machine = await running();
      machine.trims = answer;
      type("x");
      await session.save("");
      expect(machine.agentLines).toContain("trim");
      expect(machine.agentLines.lastIndexOf("trim")).toBe(machine.agentLines.length - 1);
      expect(session.view.unsaved).toBe(false);
    },
  );

  it("starts the count of changes anew, and takes what the guest flushes for no change", async () => {
    const machine = await running();
    type("dd\r");
    machine.writes(500);
    await session.save("");
    expect(session.view).toMatchObject({ unsaved: false, dirtyBlocks: 0 });
    machine.writes(8);
    expect(session.view).toMatchObject({ unsaved: false, dirtyBlocks: 8 });
    machine.writes(500);
    expect(session.view.unsaved).toBe(true);
  });

  it("is refused while another is under way, and cancelled without harm", async () => {
    const machine = await running();
    type("a");
    server.mood.down = true;
    server.kill();
    const first = session.save("").catch((error: unknown) => error);
    await expect(session.save("")).rejects.toMatchObject({ code: "save_in_progress" });
    expect(session.view.state).toBe("saving");
    await new Promise((resolve) => setTimeout(resolve, 10));
    session.cancelSave();
    expect(await first).toBeInstanceOf(Cancelled);
    expect(machine.calls).toContain("discard");
    expect(session.view).toMatchObject({ state: "running", unsaved: true });
  });

  it("survives a server that is killed and started again", async () => {
    await running();
    server.mood.dropAfterCommit = 2;
    const report = await session.save("through");
    expect(report.snapshot).toBe("snapshot-1");
    expect(server.commits).toHaveLength(1);
    await vi.waitFor(() => expect(session.view).toMatchObject({ lease: "online", conflict: undefined }));
  });
});

describe("conflicts", () => {
  it("stands still when the machine is taken over, and runs on after taking it back", async () => {
    const machine = await running();
    server.takeAway("Ada");
    server.kill(4409);
    await vi.waitFor(() => expect(session.view.conflict).toMatchObject({ kind: "lost" }));
    expect(machine.state).toBe("paused");
    type("lost");
    expect(machine.typed).toEqual(["\r"]);
    await session.takeOver();
    await vi.waitFor(() => expect(session.view).toMatchObject({ state: "running", conflict: undefined }));
  });

  it("stands still while there is no room for one more machine, and runs on when there is", async () => {
    server.mood.noRoom = true;
    session = makeSession();
    await session.start();
    await vi.waitFor(() =>
      expect(session.view).toMatchObject({
        state: "paused",
        conflict: { kind: "full", sessions: 2, most: 2 },
      }),
    );
    type("lost");
    expect(machines[0]?.typed).toEqual(["\r"]);
    await expect(session.save("")).rejects.toMatchObject({ code: "session_quota_exceeded" });
    expect(await session.askAgain()).toBe(false);
    server.mood.noRoom = false;
    expect(await session.askAgain()).toBe(true);
    await vi.waitFor(() => expect(session.view).toMatchObject({ state: "running", conflict: undefined }));
    type("ls");
    expect(machines[0]?.typed.at(-1)).toBe("ls");
  });

  it("makes room by having another machine saved and closed where it is open", async () => {
    server.mood.noRoom = true;
    session = makeSession();
    await session.start();
    await vi.waitFor(() => expect(session.view.conflict).toMatchObject({ kind: "full" }));
    expect(await session.runningBeside()).toEqual([{ id: COPY, name: "other" }]);
    copyServer.takeAway("Bob");
    copyServer.mood.askAnswers = ["asked", "saving", "free"];
    const closed = session.closeOther(COPY);
    await vi.waitFor(() => expect(copyServer.asked).toBeGreaterThan(1), 3000);
    copyServer.lease = undefined; // given back when it was saved
    await closed;
    expect(copyServer.released).toBe(1);
    expect(copyServer.lease).toBeUndefined();
  });

  it("shows its own screen only, after what it has watched is taken over", async () => {
    server.lease = { session: "other", holder: "Bob" };
    server.mood.askAnswers = ["saving"];
    session = makeSession();
    await session.start();
    await vi.waitFor(() => expect(session.view.lease).toBe("held"));
    session.watch(true);
    server.show(Uint8Array.of(2, 0, 0, 0, 7, 1, 0x61));
    expect(restored).toEqual(["a"]);
    await session.takeOver();
    await vi.waitFor(() => expect(session.view).toMatchObject({ state: "running", watching: false }));
    // Relayed late, or by a service that goes on with it.
    server.show(Uint8Array.of(2, 0, 0, 0, 8, 0, 0x62));
    server.show(Uint8Array.of(2, 0, 0, 0, 9, 1, 0x63));
    expect(screen).toBe("");
    expect(restored).toEqual(["a"]);
  });

  it("waits for a choice when it is open somewhere else", async () => {
    server.takeAway("Ada");
    session = makeSession();
    await session.start();
    await vi.waitFor(() => expect(session.view.conflict).toMatchObject({ kind: "held", holder: "Ada" }));
    expect(machines[0]?.state).toBe("paused");
  });

  it("keeps the work as a copy when there is a newer save", async () => {
    snapshot = "base";
    server.head = "base";
    await running();
    type("mine");
    server.head = "newer";
    await expect(session.save("")).rejects.toMatchObject({ code: "head_moved" });
    expect(session.view.conflict).toEqual({ kind: "head_moved" });
    expect(machines[0]?.state).toBe("paused");
    expect(await session.keepAsCopy()).toBe(COPY);
    expect(forked).toEqual(["base"]);
    expect(copyServer.commits[0]).toMatchObject({ expected_head: "fork-head" });
    expect(copyServer.released).toBe(1);
    expect(server.commits).toHaveLength(0);
    expect(session.view.unsaved).toBe(false);
  });

  it("simply opens the newer save when nothing was done here", async () => {
    const machine = await running();
    snapshot = "newer";
    server.head = "newer";
    server.kill();
    await vi.waitFor(() => expect(machines).toHaveLength(2));
    await vi.waitFor(() =>
      expect(session.view).toMatchObject({ state: "running", head: "newer", conflict: undefined }),
    );
    expect(machine.calls).toContain("destroy");
  });

  it("sees a newer save when it comes back from being offline", async () => {
    const machine = await running();
    type("mine");
    server.head = "newer";
    server.kill();
    await vi.waitFor(() => expect(session.view.conflict).toEqual({ kind: "head_moved" }));
    expect(machine.state).toBe("paused");
  });

  it("runs on when signed out, and saves after signing in", async () => {
    const machine = await running();
    server.kill(4401);
    await vi.waitFor(() => expect(session.view.conflict).toEqual({ kind: "signed_out" }));
    expect(machine.state).toBe("running");
    session.reconnect();
    await vi.waitFor(() => expect(session.view).toMatchObject({ lease: "online", conflict: undefined }));
    await session.save("");
    expect(server.commits).toHaveLength(1);
  });
});

describe("standing still", () => {
  it("is for a moment only when the guest floods the terminal, and no pause to the person", async () => {
    const machine = await running();
    await session.flood(true);
    expect(machine.state).toBe("paused");
    expect(session.view.state).toBe("running");
    await session.flood(false);
    expect(machine.state).toBe("running");
  });

  it("by the person outlasts a flood", async () => {
    const machine = await running();
    await session.pause();
    await session.flood(true);
    await session.flood(false);
    expect(machine.state).toBe("paused");
    expect(session.view.state).toBe("paused");
    await session.resume();
    expect(machine.agentLines.at(-1)).toMatch(/^clock /);
    expect(session.view.state).toBe("running");
  });
});
