import { beforeEach, describe, expect, it, vi } from "vitest";
import { Random } from "../testing/random";
import { BrowserLocks, HostileStore, digestOf, frameOf, saveOf, type Misfortune } from "./hostile-store";
import { findAside, findLeftover, sweep, ASIDE_MS, LEFTOVER_MS, type Leftover } from "./recovery";
import { Damaged, JournalKey, type KeyAnswer } from "./sealing";
import { forgetSignedOut, keepsUnsaved } from "./sign-out";
import { TabJournal, type JournalStatus, type TabJournalOptions } from "./tab-journal";

const VM = "11111111-1111-4111-8111-111111111111";
const OTHER_VM = "22222222-2222-4222-8222-222222222222";
const ADA = "ada";
const ABOUT = { message: "m", expectedHead: "head", thumbnail: "cGljdHVyZQ==", idempotencyKey: "key" };

let store: HostileStore;
let browser: BrowserLocks;
let statuses: JournalStatus[];
/** The secret's first byte, by owner and VM. */
let secrets: Map<string, number>;
let offline: boolean;

beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => undefined);
  store = new HostileStore();
  browser = new BrowserLocks();
  statuses = [];
  secrets = new Map();
  offline = false;
});

function answer(owner: string, vm: string): KeyAnswer {
  const place = `${owner}/${vm}`;
  if (!secrets.has(place)) secrets.set(place, secrets.size + 1);
  const raw = new Uint8Array(32).fill(secrets.get(place) ?? 0);
  return { key: btoa(String.fromCharCode(...raw)), owner };
}

function fetchKey(owner = ADA, vm = VM): () => Promise<KeyAnswer> {
  return async () => {
    if (offline) throw new Error("no network");
    return answer(owner, vm);
  };
}

function openTab(more: Partial<TabJournalOptions> = {}): { journal: TabJournal; kill(): void } {
  const locks = browser.tab();
  const journal = new TabJournal({
    vm: VM,
    session: "run",
    store,
    locks,
    fetchKey: fetchKey(),
    onStatus: (status) => statuses.push(status),
    limits: { batch: 2500 },
    ...more,
  });
  return { journal, kill: locks.kill };
}

function find(owner = ADA, vm = VM): Promise<{ work: Leftover | undefined; damaged: boolean }> {
  return findLeftover({ store, locks: browser.tab(), owner, vm, fetchKey: fetchKey(owner, vm), waitMs: 0 });
}

/** The chunks of the work that is found; undefined: none. Every frame of it is read. */
async function foundChunks(): Promise<number[] | undefined> {
  const { work } = await find();
  if (!work) return undefined;
  for (const { digest } of work.manifest.chunks) {
    expect(await work.frame(digest)).toEqual(frameOf(digest));
  }
  work.release();
  return work.manifest.chunks.map(({ digest }) => parseInt(digest, 16));
}

const last = (): JournalStatus | undefined => statuses.at(-1);

describe("keeping", () => {
  it("is all there after the tab has died: roots, frames, and what the commit needs", async () => {
    const tab = openTab();
    const now = Date.now();
    await tab.journal.keep(saveOf([1, 2, 3, 4]), ABOUT);
    expect(last()?.kind).toBe("kept");
    tab.kill();
    const { work, damaged } = await find();
    expect(damaged).toBe(false);
    expect(work?.manifest).toMatchObject({
      ...{ vm: VM, session: "run", expectedHead: "head", message: "m", idempotencyKey: "key" },
      ...{ diskRoot: digestOf(3), memoryRoot: digestOf(4), reusedBytes: 7, thumbnail: "cGljdHVyZQ==" },
    });
    expect(work?.manifest.savedAt).toBeGreaterThanOrEqual(now);
    work?.release();
    expect(await foundChunks()).toEqual([1, 2, 3, 4]);
  });

  it("asks only for frames that it does not hold, and drops those that nothing names", async () => {
    const tab = openTab();
    await tab.journal.keep(saveOf([1, 2, 3, 4]), ABOUT);
    const second = saveOf([3, 4, 5, 6]);
    await tab.journal.keep(second, ABOUT);
    expect(second.asked).toBe(2);
    expect(store.frames.size).toBe(4);
    const [row] = await store.rows();
    expect(row?.bytes).toBe(store.size + (row?.manifest?.length ?? 0));
    tab.kill();
    expect(await foundChunks()).toEqual([3, 4, 5, 6]);
  });

  it("forgets everything when it is told so", async () => {
    const tab = openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    await tab.journal.clear();
    expect([store.stored.size, store.frames.size, last()?.kind]).toEqual([0, 0, "empty"]);
    await tab.journal.keep(saveOf([2, 3]), ABOUT);
    tab.kill();
    expect(await foundChunks()).toEqual([2, 3]);
  });

  it("gives up what it is at when that has been committed meanwhile, and says nothing of it", async () => {
    const tab = openTab();
    const save = saveOf([1, 2, 3, 4, 5, 6, 7, 8]);
    let cleared: Promise<void> | undefined;
    const late = {
      ...save,
      frame: (digest: string) => {
        if (digest === digestOf(5)) cleared = tab.journal.clear();
        return cleared ? Promise.reject(new Error("save_gone")) : save.frame(digest);
      },
    };
    await tab.journal.keep(late, ABOUT);
    await cleared;
    expect(statuses).toEqual([{ kind: "empty" }]);
    expect([store.stored.size, store.frames.size]).toEqual([0, 0]);
    await tab.journal.keep(saveOf([8, 9]), ABOUT);
    expect(last()?.kind).toBe("kept");
  });

  it("keeps saves in the order in which they were given, also when nobody waits", async () => {
    const tab = openTab();
    await Promise.all(
      [
        [1, 2],
        [2, 3],
        [3, 4],
      ].map((chunks) => tab.journal.keep(saveOf(chunks), ABOUT)),
    );
    tab.kill();
    expect(await foundChunks()).toEqual([3, 4]);
  });

  it("keeps what it had when the next save is too large, does not fit, or cannot be read", async () => {
    const tab = openTab({ limits: { batch: 2500, save: 4500 } });
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    await tab.journal.keep(saveOf([3, 4, 5, 6, 7]), ABOUT);
    expect(last()).toMatchObject({ kind: "failed", why: "too_large", at: expect.any(Number) });
    store.room = store.size + 1500;
    await tab.journal.keep(saveOf([8, 9, 10]), ABOUT);
    expect(last()).toMatchObject({ kind: "failed", why: "no_room" });
    const broken = { ...saveOf([11, 12]), frame: () => Promise.reject(new Error("save_gone")) };
    await tab.journal.keep(broken, ABOUT);
    expect(last()).toMatchObject({ kind: "failed", why: "storage" });
    expect(store.frames.size).toBe(2);
    tab.kill();
    expect(await foundChunks()).toEqual([1, 2]);
  });

  it("counts the journals of all tabs and users against one bound", async () => {
    const limits = { batch: 2500, all: 6000 };
    const [one, two] = [openTab({ limits }), openTab({ limits, fetchKey: fetchKey("eve") })];
    await one.journal.keep(saveOf([1, 2, 3]), ABOUT);
    await two.journal.keep(saveOf([4, 5, 6]), ABOUT);
    expect(last()).toMatchObject({ why: "no_room", at: null });
    expect(store.frames.size).toBe(3);
  });

  it("gives up what its owner had set aside before it gives up new work, and nobody else's", async () => {
    const limits = { batch: 2500, all: 8000 };
    for (const owner of ["eve", ADA]) {
      const tab = openTab({ fetchKey: fetchKey(owner) });
      await tab.journal.keep(saveOf([1, 2]), ABOUT);
      tab.kill();
    }
    for (const { id } of await store.rows()) await store.setAside(id, Date.now());
    await openTab({ limits }).journal.keep(saveOf([3, 4, 5]), ABOUT);
    expect(last()?.kind).toBe("kept");
    expect((await store.rows()).map(({ owner, asideAt }) => [owner, asideAt !== null])).toEqual([
      ["eve", true],
      [ADA, false],
    ]);
  });

  it("says so without a key, and keeps once the service gives one", async () => {
    offline = true;
    const tab = openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    expect(last()).toMatchObject({ kind: "failed", why: "no_key" });
    offline = false;
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    expect(last()?.kind).toBe("kept");
    offline = true; // the key is there: now is when it is needed
    await tab.journal.keep(saveOf([2, 3]), ABOUT);
    expect(last()?.kind).toBe("kept");
  });

  it("starts anew when the person has cleared the site's data", async () => {
    const tab = openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    store.stored.clear();
    store.frames.clear();
    await tab.journal.keep(saveOf([1, 2, 3]), ABOUT);
    await tab.journal.keep(saveOf([1, 2, 3]), ABOUT);
    tab.kill();
    expect(await foundChunks()).toEqual([1, 2, 3]);
  });
});

describe("a torn write", () => {
  /** Two saves and what befalls the changes; returns what is found afterwards. */
  async function torn(misfortunes: [number, Misfortune][], dies: boolean): Promise<number[] | undefined> {
    store = new HostileStore();
    browser = new BrowserLocks();
    const tab = openTab();
    await tab.journal.keep(saveOf([1, 2, 3, 4, 5, 6, 7]), ABOUT);
    store.misfortunes = new Map(misfortunes.map(([after, what]) => [store.changes + after, what]));
    const second = tab.journal.keep(saveOf([6, 7, 8, 9, 10, 11, 12]), ABOUT);
    if (dies) {
      // From the misfortune on nothing more happens: the tab is gone.
      const at = store.changes + (misfortunes[0]?.[0] ?? 0);
      const change = store.write.bind(store);
      store.write = (write) => (store.changes > at ? Promise.reject(new Error("dead")) : change(write));
    }
    await second;
    tab.kill();
    store.misfortunes.clear();
    return foundChunks();
  }

  it("leaves the one save or the other, whole, whatever happens at whichever change", async () => {
    const first = [1, 2, 3, 4, 5, 6, 7];
    const second = [6, 7, 8, 9, 10, 11, 12];
    const seen = new Set<string>();
    for (const what of ["fails", "lies", "full"] as const) {
      for (const dies of [true, false]) {
        for (let at = 0; at < 5; at++) {
          const found = await torn([[at, what]], dies);
          expect([first, second], `${what} at ${at}, dies: ${dies}`).toContainEqual(found);
          seen.add(String(found));
        }
      }
    }
    expect(seen.size).toBe(2);
  });

  it("heals with the next save, and leaves no frame behind that nothing names", async () => {
    for (const what of ["fails", "lies", "full"] as const) {
      for (let at = 0; at < 4; at++) {
        store = new HostileStore();
        browser = new BrowserLocks();
        const tab = openTab();
        // Also the looking into it fails, once.
        store.misfortunes = new Map([
          [at, what],
          [at + 1, "fails"],
        ]);
        await tab.journal.keep(saveOf([1, 2, 3, 4, 5]), ABOUT);
        await tab.journal.keep(saveOf([4, 5, 6, 7, 8]), ABOUT);
        store.misfortunes.clear();
        await tab.journal.keep(saveOf([4, 5, 6, 9]), ABOUT);
        expect(last()?.kind, `${what} at ${at}`).toBe("kept");
        expect(store.frames.size).toBe(4);
        tab.kill();
        expect(await foundChunks()).toEqual([4, 5, 6, 9]);
      }
    }
  });

  it("is never offered as half a machine, over random lives of a tab", async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = new Random(seed);
      store = new HostileStore();
      browser = new BrowserLocks();
      let tab = openTab();
      // What may be found: the last save that was kept for sure, and those tried since.
      let possible: (string | undefined)[] = [undefined];
      for (let step = 0; step < 25; step++) {
        const chance = random.next();
        if (random.next() < 0.35) {
          const what = (["fails", "lies", "full"] as const)[random.below(3)] ?? "fails";
          store.misfortunes.set(store.changes + random.below(4), what);
        }
        if (chance < 0.6) {
          const chunks = Array.from({ length: 2 + random.below(6) }, () => 1 + random.below(12));
          const unique = [...new Set(chunks)];
          const before = statuses.length;
          await tab.journal.keep(saveOf(unique), ABOUT);
          const kept = statuses.slice(before).some(({ kind }) => kind === "kept");
          possible = kept ? [String(unique)] : [...possible, String(unique)];
        } else if (chance < 0.75) {
          const before = statuses.length;
          await tab.journal.clear();
          possible = statuses.length > before ? [undefined] : [...possible, undefined];
        } else if (chance < 0.85) {
          store.dead = true;
          await tab.journal.keep(saveOf([20, 21]), ABOUT);
          store.dead = false;
        } else {
          tab.kill();
          store.misfortunes.clear();
          const found = await foundChunks();
          expect(possible, `seed ${seed}, step ${step}`).toContain(found && String(found));
          for (const { id } of await store.rows()) await store.remove([id]);
          tab = openTab();
          possible = [undefined];
        }
      }
    }
  });
});

describe("what is found", () => {
  async function leave(more: Partial<TabJournalOptions> = {}, chunks = [1, 2, 3]): Promise<void> {
    const tab = openTab(more);
    await tab.journal.keep(saveOf(chunks), ABOUT);
    tab.kill();
  }

  it("is damaged, removed and said to be so when a byte of it is another, or missing", async () => {
    const damages: ((id: string) => void)[] = [
      (id) => store.frames.delete(`${id}/1`),
      (id) => store.frames.set(`${id}/1`, (store.frames.get(`${id}/1`) as Uint8Array).slice(0, 500)),
      (id) => store.frames.set(`${id}/1`, new Uint8Array(3)),
      (id) => store.frames.set(`${id}/1`, store.frames.get(`${id}/0`) as Uint8Array),
      (id) => ((store.frames.get(`${id}/2`) as Uint8Array)[40]! ^= 1),
      (id) => ((store.stored.get(id)?.manifest as Uint8Array)[60]! ^= 1),
      (id) => Object.assign(store.stored.get(id) ?? {}, { manifest: new Uint8Array(5) }),
    ];
    for (const damage of damages) {
      store = new HostileStore();
      await leave();
      const [row] = await store.rows();
      damage(row?.id ?? "");
      expect(await find()).toEqual({ work: undefined, damaged: true });
      expect(store.stored.size + store.frames.size).toBe(0);
    }
  });

  it("is not what storage that fails for a moment makes of it", async () => {
    await leave();
    store.frame = () => Promise.reject(new Error("not now"));
    await expect(find()).rejects.toThrow("not now");
    expect(store.stored.size).toBe(1);
  });

  it("is nothing of a living tab, and of one tab only", async () => {
    const tab = openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    expect((await find()).work).toBeUndefined();
    tab.kill();
    const one = await find();
    expect(one.work).toBeDefined();
    expect((await find()).work, "the first tab is at it").toBeUndefined();
    one.work?.release();
    expect((await find()).work).toBeDefined();
  });

  it("is the newest first", async () => {
    await leave({ now: () => 1000 }, [1, 2]);
    await leave({ now: () => 3000 }, [3, 4]);
    await leave({ now: () => 2000 }, [5, 6]);
    expect(await foundChunks()).toEqual([3, 4]);
  });

  it("is nothing of another user or another VM, and needs no key to say so of another user", async () => {
    await leave();
    await leave({ vm: OTHER_VM, fetchKey: fetchKey(ADA, OTHER_VM) }, [4, 5]);
    expect((await find("eve")).work).toBeUndefined();
    offline = true;
    expect((await find("eve")).work).toBeUndefined();
    await expect(find()).rejects.toThrow("no network");
    offline = false;
    expect(await foundChunks()).toEqual([1, 2, 3]);
  });

  it("stays sealed to who has another key, even told where to look", async () => {
    await leave();
    const [row] = await store.rows();
    const eve = await JournalKey.from(answer("eve", VM), VM);
    expect(eve.tag).not.toBe(row?.vm);
    const sealer = await eve.sealer(row?.id ?? "");
    await expect(sealer.open("manifest", row?.manifest ?? new Uint8Array())).rejects.toBeInstanceOf(Damaged);
    const plain = JSON.stringify([...store.stored.values(), ...store.frames.values()]);
    for (const secret of [VM, "head", digestOf(3)]) expect(plain).not.toContain(secret);
  });

  it("can be set aside and brought back, for a day", async () => {
    await leave();
    const { work } = await find();
    await store.setAside(work?.id ?? "", Date.now());
    work?.release();
    expect((await find()).work).toBeUndefined();
    const search = { store, owner: ADA, vm: VM, fetchKey: fetchKey() };
    expect(await findAside(search)).toMatchObject([{ id: work?.id }]);
    expect(await findAside({ ...search, owner: "eve", fetchKey: fetchKey("eve") })).toEqual([]);
    await store.setAside(work?.id ?? "", null);
    expect(await foundChunks()).toEqual([1, 2, 3]);
  });

  it("is swept when nobody waits for it any more, but never from under a living tab", async () => {
    const now = Date.now();
    const living = openTab({ now: () => now - LEFTOVER_MS - 1 });
    await living.journal.keep(saveOf([1, 2]), ABOUT);
    await leave({ now: () => now - LEFTOVER_MS - 1, fetchKey: fetchKey("eve") });
    await leave({ now: () => now - LEFTOVER_MS + 1000 });
    const [, , kept] = await store.rows();
    await leave();
    const aside = (await store.rows())[3];
    await store.setAside(aside?.id ?? "", now - ASIDE_MS - 1);
    // A tab that died in its first write.
    const torn = openTab();
    store.misfortunes.set(store.changes + 1, "fails");
    const write = store.remove.bind(store);
    store.remove = () => Promise.reject(new Error("dead"));
    await torn.journal.keep(saveOf([1, 2, 3, 4, 5]), ABOUT);
    store.remove = write;
    torn.kill();
    expect(store.stored.size).toBe(5);
    await sweep(store, browser.tab(), now);
    expect([...store.stored.keys()].sort()).toEqual([living.journal.id, kept?.id].sort());
  });
});

describe("signing out", () => {
  it("removes what is theirs, leaves what is others', and no tab writes on", async () => {
    const [ada, eve] = [openTab(), openTab({ fetchKey: fetchKey("eve") })];
    await ada.journal.keep(saveOf([1, 2]), ABOUT);
    await eve.journal.keep(saveOf([3, 4]), ABOUT);
    await store.signOut([ADA]);
    expect((await store.rows()).map(({ owner }) => owner)).toEqual(["eve"]);
    expect(store.frames.size).toBe(2);
    offline = true; // what the service answers to somebody who is signed out
    await ada.journal.keep(saveOf([1, 2, 3]), ABOUT);
    expect(last()).toMatchObject({ kind: "failed", why: "no_key", at: null });
    expect(store.frames.size).toBe(2);
    offline = false;
    await ada.journal.keep(saveOf([1, 2, 3]), ABOUT);
    expect(last()?.kind).toBe("kept");
  });

  it("and in again lets the tab go on by itself", async () => {
    const tab = openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    await store.signOut([ADA]);
    await tab.journal.renew();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    tab.kill();
    expect(await foundChunks()).toEqual([1, 2]);
  });

  it("happens on the next page, for all whom the service names, and is tried again when the storage fails", async () => {
    const owners = ["a", "b", "c"].map((digit) => digit.repeat(32));
    const [a = "", b = "", c = ""] = owners;
    for (const owner of owners) {
      const tab = openTab({ fetchKey: fetchKey(owner) });
      await tab.journal.keep(saveOf([1, 2]), ABOUT);
      tab.kill();
    }
    expect(await keepsUnsaved(store, a)).toBe(true);
    const page = { cookie: `theme=dark; webvm_signed_out=${a}.junk.${b}` };
    store.misfortunes.set(store.changes, "fails");
    await expect(forgetSignedOut(page, store)).rejects.toThrow("fire");
    expect(page.cookie).toContain(a);
    await forgetSignedOut(page, store);
    expect(page.cookie).toMatch(/^webvm_signed_out=; path=\/; max-age=0/);
    expect((await store.rows()).map(({ owner }) => owner)).toEqual([c]);
    expect(await keepsUnsaved(store, a)).toBe(false);
    await forgetSignedOut({ cookie: "theme=dark" }, store);
    expect(await store.fence(), "nobody was signed out").toBe(1);
  });

  it("a renewed key takes the place of the one before", async () => {
    const tab = openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    secrets.set(`${ADA}/${VM}`, 200);
    await tab.journal.renew();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    tab.kill();
    expect(store.stored.size).toBe(1);
    expect(await foundChunks()).toEqual([1, 2]);
  });

  it("a service that is away for a moment takes nothing away", async () => {
    const tab = openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    offline = true;
    await tab.journal.renew();
    await tab.journal.keep(saveOf([2, 3]), ABOUT);
    offline = false;
    tab.kill();
    expect(await foundChunks()).toEqual([2, 3]);
  });
});
