import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { ChunkServer, sparse } from "../testing/chunk-server";
import { echoBios, echoVgaBios } from "../testing/echo-guest";
import { Random } from "../testing/random";
import type { OpenDescriptor } from "./client";
import { BLOCK, STATE_BLOCKS } from "./machine";
import type { SaveSummary } from "./messages";
import { Session } from "./session";

const WASM = new WebAssembly.Module(
  readFileSync(join(dirname(createRequire(import.meta.url).resolve("v86")), "v86.wasm")),
);
const MEMORY_MIB = 128;
const MEMORY_BLOCKS = MEMORY_MIB * 256 + STATE_BLOCKS;
const DISK_BLOCKS = 1500;

/** One browser tab: a session and what its page hears. */
class Tab {
  readonly session: Session;
  readonly heard: number[] = [];
  readonly states: string[] = [];
  extra: Uint8Array | undefined;
  restored: Uint8Array | undefined;

  constructor(
    readonly server: ChunkServer,
    readonly descriptor: OpenDescriptor,
  ) {
    const roots = { disk: descriptor.disk, memory: descriptor.memory };
    this.session = new Session({
      fetch: server.fetch,
      openCache: async () => undefined,
      compileWasm: async () => WASM,
      locate: ({ device, leaves }) =>
        server.locate(roots[device]?.root ?? "", roots[device]?.blocks ?? MEMORY_BLOCKS, leaves),
      askExtra: async () => this.extra,
      emit: (event, ...values) => {
        if (event === "console") this.heard.push(...(values[0] as Uint8Array));
        if (event === "state") this.states.push(values[0] as string);
        if (event === "extra") this.restored = values[0] as Uint8Array;
      },
    });
  }

  async start(): Promise<void> {
    await this.session.start({ descriptor: this.descriptor, coldBoot: false });
  }

  /** Sends bytes and gives back so many bytes of the answer. */
  async ask(bytes: number[] | string, count: number): Promise<number[]> {
    this.heard.length = 0;
    this.session.sendConsole(typeof bytes === "string" ? Buffer.from(bytes) : Uint8Array.from(bytes));
    await this.until(() => this.heard.length >= count);
    return this.heard.slice(0, count);
  }

  async until(condition: () => boolean): Promise<void> {
    for (let i = 0; !condition(); i++) {
      if (i > 1500)
        throw new Error(`waited in vain; heard ${this.heard.join()} states ${this.states.join()}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Uploads and commits a save as the sync client would; returns the descriptor of the new snapshot. */
  async commit(save: SaveSummary, snapshot: string): Promise<OpenDescriptor> {
    for (const { digest, rawSize } of save.chunks) {
      const raw = new Uint8Array(zstdDecompress(await this.session.frame(save.id, digest)));
      expect(raw.length).toBe(rawSize);
      expect(await this.server.put(raw)).toBe(digest);
      this.server.private.add(digest);
    }
    await this.session.committed(save.id, snapshot);
    return {
      ...this.descriptor,
      snapshot: { id: snapshot },
      disk: {
        root: save.diskRoot,
        blocks: DISK_BLOCKS,
        public: save.diskRoot === this.descriptor.image.disk_root,
      },
      memory: { root: save.memoryRoot, blocks: MEMORY_BLOCKS, public: false },
    };
  }
}

function zstdDecompress(frame: Uint8Array): Uint8Array {
  return zstd.decompress(frame);
}
const { Zstd } = await import("@hpcc-js/wasm-zstd");
const zstd = await Zstd.load();

const open: Tab[] = [];
afterEach(async () => {
  for (const tab of open.splice(0)) await tab.session.destroy();
});
function tabOf(server: ChunkServer, descriptor: OpenDescriptor): Tab {
  const tab = new Tab(server, descriptor);
  open.push(tab);
  return tab;
}

const BASE = new Map(Array.from({ length: 90 }, (_, i) => [i * 11, new Random(i).bytes(BLOCK)]));

/** A published image with this guest that has never run: its VMs power on. */
async function image(server: ChunkServer): Promise<OpenDescriptor> {
  const blob = async (raw: Uint8Array) => ({ size: raw.length, chunks: [await server.put(raw)] });
  const root = await server.putDevice(DISK_BLOCKS, sparse(BASE));
  const pack = await server.putPack([...server.reach(root)]);
  const nothing = await blob(kernel());
  return {
    snapshot: null,
    machine: {
      kind: "pc",
      memory_mib: MEMORY_MIB,
      vga_memory_mib: 2,
      cmdline: "",
      bios: await blob(echoBios()),
      vga_bios: await blob(echoVgaBios()),
      kernel: nothing,
      initrd: nothing,
    },
    disk: { root, blocks: DISK_BLOCKS, public: true },
    memory: null,
    image: {
      disk_root: root,
      memory_root: "",
      warm_pack: pack,
      warm_pack_bytes: 0,
      boot_pack: pack,
      boot_pack_bytes: 0,
      read_trails: [],
    },
    chunk_base_url: "/chunks/",
  };
}

/** The smallest thing that the emulator takes for a Linux kernel; the guest's BIOS never starts it. */
function kernel(): Uint8Array {
  const raw = new Uint8Array(4096);
  const view = new DataView(raw.buffer);
  view.setUint8(0x1f1, 1);
  view.setUint16(0x1fe, 0xaa55, true);
  view.setUint32(0x202, 0x53726448, true);
  view.setUint16(0x206, 0x020c, true);
  view.setUint8(0x211, 1);
  view.setUint32(0x22c, 0x7fffffff, true);
  view.setUint32(0x238, 255, true);
  return raw;
}

describe("a session", { timeout: 30_000 }, () => {
  it("test_it_works: boots, saves while running, and goes on elsewhere from where it was", async () => {
    const server = new ChunkServer();
    const first = tabOf(server, await image(server));
    await first.start();
    expect(await first.ask("abc", 6)).toEqual([97, 1, 98, 2, 99, 3]);
    expect(await first.ask("w\x08Z", 1)).toEqual([90]);
    const saved = await first.commit(await first.session.prepareSave(), "s1");

    // The first goes on; the second has its own future.
    expect(await first.ask("x", 2)).toEqual([120, 4]);
    const second = tabOf(server, saved);
    await second.start();
    expect(await second.ask("y", 2)).toEqual([121, 4]);
    expect(await second.ask("z", 2)).toEqual([122, 5]);
    expect(await second.ask("r\x08", 1)).toEqual([90]);
    expect(await second.ask("r\x58", 1)).toEqual([BASE.get(11)![0]]);
  });

  it("sends a CDN's cookies with private chunks, and with nothing else", async () => {
    for (const cookies of [true, false]) {
      const server = new ChunkServer();
      const first = tabOf(server, await image(server));
      await first.start();
      const saved = await first.commit(await first.session.prepareSave(), "s1");
      server.requests.length = 0;
      server.bundling = "refused";
      await tabOf(server, { ...saved, chunk_cookies: cookies }).start();
      expect(server.requests.some(({ url }) => url.startsWith("/chunks/t/"))).toBe(true);
      expect(server.requests.some(({ url }) => url.startsWith("/chunks/pub/"))).toBe(true);
      for (const { url, credentials } of server.requests) {
        expect(credentials).toBe(cookies && url.startsWith("/chunks/t/") ? "include" : undefined);
      }
    }
  });

  it("uploads little when little has changed, and nothing twice", async () => {
    const server = new ChunkServer();
    const tab = tabOf(server, await image(server));
    await tab.start();
    await tab.ask("a", 2);
    await tab.commit(await tab.session.prepareSave(), "s1");
    await tab.ask("w\x10Q", 1);
    const save = await tab.session.prepareSave();
    expect(save.parentSnapshot).toBe("s1");
    expect(save.dirtyBlocks).toBe(1);
    expect(save.changedPages).toBeLessThan(12);
    const twice = save.chunks.filter(({ digest }) => server.chunks.has(digest));
    expect(twice).toEqual([]);
  });

  it("finds what the tenant saved in an earlier session, and not what a fork reads of another tenant", async () => {
    const server = new ChunkServer();
    const first = tabOf(server, await image(server));
    await first.start();
    const fill = async (tab: Tab, block: number): Promise<void> => {
      for (let sector = 8 * block; sector < 8 * block + 8; sector++) {
        expect(await tab.ask(["w".charCodeAt(0), sector, 90], 1)).toEqual([90]);
      }
    };
    await fill(first, 1);
    const saved = await first.commit(await first.session.prepareSave(), "s1");
    const packsItAgain = async (tenant: string): Promise<boolean> => {
      const later = tabOf(server, { ...saved, vm: { id: "vm", tenant } });
      await later.start();
      expect(await later.ask("r\x08", 1)).toEqual([90]);
      await fill(later, 5);
      const save = await later.session.prepareSave();
      expect(save.dirtyBlocks).toBe(1);
      const chunks = await Promise.all(save.chunks.map(({ digest }) => later.session.frame(save.id, digest)));
      return chunks.some((frame) => Buffer.from(zstdDecompress(frame)).includes(Buffer.alloc(BLOCK, 90)));
    };
    expect(await packsItAgain("home")).toBe(false);
    expect(await packsItAgain("another")).toBe(true);
  });

  it("keeps the changes of a save that was not committed for the next one", async () => {
    const server = new ChunkServer();
    const tab = tabOf(server, await image(server));
    await tab.start();
    await tab.ask("w\x10Q", 1);
    const lost = await tab.session.prepareSave();
    await tab.session.discard(lost.id);
    await expect(tab.session.frame(lost.id, lost.chunks[0]!.digest)).rejects.toThrow(/dropped/);
    await tab.ask("w\x18R", 1);
    const saved = await tab.commit(await tab.session.prepareSave(), "s1");
    const later = tabOf(server, saved);
    await later.start();
    expect(await later.ask("r\x10", 1)).toEqual([81]);
    expect(await later.ask("r\x18", 1)).toEqual([82]);
  });

  it("carries the page's bytes from the save to the resume", async () => {
    const server = new ChunkServer();
    const tab = tabOf(server, await image(server));
    await tab.start();
    tab.extra = new Random(1).bytes(70_000);
    const saved = await tab.commit(await tab.session.prepareSave(true), "s1");
    const later = tabOf(server, saved);
    await later.start();
    expect(later.restored).toEqual(tab.extra);
    const without = await later.commit(await later.session.prepareSave(), "s2");
    const last = tabOf(server, without);
    await last.start();
    expect(last.restored).toBeUndefined();
  });

  it("stops when the disk cannot be read, says which piece, and goes on with that very read", async () => {
    const server = new ChunkServer();
    const descriptor = await image(server);
    // Nothing is read ahead of need: the pack is not there either.
    server.interfere = (digest) => (digest === descriptor.image.boot_pack ? "unreachable" : undefined);
    const tab = tabOf(server, descriptor);
    await tab.start();
    server.interfere = () => new Response("", { status: 404 });
    tab.session.sendConsole(Buffer.from("r\x58"));
    await tab.until(() => tab.states.includes("stopped-on-disk"));
    expect(tab.heard).toEqual([]);
    await expect(tab.session.prepareSave()).rejects.toMatchObject({ code: "disk_error" });
    await tab.session.retryDisk();
    await tab.until(() => tab.states.filter((state) => state === "stopped-on-disk").length === 2);
    server.interfere = () => undefined;
    await tab.session.retryDisk();
    await tab.until(() => tab.heard.length > 0);
    expect(tab.heard).toEqual([BASE.get(11)![0]]);
    expect(tab.states.at(-1)).toBe("running");
  });

  it("stands still while paused, and takes what was typed meanwhile", async () => {
    const server = new ChunkServer();
    const tab = tabOf(server, await image(server));
    await tab.start();
    await tab.session.pause();
    tab.session.sendConsole(Buffer.from("a"));
    const saved = await tab.commit(await tab.session.prepareSave(), "s1");
    expect(tab.heard).toEqual([]);
    await tab.session.run();
    await tab.until(() => tab.heard.length === 2);
    // The unread byte was saved too.
    const later = tabOf(server, saved);
    await later.start();
    await later.until(() => later.heard.length === 2);
    expect(later.heard).toEqual([97, 1]);
  });

  it.each([
    ["another size of memory", { memory_mib: 192, vga_memory_mib: 2 }, "memory_size"],
    ["another screen memory", { memory_mib: MEMORY_MIB, vga_memory_mib: 4 }, "memory_size"],
  ])("refuses a snapshot of %s", async (_, change, code) => {
    const server = new ChunkServer();
    const tab = tabOf(server, await image(server));
    await tab.start();
    const saved = await tab.commit(await tab.session.prepareSave(), "s1");
    const blocks = change.memory_mib * 256 + STATE_BLOCKS;
    const root = await moveState(server, saved.memory!.root, blocks);
    const other = tabOf(server, {
      ...saved,
      machine: { ...saved.machine, ...change },
      memory: { root, blocks, public: false },
    });
    await expect(other.start()).rejects.toMatchObject({ code });
  });

  it("refuses a snapshot of an unknown layout", async () => {
    const server = new ChunkServer();
    const tab = tabOf(server, await image(server));
    await tab.start();
    const saved = await tab.commit(await tab.session.prepareSave(), "s1");
    const root = await moveState(server, saved.memory!.root, MEMORY_BLOCKS, (state) => (state[4] = 99));
    const other = tabOf(server, { ...saved, memory: { ...saved.memory!, root } });
    await expect(other.start()).rejects.toMatchObject({ code: "state_version" });
  });
});

/** The same memory with its device state where a memory of `blocks` blocks has it. */
async function moveState(
  server: ChunkServer,
  root: string,
  blocks: number,
  change: (state: Uint8Array) => void = () => undefined,
): Promise<string> {
  const ram = MEMORY_MIB * 256;
  const copy = new Map<number, Uint8Array>();
  for (let block = ram; block < MEMORY_BLOCKS; block++) {
    const data = (await server.readBlock(root, MEMORY_BLOCKS, block)).slice();
    if (block === ram) change(data);
    copy.set(blocks - STATE_BLOCKS + block - ram, data);
  }
  return server.putDevice(blocks, sparse(copy));
}
