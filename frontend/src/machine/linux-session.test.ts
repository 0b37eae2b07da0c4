import { afterEach, expect, it, vi } from "vitest";
import { Zstd } from "@hpcc-js/wasm-zstd";
import { loadCore } from "../../engine/headless/core.ts";
import { ChunkServer, sparse } from "../testing/chunk-server";
import { makeGuestDisk } from "../testing/linux-guest";
import type { OpenDescriptor } from "./client";
import { BLOCK, STATE_BLOCKS } from "./machine";
import { Session } from "./session";

vi.setConfig({ testTimeout: 30_000 });
const wasm = loadCore(undefined);
const zstd = await Zstd.load();
const MEMORY_MIB = 64;
const MEMORY_BLOCKS = MEMORY_MIB * 256 + STATE_BLOCKS;
const open: Session[] = [];
afterEach(async () => {
  for (const session of open.splice(0)) await session.destroy();
});

/** An image that was published without a warm snapshot. */
async function image(server: ChunkServer): Promise<OpenDescriptor> {
  const disk = makeGuestDisk();
  const blocks = new Map<number, Uint8Array>();
  for (let at = 0; at < disk.length; at += BLOCK) {
    const block = disk.slice(at, at + BLOCK);
    if (block.some((byte) => byte !== 0)) blocks.set(at / BLOCK, block);
  }
  const root = await server.putDevice(disk.length / BLOCK, sparse(blocks));
  const pack = await server.putPack([...server.reach(root)]);
  return {
    snapshot: null,
    machine: { kind: "linux", memory_mib: MEMORY_MIB, terminals: 2 },
    disk: { root, blocks: disk.length / BLOCK, public: true },
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

/** A browser tab with the machine in it. */
function tab(server: ChunkServer, descriptor: OpenDescriptor) {
  let text = "";
  const compiled: string[] = [];
  const session = new Session({
    fetch: server.fetch,
    openCache: async () => undefined,
    compileWasm: async (kind) => {
      compiled.push(kind);
      return wasm;
    },
    locate: ({ device, leaves }) => {
      const { root, blocks } = descriptor[device]!;
      return server.locate(root, blocks, leaves);
    },
    askExtra: async () => undefined,
    emit: (event, ...values) => {
      if (event === "console" && values[1] === 0) text += new TextDecoder().decode(values[0] as Uint8Array);
    },
  });
  open.push(session);
  const sees = async (expected: string): Promise<void> => {
    const end = performance.now() + 15_000;
    while (!text.includes(expected)) {
      if (performance.now() > end) throw new Error(`waited for ${expected}; saw ${JSON.stringify(text)}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    text = text.slice(text.indexOf(expected) + expected.length);
  };
  const ask = async (line: string, answer: string): Promise<void> => {
    session.sendConsole(new TextEncoder().encode(`${line}\n`));
    await sees(answer);
    await sees("> ");
  };
  return { session, sees, ask, compiled };
}

it("powers a linux machine on, saves it and resumes the save in another tab", async () => {
  const server = new ChunkServer();
  const published = await image(server);
  const first = tab(server, published);
  expect(await first.session.start({ descriptor: published, coldBoot: false })).toMatchObject({
    resumed: false,
  });
  expect(first.compiled).toEqual(["linux"]);
  await first.sees("> ");
  await first.ask("remember the sea", "ok");
  await first.ask("store on the disk", "written");
  const save = await first.session.prepareSave();
  expect(save.dirtyBlocks).toBeGreaterThan(0);
  expect(save.changedPages).toBeGreaterThan(0);
  for (const { digest } of save.chunks) {
    const raw = new Uint8Array(zstd.decompress(await first.session.frame(save.id, digest)));
    expect(await server.put(raw)).toBe(digest);
    server.private.add(digest);
  }
  await first.session.committed(save.id, "s1");
  // What has not changed is not sent again.
  const again = await first.session.prepareSave();
  expect(again.changedPages).toBeLessThan(save.changedPages / 2);
  await first.session.discard(again.id);

  const saved: OpenDescriptor = {
    ...published,
    snapshot: { id: "s1" },
    disk: { ...published.disk, root: save.diskRoot, public: false },
    memory: { root: save.memoryRoot, blocks: MEMORY_BLOCKS, public: false },
  };
  const second = tab(server, saved);
  expect(await second.session.start({ descriptor: saved, coldBoot: false })).toMatchObject({ resumed: true });
  await second.ask("recall", "it was the sea");
  await second.ask("show /kept", "on the disk");

  const third = tab(server, saved);
  expect(await third.session.start({ descriptor: saved, coldBoot: true })).toMatchObject({ resumed: false });
  await third.sees("> ");
  await third.ask("show /kept", "on the disk");
  const fresh = await third.session.prepareSave();
  expect(fresh.parentSnapshot).toBe("s1");
  await third.session.discard(fresh.id);
});
