import { beforeEach, describe, expect, it, vi } from "vitest";
import { digestOf, saveOf } from "./hostile-store";
import { ASIDE_MS, LEFTOVER_MS, findAside, sweep } from "./recovery";
import { Damaged, JournalKey } from "./sealing";
import type { TabJournalOptions } from "./tab-journal";
import { ABOUT, ADA, OTHER_VM, VM, World } from "./world";

let w: World;

beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => undefined);
  w = new World();
});

describe("what is found", () => {
  async function leave(more: Partial<TabJournalOptions> = {}, chunks = [1, 2, 3]): Promise<void> {
    const tab = w.openTab(more);
    await tab.journal.keep(saveOf(chunks), ABOUT);
    tab.kill();
  }

  it("is damaged, removed and said to be so when a byte of it is another, or missing", async () => {
    const damages: ((id: string) => void)[] = [
      (id) => w.store.frames.delete(`${id}/1`),
      (id) => w.store.frames.set(`${id}/1`, (w.store.frames.get(`${id}/1`) as Uint8Array).slice(0, 500)),
      (id) => w.store.frames.set(`${id}/1`, new Uint8Array(3)),
      (id) => w.store.frames.set(`${id}/1`, w.store.frames.get(`${id}/0`) as Uint8Array),
      (id) => ((w.store.frames.get(`${id}/2`) as Uint8Array)[40]! ^= 1),
      (id) => ((w.store.stored.get(id)?.manifest as Uint8Array)[60]! ^= 1),
      (id) => Object.assign(w.store.stored.get(id) ?? {}, { manifest: new Uint8Array(5) }),
    ];
    for (const damage of damages) {
      w.reset();
      await leave();
      const [row] = await w.store.rows();
      damage(row?.id ?? "");
      expect(await w.find()).toEqual({ work: undefined, damaged: true });
      expect(w.store.stored.size + w.store.frames.size).toBe(0);
    }
  });

  it("is not what storage that fails for a moment makes of it", async () => {
    await leave();
    w.store.frame = () => Promise.reject(new Error("not now"));
    await expect(w.find()).rejects.toThrow("not now");
    expect(w.store.stored.size).toBe(1);
  });

  it("is nothing of a living tab, and of one tab only", async () => {
    const tab = w.openTab();
    await tab.journal.keep(saveOf([1, 2]), ABOUT);
    expect((await w.find()).work).toBeUndefined();
    tab.kill();
    const one = await w.find();
    expect(one.work).toBeDefined();
    expect((await w.find()).work, "the first tab is at it").toBeUndefined();
    one.work?.release();
    expect((await w.find()).work).toBeDefined();
  });

  it("is the newest first", async () => {
    await leave({ now: () => 1000 }, [1, 2]);
    await leave({ now: () => 3000 }, [3, 4]);
    await leave({ now: () => 2000 }, [5, 6]);
    expect(await w.foundChunks()).toEqual([3, 4]);
  });

  it("is nothing of another user or another VM, and needs no key to say so of another user", async () => {
    await leave();
    await leave({ vm: OTHER_VM, fetchKey: w.fetchKey(ADA, OTHER_VM) }, [4, 5]);
    expect((await w.find("eve")).work).toBeUndefined();
    w.offline = true;
    expect((await w.find("eve")).work).toBeUndefined();
    await expect(w.find()).rejects.toThrow("no network");
    w.offline = false;
    expect(await w.foundChunks()).toEqual([1, 2, 3]);
  });

  it("stays sealed to who has another key, even told where to look", async () => {
    await leave();
    const [row] = await w.store.rows();
    const eve = await JournalKey.from(w.answer("eve", VM), VM);
    expect(eve.tag).not.toBe(row?.vm);
    const sealer = await eve.sealer(row?.id ?? "");
    await expect(sealer.open("manifest", row?.manifest ?? new Uint8Array())).rejects.toBeInstanceOf(Damaged);
    const plain = JSON.stringify([...w.store.stored.values(), ...w.store.frames.values()]);
    for (const secret of [VM, "head", digestOf(3)]) expect(plain).not.toContain(secret);
  });

  it("can be set aside and brought back, for a day", async () => {
    await leave();
    const { work } = await w.find();
    await w.store.setAside(work?.id ?? "", Date.now());
    work?.release();
    expect((await w.find()).work).toBeUndefined();
    const search = { store: w.store, owner: ADA, vm: VM, fetchKey: w.fetchKey() };
    expect(await findAside(search)).toMatchObject([{ id: work?.id }]);
    expect(await findAside({ ...search, owner: "eve", fetchKey: w.fetchKey("eve") })).toEqual([]);
    await w.store.setAside(work?.id ?? "", null);
    expect(await w.foundChunks()).toEqual([1, 2, 3]);
  });

  it("is swept when nobody waits for it any more, but never from under a living tab", async () => {
    const now = Date.now();
    const living = w.openTab({ now: () => now - LEFTOVER_MS - 1 });
    await living.journal.keep(saveOf([1, 2]), ABOUT);
    await leave({ now: () => now - LEFTOVER_MS - 1, fetchKey: w.fetchKey("eve") });
    await leave({ now: () => now - LEFTOVER_MS + 1000 });
    const [, , kept] = await w.store.rows();
    await leave();
    const aside = (await w.store.rows())[3];
    await w.store.setAside(aside?.id ?? "", now - ASIDE_MS - 1);
    // A tab that died in its first write.
    const torn = w.openTab();
    w.store.misfortunes.set(w.store.changes + 1, "fails");
    const write = w.store.remove.bind(w.store);
    w.store.remove = () => Promise.reject(new Error("dead"));
    await torn.journal.keep(saveOf([1, 2, 3, 4, 5]), ABOUT);
    w.store.remove = write;
    torn.kill();
    expect(w.store.stored.size).toBe(5);
    await sweep(w.store, w.browser.tab(), now);
    expect([...w.store.stored.keys()].sort()).toEqual([living.journal.id, kept?.id].sort());
  });
});
