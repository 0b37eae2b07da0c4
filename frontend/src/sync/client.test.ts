import { afterEach, describe, expect, it, vi } from "vitest";
import { SyncClient, type LeaseState, type Timing } from "./client";
import { FakeServer } from "./fake-server";
import type { Every } from "./timing";

const clients: SyncClient[] = [];

afterEach(() => {
  vi.restoreAllMocks();
  for (const client of clients.splice(0)) client.close();
});

function connect(server: FakeServer, more: Partial<Timing> = {}, every?: Every): SyncClient {
  const client = new SyncClient({
    url: "ws://x/",
    session: "mine",
    openSocket: server.open,
    timing: { openMs: 100, requestMs: 60, renewMs: 1000, backoffFirstMs: 4, backoffMostMs: 16, ...more },
    ...(every ? { every } : {}),
  });
  clients.push(client);
  return client;
}

function until(client: SyncClient, kind: LeaseState["kind"]): Promise<LeaseState> {
  if (client.state.kind === kind) return Promise.resolve(client.state);
  return new Promise((resolve) => {
    const stop = client.onState((state) => {
      if (state.kind !== kind) return;
      stop();
      resolve(state);
    });
  });
}

describe("the lease", () => {
  it("is taken, renewed and given back", async () => {
    const server = new FakeServer();
    server.head = "h";
    const client = connect(server, { renewMs: 10 });
    expect(await until(client, "online")).toEqual({ kind: "online", epoch: 1, head: "h" });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(server.renewals).toBeGreaterThan(1);
    client.close();
    expect(server.released).toBe(1);
    expect(client.state).toMatchObject({ kind: "ended", code: "closed" });
  });

  it("keeps its epoch over a reconnect", async () => {
    const server = new FakeServer();
    const client = connect(server);
    await until(client, "online");
    server.kill();
    await until(client, "connecting");
    expect(await until(client, "online")).toMatchObject({ epoch: 1 });
    expect(server.connectionCount).toBe(2);
  });

  it("is asked for again until the server is there", async () => {
    const server = new FakeServer();
    server.mood.down = true;
    const client = connect(server);
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(client.state).toMatchObject({ kind: "connecting" });
    expect(server.connectionCount).toBeGreaterThan(2);
    server.mood.down = false;
    await until(client, "online");
  });

  it("is asked for on a new connection when the old one says nothing", async () => {
    const server = new FakeServer();
    server.mood.mute = true;
    const client = connect(server);
    setTimeout(() => (server.mood.mute = false), 80);
    await until(client, "online");
    expect(server.connectionCount).toBeGreaterThan(1);
  });

  it("says who holds it, and is ours after taking over", async () => {
    const server = new FakeServer();
    server.takeAway("Ada");
    const client = connect(server);
    expect(await until(client, "held")).toEqual({
      kind: "held",
      holder: "Ada",
      since: "2026-01-01T00:00:00Z",
      yours: false,
    });
    await expect(client.whenOnline()).rejects.toMatchObject({ code: "lease_held" });
    await client.takeOver();
    expect(client.state).toMatchObject({ kind: "online", epoch: 2 });
  });

  it("is ours as soon as whoever held it is gone", async () => {
    const server = new FakeServer();
    server.takeAway("Ada");
    const client = connect(server, { heldMs: 20 });
    await until(client, "held");
    const seen: string[] = [];
    client.onState((state) => seen.push(state.kind));
    await new Promise((resolve) => setTimeout(resolve, 70));
    expect(seen.filter((kind) => kind !== "held")).toEqual([]);
    server.lease = undefined;
    await until(client, "online");
  });

  it("is refused while there is no room, asked for again, and ours as soon as there is", async () => {
    const server = new FakeServer();
    server.mood.noRoom = true;
    const client = connect(server, { fullMs: 20 });
    expect(await until(client, "full")).toMatchObject({ sessions: 2, most: 2 });
    await expect(client.whenOnline()).rejects.toMatchObject({ code: "session_quota_exceeded" });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(client.state.kind).toBe("full");
    expect(server.connectionCount).toBe(1);
    server.mood.noRoom = false;
    await until(client, "online");
  });

  it("is asked for at once when the person says so", async () => {
    const server = new FakeServer();
    server.mood.noRoom = true;
    const client = connect(server, { fullMs: 60_000 });
    await until(client, "full");
    expect(await client.askAgain()).toMatchObject({ kind: "full" });
    server.mood.noRoom = false;
    expect(await client.askAgain()).toMatchObject({ kind: "online" });
    expect(server.connectionCount).toBe(1);
  });

  it("is kept for the save of who was asked for it, in a hidden tab, too, whose timers hardly run", async () => {
    const server = new FakeServer();
    const client = connect(server, { yieldMs: 5 });
    const { connection, epoch } = await client.whenOnline();
    vi.spyOn(globalThis, "setInterval").mockReturnValue(0 as unknown as ReturnType<typeof setInterval>);
    await client.giveUp("Ada", async () => {
      for (let chunk = 0; chunk < 6; chunk++) {
        await new Promise((resolve) => setTimeout(resolve, 8));
        await connection.request("negotiate", { epoch, chunks: [] }, 60);
      }
    });
    expect(server.yields).toBeGreaterThanOrEqual(5);
    expect(server.released).toBe(1);
  });

  it("is renewed by the clock that it was given, whatever the page's timers do", async () => {
    const ticks: (() => void)[] = [];
    const server = new FakeServer();
    const client = connect(server, {}, (tick) => {
      ticks.push(tick);
      return () => ticks.splice(ticks.indexOf(tick), 1);
    });
    await until(client, "online");
    await vi.waitFor(() => expect(ticks).toHaveLength(1));
    server.takeAway("Ada");
    for (const tick of [...ticks]) tick();
    await until(client, "lost");
    client.close();
    await vi.waitFor(() => expect(ticks).toHaveLength(0));
  });

  it("is lost when somebody takes over, and can be taken back", async () => {
    const server = new FakeServer();
    const client = connect(server);
    await until(client, "online");
    server.takeAway("Ada");
    server.kill(4409);
    expect(await until(client, "lost")).toMatchObject({ message: "This machine was opened somewhere else." });
    await client.takeOver();
    expect(client.state).toMatchObject({ kind: "online", epoch: 3 });
  });

  it("is found lost by a hint, and by a gap in the hints", async () => {
    for (const skip of [0, 1]) {
      const server = new FakeServer();
      const client = connect(server);
      await until(client, "online");
      server.hint("head");
      server.takeAway("Ada");
      server.hint(skip ? "head" : "lease", skip);
      expect(await until(client, "lost")).toMatchObject({
        by: { holder: "Ada" },
      });
    }
  });

  it.each([
    [4404, "not_found"],
    [4401, "signed_out"],
  ])("ends at close code %i", async (code, ending) => {
    const server = new FakeServer();
    const client = connect(server);
    await until(client, "online");
    server.kill(code);
    expect(await until(client, "ended")).toMatchObject({ code: ending });
    await expect(client.whenOnline()).rejects.toMatchObject({ code: ending });
    const before = server.connectionCount;
    await new Promise((resolve) => setTimeout(resolve, 40));
    expect(server.connectionCount).toBe(before);
  });

  it("a poke does not wait for the back-off", async () => {
    const server = new FakeServer();
    const client = new SyncClient({
      url: "ws://x/",
      session: "mine",
      openSocket: server.open,
      timing: { backoffFirstMs: 60_000, backoffMostMs: 60_000 },
    });
    clients.push(client);
    await until(client, "online");
    server.kill();
    await new Promise((resolve) => setTimeout(resolve, 10));
    client.poke();
    await until(client, "online");
  });
});
