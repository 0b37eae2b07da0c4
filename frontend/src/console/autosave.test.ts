import { beforeEach, describe, expect, it } from "vitest";
import { Cancelled, ConnectionLost, Expected } from "../sync/errors";
import { Autosave, type AutosaveHooks } from "./autosave";

let now: number;
let possible: ReturnType<AutosaveHooks["possible"]>;
let worth: boolean;
let quiet: number;
let failure: Error | undefined;
let rounds: string[];
let autosave: Autosave;

beforeEach(() => {
  now = 1_000_000;
  possible = "online";
  worth = false;
  quiet = 0;
  failure = undefined;
  rounds = [];
  const round = (kind: string) => async (): Promise<void> => {
    rounds.push(kind);
    if (failure) throw failure;
    worth = false;
  };
  autosave = new Autosave(
    {
      possible: () => possible,
      worthSaving: () => worth,
      quietMs: () => quiet,
      sample: async () => undefined,
      round: round("online"),
      journalRound: round("journal"),
      changed: () => undefined,
    },
    () => now,
  );
  autosave.set(30);
  autosave.close(); // the test is the clock
});

/** Lets so many seconds go by. */
async function pass(seconds: number): Promise<void> {
  for (let i = 0; i < seconds; i++) {
    now += 1000;
    autosave.tick();
    await Promise.resolve();
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

describe("autosave", () => {
  it("saves when something has changed for as long as was set", async () => {
    await pass(60);
    worth = true;
    await pass(29);
    expect(rounds).toEqual([]);
    await pass(3);
    expect(rounds).toEqual(["online"]);
    expect(autosave.view).toEqual({ kind: "on", at: expect.any(Number) });
  });

  it("costs a machine that is left alone nothing", async () => {
    await pass(600);
    expect(rounds).toEqual([]);
  });

  it("saves earlier when the guest has become quiet, but not again and again", async () => {
    await pass(20);
    worth = true;
    quiet = 2999;
    await pass(2);
    expect(rounds).toEqual([]);
    quiet = 3000;
    await pass(1);
    expect(rounds).toHaveLength(1);
    worth = true;
    await pass(9);
    expect(rounds).toHaveLength(1);
    await pass(1);
    expect(rounds).toHaveLength(2);
  });

  it("does nothing when it is off", async () => {
    autosave.set(0);
    worth = true;
    expect(autosave.view).toEqual({ kind: "off" });
    autosave.close();
  });

  it("waits longer after each failure, and says that it is trying", async () => {
    worth = true;
    failure = new Expected("store_unavailable", "The store is away.");
    await pass(35);
    expect(rounds).toHaveLength(1);
    expect(autosave.view).toEqual({ kind: "failing", message: "The store is away." });
    await pass(50);
    expect(rounds).toHaveLength(1);
    await pass(15);
    expect(rounds).toHaveLength(2);
    await pass(105);
    expect(rounds).toHaveLength(2);
    failure = undefined;
    await pass(20);
    expect(rounds).toHaveLength(3);
    expect(autosave.view.kind).toBe("on");
  });

  it("says that the storage is full, tries again each minute, and goes on when there is room", async () => {
    worth = true;
    failure = new Expected("quota_exceeded", "Full.");
    await pass(35);
    expect(autosave.view).toEqual({ kind: "full" });
    await pass(50);
    expect(rounds).toHaveLength(1);
    await pass(20);
    expect(rounds).toHaveLength(2);
    failure = undefined;
    await pass(61);
    expect(autosave.view.kind).toBe("on");
  });

  it("tries at once after an explicit save went through", async () => {
    worth = true;
    failure = new Expected("quota_exceeded", "Full.");
    await pass(35);
    autosave.saved();
    expect(autosave.view).toEqual({ kind: "on", at: undefined });
  });

  it("takes a round that made room for a save, and a lost connection, for no failure", async () => {
    worth = true;
    for (const error of [new Cancelled(), new ConnectionLost("gone")]) {
      failure = error;
      await pass(35);
      expect(autosave.view.kind).toBe("on");
    }
  });

  it("keeps the work in the journal while offline", async () => {
    possible = "offline";
    worth = true;
    await pass(35);
    expect(rounds).toEqual(["journal"]);
    expect(autosave.view).toEqual({ kind: "on", at: undefined });
  });

  it("does not begin while it must not", async () => {
    possible = "no";
    worth = true;
    await pass(100);
    expect(rounds).toEqual([]);
  });
});
