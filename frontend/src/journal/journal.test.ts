import { beforeEach, describe, expect, it, vi } from "vitest";
import { digestOf, saveOf } from "./hostile-store";
import { forgetSignedOut, keepsUnsaved } from "./sign-out";
import { ABOUT, ADA, VM, World } from "./world";

let w: World;

beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => undefined);
  w = new World();
});

describe("keeping", () => {
  it("is all there after the tab has died: roots, frames, and what the commit needs", async () => {
    const tab = w.openTab();
    const now = Date.now();
    await tab.journal.keep(saveOf([1, 2, 3, 4]), ABOUT);
    expect(w.last()?.kind).toBe("kept");
    tab.kill();
    const { work, damaged } = await w.find();
    expect(damaged).toBe(false);
    expect(work?.manifest).toMatchObject({
      ...{ vm: VM, session: "run", expectedHead: "head", message: "m", idempotencyKey: "key" },
      ...{ diskRoot: digestOf(3), memoryRoot: digestOf(4), reusedBytes: 7, thumbnail: "cGljdHVyZQ==" },
    });
    expect(work?.manifest.savedAt).toBeGreaterThanOrEqual(now);
    work?.release();
    expect(await w.foundChunks()).toEqual([1, 2, 3, 4]);
  });

  it("asks only for frames that it does not hold, and drops those that nothing names", async () => {
    const tab = w.openTab();
    await tab.journal.keep(saveOf([1, 2, 3, 4]), ABOUT);
    const second = saveOf([3, 4, 5, 6]);
    await tab.journal.keep(second, ABOUT);
    expect(second.asked).toBe(2);
    expect(w.store.frames.size).toBe(4);
    const [row] = await w.store.rows();
    expect(row?.bytes).toBe(w.store.size + (row?.manifest?.length ?? 0));
    tab.kill();
    expect(await w.foundChunks()).toEqual([3, 4, 5, 6]);
  });

  it("forgets everything when it is told so", async () => {
    const tab = w.openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    await tab.journal.clear();
    expect([w.store.stored.size, w.store.frames.size, w.last()?.kind]).toEqual([0, 0, "empty"]);
    await tab.journal.keep(saveOf([2, 3]), ABOUT);
    tab.kill();
    expect(await w.foundChunks()).toEqual([2, 3]);
  });

  it("gives up what it is at when that has been committed meanwhile, and says nothing of it", async () => {
    const tab = w.openTab();
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
    expect(w.statuses).toEqual([{ kind: "empty" }]);
    expect([w.store.stored.size, w.store.frames.size]).toEqual([0, 0]);
    await tab.journal.keep(saveOf([8, 9]), ABOUT);
    expect(w.last()?.kind).toBe("kept");
  });

  it("keeps saves in the order in which they were given, also when nobody waits", async () => {
    const tab = w.openTab();
    await Promise.all(
      [
        [1, 2],
        [2, 3],
        [3, 4],
      ].map((chunks) => tab.journal.keep(saveOf(chunks), ABOUT)),
    );
    tab.kill();
    expect(await w.foundChunks()).toEqual([3, 4]);
  });

  it("keeps what it had when the next save is too large, does not fit, or cannot be read", async () => {
    const tab = w.openTab({ limits: { batch: 2500, save: 4500 } });
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    await tab.journal.keep(saveOf([3, 4, 5, 6, 7]), ABOUT);
    expect(w.last()).toMatchObject({ kind: "failed", why: "too_large", at: expect.any(Number) });
    w.store.room = w.store.size + 1500;
    await tab.journal.keep(saveOf([8, 9, 10]), ABOUT);
    expect(w.last()).toMatchObject({ kind: "failed", why: "no_room" });
    const broken = { ...saveOf([11, 12]), frame: () => Promise.reject(new Error("save_gone")) };
    await tab.journal.keep(broken, ABOUT);
    expect(w.last()).toMatchObject({ kind: "failed", why: "storage" });
    expect(w.store.frames.size).toBe(2);
    tab.kill();
    expect(await w.foundChunks()).toEqual([1, 2]);
  });

  it("counts the journals of all tabs and users against one bound", async () => {
    const limits = { batch: 2500, all: 6000 };
    const [one, two] = [w.openTab({ limits }), w.openTab({ limits, fetchKey: w.fetchKey("eve") })];
    await one.journal.keep(saveOf([1, 2, 3]), ABOUT);
    await two.journal.keep(saveOf([4, 5, 6]), ABOUT);
    expect(w.last()).toMatchObject({ why: "no_room", at: null });
    expect(w.store.frames.size).toBe(3);
  });

  it("gives up what its owner had set aside before it gives up new work, and nobody else's", async () => {
    const limits = { batch: 2500, all: 8000 };
    for (const owner of ["eve", ADA]) {
      const tab = w.openTab({ fetchKey: w.fetchKey(owner) });
      await tab.journal.keep(saveOf([1, 2]), ABOUT);
      tab.kill();
    }
    for (const { id } of await w.store.rows()) await w.store.setAside(id, Date.now());
    await w.openTab({ limits }).journal.keep(saveOf([3, 4, 5]), ABOUT);
    expect(w.last()?.kind).toBe("kept");
    expect((await w.store.rows()).map(({ owner, asideAt }) => [owner, asideAt !== null])).toEqual([
      ["eve", true],
      [ADA, false],
    ]);
  });

  it("says so without a key, and keeps once the service gives one", async () => {
    w.offline = true;
    const tab = w.openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    expect(w.last()).toMatchObject({ kind: "failed", why: "no_key" });
    w.offline = false;
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    expect(w.last()?.kind).toBe("kept");
    w.offline = true; // the key is there: now is when it is needed
    await tab.journal.keep(saveOf([2, 3]), ABOUT);
    expect(w.last()?.kind).toBe("kept");
  });

  it("starts anew when the person has cleared the site's data", async () => {
    const tab = w.openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    w.store.stored.clear();
    w.store.frames.clear();
    await tab.journal.keep(saveOf([1, 2, 3]), ABOUT);
    await tab.journal.keep(saveOf([1, 2, 3]), ABOUT);
    tab.kill();
    expect(await w.foundChunks()).toEqual([1, 2, 3]);
  });
});

describe("signing out", () => {
  it("removes what is theirs, leaves what is others', and no tab writes on", async () => {
    const [ada, eve] = [w.openTab(), w.openTab({ fetchKey: w.fetchKey("eve") })];
    await ada.journal.keep(saveOf([1, 2]), ABOUT);
    await eve.journal.keep(saveOf([3, 4]), ABOUT);
    await w.store.signOut([ADA]);
    expect((await w.store.rows()).map(({ owner }) => owner)).toEqual(["eve"]);
    expect(w.store.frames.size).toBe(2);
    w.offline = true; // what the service answers to somebody who is signed out
    await ada.journal.keep(saveOf([1, 2, 3]), ABOUT);
    expect(w.last()).toMatchObject({ kind: "failed", why: "no_key", at: null });
    expect(w.store.frames.size).toBe(2);
    w.offline = false;
    await ada.journal.keep(saveOf([1, 2, 3]), ABOUT);
    expect(w.last()?.kind).toBe("kept");
  });

  it("and in again lets the tab go on by itself", async () => {
    const tab = w.openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    await w.store.signOut([ADA]);
    await tab.journal.renew();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    tab.kill();
    expect(await w.foundChunks()).toEqual([1, 2]);
  });

  it("happens on the next page, for all whom the service names, and is tried again when the storage fails", async () => {
    const owners = ["a", "b", "c"].map((digit) => digit.repeat(32));
    const [a = "", b = "", c = ""] = owners;
    for (const owner of owners) {
      const tab = w.openTab({ fetchKey: w.fetchKey(owner) });
      await tab.journal.keep(saveOf([1, 2]), ABOUT);
      tab.kill();
    }
    expect(await keepsUnsaved(w.store, a)).toBe(true);
    const page = { cookie: `theme=dark; webvm_signed_out=${a}.junk.${b}` };
    let forgotten = 0;
    const forgetChunks = async (): Promise<void> => void forgotten++;
    w.store.misfortunes.set(w.store.changes, "fails");
    await expect(forgetSignedOut(page, w.store, forgetChunks)).rejects.toThrow("fire");
    expect(page.cookie).toContain(a);
    await forgetSignedOut(page, w.store, forgetChunks);
    expect(page.cookie).toMatch(/^webvm_signed_out=; path=\/; max-age=0/);
    expect((await w.store.rows()).map(({ owner }) => owner)).toEqual([c]);
    expect(await keepsUnsaved(w.store, a)).toBe(false);
    await forgetSignedOut({ cookie: "theme=dark" }, w.store, forgetChunks);
    expect(await w.store.fence(), "nobody was signed out").toBe(1);
    expect(forgotten).toBe(1);
  });

  it("a renewed key takes the place of the one before", async () => {
    const tab = w.openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    w.secrets.set(`${ADA}/${VM}`, 200);
    await tab.journal.renew();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    tab.kill();
    expect(w.store.stored.size).toBe(1);
    expect(await w.foundChunks()).toEqual([1, 2]);
  });

  it("a service that is away for a moment takes nothing away", async () => {
    const tab = w.openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    w.offline = true;
    await tab.journal.renew();
    await tab.journal.keep(saveOf([2, 3]), ABOUT);
    w.offline = false;
    tab.kill();
    expect(await w.foundChunks()).toEqual([2, 3]);
  });
});
