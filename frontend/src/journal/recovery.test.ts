import { beforeEach, describe, expect, it, vi } from "vitest";
import type { Descriptor } from "../console/api";
import { Cancelled, Expected } from "../sync/errors";
import { FakeServer } from "../sync/fake-server";
import type { SaveProgress } from "../sync/save";
import { BrowserLocks, HostileStore, digestOf, saveOf } from "./hostile-store";
import { leftoverOf } from "./opening";
import { continueLeftover, findLeftover, type ContinueOptions, type Leftover } from "./recovery";
import { Damaged } from "./sealing";
import { TabJournal } from "./tab-journal";

const VM = "11111111-1111-4111-8111-111111111111";
const COPY = "22222222-2222-4222-8222-222222222222";
const KEY = { key: btoa(String.fromCharCode(...new Uint8Array(32).fill(9))), owner: "ada" };
const FAST = { requestMs: 100, backoffFirstMs: 4, backoffMostMs: 8, stallMs: 100 };

let store: HostileStore;
let server: FakeServer;
let copyServer: FakeServer;
/** What copies were made of; those in `deleted` cannot be. */
let copied: (string | null)[];
let deleted: Set<string>;
let progress: SaveProgress[];
let cancel: AbortController;

beforeEach(() => {
  store = new HostileStore();
  server = new FakeServer();
  copyServer = new FakeServer();
  copied = [];
  deleted = new Set();
  progress = [];
  cancel = new AbortController();
});

/** What a run that ended has left, on top of `expectedHead`. */
async function leftover(expectedHead: string | null, wasAside = false): Promise<Leftover> {
  const browser = new BrowserLocks();
  const locks = browser.tab();
  const common = { store, vm: VM, fetchKey: async () => KEY };
  const journal = new TabJournal({ ...common, locks, session: "dead-run", onStatus: () => undefined });
  await journal.keep(saveOf([1, 2, 3, 4, 5, 6]), {
    ...{ message: "last words", expectedHead, thumbnail: null, idempotencyKey: "key" },
  });
  locks.kill();
  if (wasAside) {
    await store.setAside(journal.id, 1);
    await store.setAside(journal.id, null);
  }
  const { work } = await findLeftover({ ...common, owner: "ada", locks: browser.tab(), waitMs: 0 });
  if (!work) throw new Error("nothing was left");
  return work;
}

function goOn(work: Leftover, more: Partial<ContinueOptions> = {}): Promise<string | undefined> {
  return continueLeftover(work, {
    store,
    session: "living-run",
    socketUrl: (vm) => vm,
    openSocket: (url, events) => (url === VM ? server : copyServer).open(url, events),
    timing: FAST,
    asCopy: false,
    copy: async (snapshot) => {
      if (snapshot !== null && deleted.has(snapshot)) throw new Expected("not_found", "gone");
      copied.push(snapshot);
      copyServer.head = "head of the copy";
      return COPY;
    },
    onProgress: (step) => progress.push(step),
    signal: cancel.signal,
    ...more,
  });
}

const failure = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );

describe("opening a console", () => {
  const descriptor = (disk: number, memory: number): Descriptor =>
    ({ disk: { root: digestOf(disk) }, memory: { root: digestOf(memory) } }) as Descriptor;

  async function look(opened: Descriptor | undefined): Promise<Leftover | undefined> {
    const locks = new BrowserLocks().tab();
    const journals = { store, locks, owner: "ada", vm: VM, fetchKey: async () => KEY };
    return (await leftoverOf(journals, opened)).work;
  }

  it("offers what is left over of the VM, and nothing that is the saved state itself", async () => {
    await leftover("s1");
    expect(await look(descriptor(5, 7))).toBeDefined();
    expect(await look(undefined)).toBeDefined();
    expect(await look(descriptor(5, 6)), "it was committed in the last moment").toBeUndefined();
    expect(store.stored.size + store.frames.size).toBe(0);
  });
});

describe("continuing", () => {
  it("sends what is missing under the dead run's lease and makes it the head; then the journal is gone", async () => {
    server.head = "s1";
    server.lease = { session: "dead-run", holder: "me" };
    server.stored.set(digestOf(1), new Uint8Array(1));
    const work = await leftover("s1");
    expect(await goOn(work)).toBeUndefined();
    expect(server.commits).toMatchObject([
      { expected_head: "s1", message: "last words", idempotency_key: "key", reused_bytes: 7 },
    ]);
    expect(server.commits[0]).toMatchObject({ disk_root: digestOf(5), memory_root: digestOf(6) });
    expect(server.chunkFrames).toBe(5);
    expect(progress.map(({ phase }) => phase)).toContain("uploading");
    expect(store.stored.size + store.frames.size).toBe(0);
    await vi.waitFor(() => expect(server.released).toBe(1));
  });

  it("does not pretend to be the dead run once that was set aside: another tab may have its name", async () => {
    server.lease = { session: "dead-run", holder: "me, in another tab" };
    expect(await failure(goOn(await leftover(null, true)))).toMatchObject({ code: "lease_held" });
    server.lease = undefined;
    expect(await goOn(await leftover(null, true))).toBeUndefined();
  });

  it("survives a connection that is cut again and again", async () => {
    server.mood = { dropAfterChunks: 1 };
    expect(await goOn(await leftover(null))).toBeUndefined();
    expect(server.commits).toHaveLength(1);
  });

  it("finds that it was saved already, though much has been saved since", async () => {
    server.byKey.set("key", "s2");
    for (const n of [5, 6]) server.stored.set(digestOf(n), new Uint8Array(1));
    server.head = "s9";
    expect(await goOn(await leftover("s1"))).toBeUndefined();
    expect([copied, server.commits, store.stored.size]).toEqual([[], [], 0]);
  });

  it("keeps the work as a copy of what it goes on from when the head has moved", async () => {
    server.head = "s2";
    expect(await goOn(await leftover("s1"))).toBe(COPY);
    expect(copied).toEqual(["s1"]);
    expect(server.commits).toEqual([]);
    expect(copyServer.commits).toMatchObject([{ expected_head: "head of the copy", message: "last words" }]);
    expect(store.stored.size).toBe(0);
  });

  it("copies the newer state when the one it goes on from is gone, or never was", async () => {
    server.head = "s2";
    deleted.add("s1");
    expect(await goOn(await leftover("s1"))).toBe(COPY);
    expect(await goOn(await leftover(null))).toBe(COPY);
    expect(copied).toEqual(["s2", "s2"]);
    deleted.add("s2");
    expect(await failure(goOn(await leftover("s1")))).toMatchObject({ code: "no_base" });
    expect(store.stored.size).toBe(1);
  });

  it("makes one copy, however often it is tried", async () => {
    server.head = "s2";
    copyServer.mood = { refuse: { code: "quota_exceeded", message: "full" } };
    const work = await leftover("s1");
    expect(await failure(goOn(work))).toMatchObject({ code: "quota_exceeded" });
    expect(store.stored.size).toBe(1);
    copyServer.mood = {};
    expect(await goOn(work)).toBe(COPY);
    expect(copied).toEqual(["s1"]);
  });

  it("leaves the journal alone while somebody else has the machine, and can keep it as a copy then", async () => {
    server.head = "s1";
    server.lease = { session: "another", holder: "Eve" };
    const work = await leftover("s1");
    expect(await failure(goOn(work))).toMatchObject({ code: "lease_held" });
    expect(store.stored.size).toBe(1);
    expect(await goOn(work, { asCopy: true })).toBe(COPY);
    expect(server.lease.session).toBe("another");
    expect(store.stored.size).toBe(0);
  });

  it("leaves the journal alone when the quota is full, and when it is cancelled without a network", async () => {
    server.mood = { refuse: { code: "quota_exceeded", message: "full" } };
    const work = await leftover(null);
    expect(await failure(goOn(work))).toMatchObject({ code: "quota_exceeded" });
    server.mood = { down: true };
    const waiting = failure(goOn(work));
    await vi.waitFor(() => expect(progress.at(-1)?.phase).toBe("waiting"));
    cancel.abort();
    expect(await waiting).toBeInstanceOf(Cancelled);
    expect(await failure(goOn(work))).toBeDefined();
    expect(store.stored.size).toBe(1);
    server.mood = {};
    expect(await goOn(work, { signal: new AbortController().signal })).toBeUndefined();
  });

  it("commits nothing of what turns out to be damaged after all", async () => {
    const work = await leftover(null);
    const [key] = [...store.frames.keys()].slice(2);
    (store.frames.get(key ?? "") as Uint8Array)[30]! ^= 1;
    expect(await failure(goOn(work))).toBeInstanceOf(Damaged);
    expect(server.commits).toEqual([]);
  });
});
