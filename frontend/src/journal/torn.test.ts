import { beforeEach, describe, expect, it, vi } from "vitest";
import { Random } from "../testing/random";
import { saveOf, type Misfortune } from "./hostile-store";
import { ABOUT, World } from "./world";

let w: World;

beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => undefined);
  w = new World();
});

describe("a torn write", () => {
  /** Two saves and what befalls the changes; returns what is found afterwards. */
  async function torn(misfortunes: [number, Misfortune][], dies: boolean): Promise<number[] | undefined> {
    w.reset();
    const tab = w.openTab();
    await tab.journal.keep(saveOf([1, 2, 3, 4, 5, 6, 7]), ABOUT);
    w.store.misfortunes = new Map(misfortunes.map(([after, what]) => [w.store.changes + after, what]));
    const second = tab.journal.keep(saveOf([6, 7, 8, 9, 10, 11, 12]), ABOUT);
    if (dies) {
      // From the misfortune on nothing more happens: the tab is gone.
      const at = w.store.changes + (misfortunes[0]?.[0] ?? 0);
      const change = w.store.write.bind(w.store);
      w.store.write = (write) => (w.store.changes > at ? Promise.reject(new Error("dead")) : change(write));
    }
    await second;
    tab.kill();
    w.store.misfortunes.clear();
    return w.foundChunks();
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
        w.reset();
        const tab = w.openTab();
        // Also the looking into it fails, once.
        w.store.misfortunes = new Map([
          [at, what],
          [at + 1, "fails"],
        ]);
        await tab.journal.keep(saveOf([1, 2, 3, 4, 5]), ABOUT);
        await tab.journal.keep(saveOf([4, 5, 6, 7, 8]), ABOUT);
        w.store.misfortunes.clear();
        await tab.journal.keep(saveOf([4, 5, 6, 9]), ABOUT);
        expect(w.last()?.kind, `${what} at ${at}`).toBe("kept");
        expect(w.store.frames.size).toBe(4);
        tab.kill();
        expect(await w.foundChunks()).toEqual([4, 5, 6, 9]);
      }
    }
  });

  it("is never offered as half a machine, over random lives of a tab", async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = new Random(seed);
      w.reset();
      let tab = w.openTab();
      // What may be found: the last save that was kept for sure, and those tried since.
      let possible: (string | undefined)[] = [undefined];
      for (let step = 0; step < 25; step++) {
        const chance = random.next();
        if (random.next() < 0.35) {
          const what = (["fails", "lies", "full"] as const)[random.below(3)] ?? "fails";
          w.store.misfortunes.set(w.store.changes + random.below(4), what);
        }
        if (chance < 0.6) {
          const chunks = Array.from({ length: 2 + random.below(6) }, () => 1 + random.below(12));
          const unique = [...new Set(chunks)];
          const before = w.statuses.length;
          await tab.journal.keep(saveOf(unique), ABOUT);
          const kept = w.statuses.slice(before).some(({ kind }) => kind === "kept");
          possible = kept ? [String(unique)] : [...possible, String(unique)];
        } else if (chance < 0.75) {
          const before = w.statuses.length;
          await tab.journal.clear();
          possible = w.statuses.length > before ? [undefined] : [...possible, undefined];
        } else if (chance < 0.85) {
          w.store.dead = true;
          await tab.journal.keep(saveOf([20, 21]), ABOUT);
          w.store.dead = false;
        } else {
          tab.kill();
          w.store.misfortunes.clear();
          const found = await w.foundChunks();
          expect(possible, `seed ${seed}, step ${step}`).toContain(found && String(found));
          for (const { id } of await w.store.rows()) await w.store.remove([id]);
          tab = w.openTab();
          possible = [undefined];
        }
      }
    }
  });
});
