/** Images of mke2fs, used through system calls, judged by e2fsck and debugfs. */

import { execFileSync, spawnSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ImageDevice } from "../../../headless/image-device.ts";
import { callOnce, type Caller, makeCaller, WAITS } from "../../io/caller.ts";
import { fileCalls } from "../../syscalls/files.ts";
import * as C from "../constants.ts";
import { Context } from "../context.ts";
import { Descriptors } from "../descriptors.ts";
import { Vfs } from "../vfs.ts";
import { DiskFormatError } from "./geometry.ts";
import { type Ext4FileSystem, openExt4 } from "./filesystem.ts";
import type { Device } from "./store.ts";

const ENVIRONMENT = {
  ...process.env,
  PATH: `${process.env["PATH"]}:/usr/sbin:/sbin`,
  MKE2FS_DETERMINISTIC: "1",
};

let folder: string;
let task: Caller;
let fs: Ext4FileSystem;
/** Where arguments of a call, and what it answers, are put. */
let scratch: number;
let answer: number;

/** Every second read of a block has to be waited for. */
class SlowDevice implements Device {
  readonly #device: ImageDevice;
  readonly #here = new Set<number>();
  waits = 0;

  constructor(device: ImageDevice) {
    this.#device = device;
  }

  get blocks(): number {
    return this.#device.blocks;
  }

  readNow(first: number, count: number): Uint8Array | undefined {
    for (let i = 0; i < count; i += 1) if (!this.#here.has(first + i)) return undefined;
    if (this.#here.size > 40) this.#here.clear();
    return this.#device.readNow(first, count);
  }

  async read(first: number, count: number): Promise<Uint8Array> {
    this.waits += 1;
    for (let i = 0; i < count; i += 1) this.#here.add(first + i);
    return this.#device.readNow(first, count);
  }

  write(first: number, data: Uint8Array): void {
    this.#here.add(first);
    this.#device.write(first, data);
  }
}

function makeImage(name: string, mib: number, options: string[], tree?: string): string {
  const path = join(folder, name);
  writeFileSync(path, "");
  const from = tree === undefined ? [] : ["-d", tree];
  execFileSync("mke2fs", ["-q", "-F", ...options, ...from, path, `${mib}M`], { env: ENVIRONMENT });
  return path;
}

async function mount(device: Device): Promise<void> {
  task = makeCaller();
  const vfs = new Vfs(() => task.process.kernel.realtime());
  fs = await openExt4(device, 0x801, vfs.now, { seed: 1 });
  vfs.mount(fs, undefined, "/dev/vda", 0);
  task.process.fs = new Context(vfs.root);
  task.process.files = new Descriptors(vfs);
  scratch = task.memory.place(400_000);
  answer = task.memory.place(65536);
}

async function call(name: string, ...a: (number | string | Uint8Array)[]): Promise<number> {
  let next = scratch;
  const numbers = a.map((argument) => {
    if (typeof argument === "number") return argument;
    const bytes = typeof argument === "string" ? Buffer.from(`${argument}\0`, "latin1") : argument;
    task.memory.bytes.set(bytes, next);
    next += bytes.length;
    return next - bytes.length;
  });
  for (;;) {
    const result = callOnce(fileCalls, task, name, ...numbers);
    if (result !== WAITS) return result;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The image with what was written; e2fsck finds nothing to say. */
async function check(device: ImageDevice, image: string): Promise<string> {
  while ((await call("sync")) !== 0);
  const copy = join(folder, "checked");
  copyFileSync(image, copy);
  device.writeTo(copy);
  const { status, stdout, stderr } = spawnSync("e2fsck", ["-fn", copy], {
    env: ENVIRONMENT,
    encoding: "utf8",
  });
  const complaints = stdout
    .split("\n")
    .filter((line) => !/^Pass \d|: \d+\/\d+ files/.test(line) && line !== "");
  expect({ complaints, status, stderr: stderr.replace(/^e2fsck .*\n/, "") }).toEqual({
    complaints: [],
    status: 0,
    stderr: "",
  });
  return copy;
}

function dump(image: string): string {
  const out = join(folder, "dump");
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out);
  execFileSync("debugfs", ["-R", `rdump / ${out}`, image], { env: ENVIRONMENT, stdio: "ignore" });
  return out;
}

async function readAll(path: string): Promise<Buffer> {
  const fd = await call("open", path, C.O_RDONLY, 0);
  expect(fd).toBeGreaterThanOrEqual(0);
  const parts: Buffer[] = [];
  const at = answer;
  for (;;) {
    const count = await call("read", fd, at, 65536);
    expect(count).toBeGreaterThanOrEqual(0);
    if (count === 0) break;
    parts.push(Buffer.from(task.memory.readable(at, count)));
  }
  await call("close", fd);
  return Buffer.concat(parts);
}

/** Numbers that a seed decides. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ext4-"));
});

afterEach(() => rmSync(folder, { recursive: true }));

const KINDS: Record<string, string[]> = {
  "ext4 as Debian makes it": ["-t", "ext4", "-b", "4096", "-O", "^has_journal"],
  "ext4 with a journal": ["-t", "ext4", "-b", "4096"],
  "ext4 with blocks of 1 KiB": ["-t", "ext4", "-b", "1024"],
  "ext4 without checksums": ["-t", "ext4", "-b", "4096", "-O", "^metadata_csum,^64bit,uninit_bg"],
  "ext4 with small inodes": ["-t", "ext4", "-b", "2048", "-I", "128", "-O", "^metadata_csum"],
  ext3: ["-t", "ext3", "-b", "4096"],
  ext2: ["-t", "ext2", "-b", "1024"],
};

describe.each(Object.entries(KINDS))("%s", (_name, options) => {
  it("reads what mke2fs wrote", async () => {
    const tree = join(folder, "tree");
    mkdirSync(join(tree, "many"), { recursive: true });
    for (let i = 0; i < 300; i += 1)
      writeFileSync(join(tree, "many", `file-with-a-long-name-${i}`), `content ${i}`);
    writeFileSync(join(tree, "large"), Buffer.alloc(700_000, "0123456789abcdef!"));
    symlinkSync("large", join(tree, "short"));
    symlinkSync(`${"x/".repeat(60)}end`, join(tree, "long"));
    const device = new ImageDevice(makeImage("image", 24, options, tree));
    await mount(device);
    expect((await readAll("/large")).equals(readFileSync(join(tree, "large")))).toBe(true);
    expect((await readAll("/short")).length).toBe(700_000);
    for (const i of [0, 7, 299]) {
      expect((await readAll(`/many/file-with-a-long-name-${i}`)).toString()).toBe(`content ${i}`);
    }
    expect(await call("readlink", "/long", answer, 200)).toBe(123);
    device.close();
  });

  it.each([1, 2])("stays whole whatever is done to it (seed %i)", async (seed) => {
    const image = makeImage("image", 24, options);
    const device = new ImageDevice(image);
    await mount(device);
    const random = randomNumbers(seed);
    const model = new Map<string, Buffer>();
    const directories = ["", "/lost+found"].slice(0, 1);
    const open = new Map<string, number>();
    for (let step = 0; step < 600; step += 1) {
      const directory = directories[random(directories.length)]!;
      const files = [...model.keys()];
      const known = files[random(Math.max(1, files.length))];
      const fresh = `${directory}/${"n".repeat(random(40))}${step}`;
      switch (random(12)) {
        case 0:
        case 1:
        case 2: {
          const fd = await call("open", fresh, C.O_CREAT | C.O_RDWR, 0o644);
          const bytes = Buffer.alloc(random(30000), `${step}-`);
          expect(await call("write", fd, bytes, bytes.length)).toBe(bytes.length);
          await call("close", fd);
          model.set(fresh, bytes);
          break;
        }
        case 3: {
          expect(await call("mkdir", fresh, 0o755)).toBe(0);
          directories.push(fresh);
          break;
        }
        case 4:
        case 5: {
          if (known === undefined) break;
          const fd = await call("open", known, C.O_RDWR, 0);
          const bytes = Buffer.alloc(1 + random(9000), `${step}+`);
          const position = random(120_000);
          expect(await call("pwrite64", fd, bytes, bytes.length, position)).toBe(bytes.length);
          await call("close", fd);
          const before = model.get(known)!;
          const after = Buffer.alloc(Math.max(before.length, position + bytes.length));
          before.copy(after);
          bytes.copy(after, position);
          model.set(known, after);
          break;
        }
        case 6: {
          if (known === undefined) break;
          const size = random(50_000);
          expect(await call("truncate", known, size)).toBe(0);
          const after = Buffer.alloc(size);
          model.get(known)!.copy(after);
          model.set(known, after);
          break;
        }
        case 7: {
          if (known === undefined) break;
          if (random(3) === 0) open.set(known + step, await call("open", known, C.O_RDWR, 0));
          expect(await call("unlink", known)).toBe(0);
          model.delete(known);
          break;
        }
        case 8: {
          if (known === undefined) break;
          expect(await call("rename", known, fresh)).toBe(0);
          model.set(fresh, model.get(known)!);
          model.delete(known);
          break;
        }
        case 9: {
          if (directories.length < 3) break;
          const from = directories[1 + random(directories.length - 1)]!;
          if (fresh.startsWith(`${from}/`)) break;
          expect(await call("rename", from, fresh)).toBe(0);
          directories.forEach((each, i) => {
            if (each === from || each.startsWith(`${from}/`))
              directories[i] = fresh + each.slice(from.length);
          });
          for (const name of files) {
            if (!name.startsWith(`${from}/`)) continue;
            model.set(fresh + name.slice(from.length), model.get(name)!);
            model.delete(name);
          }
          break;
        }
        case 10: {
          if (known === undefined) break;
          const value = Buffer.alloc(random(200), "v");
          expect(await call("setxattr", known, `user.name${random(5)}`, value, value.length, 0)).toBe(0);
          expect(await call("chmod", known, 0o600 + random(8))).toBe(0);
          break;
        }
        case 11: {
          if (known === undefined) break;
          const fd = await call("open", known, C.O_RDWR, 0);
          const offset = random(40_000);
          const length = 1 + random(30_000);
          const mode = C.FALLOC_FL_PUNCH_HOLE | C.FALLOC_FL_KEEP_SIZE;
          expect(await call("fallocate", fd, mode, offset, length)).toBe(0);
          await call("close", fd);
          const after = Buffer.from(model.get(known)!);
          after.fill(0, Math.min(offset, after.length), Math.min(offset + length, after.length));
          model.set(known, after);
          break;
        }
      }
    }
    for (const fd of open.values()) await call("close", fd);
    for (const [name, bytes] of model) {
      const found = await readAll(name);
      expect(found.equals(bytes), name).toBe(true);
    }
    const out = dump(await check(device, image));
    for (const [name, bytes] of model) {
      expect(readFileSync(join(out, name)).equals(bytes), name).toBe(true);
    }
    expect(readdirSync(out, { recursive: true }).length).toBe(model.size + directories.length);
    device.close();
  });
});

describe("a large directory", () => {
  it("loses its hash tree without harm", async () => {
    const tree = join(folder, "tree");
    mkdirSync(join(tree, "many"), { recursive: true });
    for (let i = 0; i < 3000; i += 1) writeFileSync(join(tree, "many", `entry-${"long".repeat(5)}-${i}`), "");
    const image = makeImage("image", 32, ["-t", "ext4", "-b", "4096"], tree);
    // It is e2fsck that builds hash trees.
    spawnSync("e2fsck", ["-fyD", image], { env: ENVIRONMENT });
    const before = execFileSync("debugfs", ["-R", "stat /many", image], {
      env: ENVIRONMENT,
      encoding: "utf8",
    });
    expect(before).toMatch(/Flags: 0x81000/);
    const device = new ImageDevice(image);
    await mount(device);
    for (let i = 0; i < 3000; i += 3) {
      expect(await call("unlink", `/many/entry-${"long".repeat(5)}-${i}`)).toBe(0);
    }
    for (let i = 0; i < 1500; i += 1) {
      const fd = await call("open", `/many/new-${i}`, C.O_CREAT | C.O_WRONLY, 0o644);
      expect(await call("close", fd)).toBe(0);
    }
    const out = dump(await check(device, image));
    expect(readdirSync(join(out, "many")).length).toBe(3500);
    device.close();
  });
});

describe("a slow disk", () => {
  it("does nothing by halves", async () => {
    const tree = join(folder, "tree");
    mkdirSync(join(tree, "d"), { recursive: true });
    writeFileSync(join(tree, "d/file"), Buffer.alloc(300_000, "content-"));
    const image = makeImage("image", 64, ["-t", "ext4", "-b", "4096", "-g", "1024"], tree);
    const inner = new ImageDevice(image);
    const device = new SlowDevice(inner);
    await mount(device);
    expect((await readAll("/d/file")).equals(readFileSync(join(tree, "d/file")))).toBe(true);
    for (let i = 0; i < 60; i += 1) {
      expect(await call("mkdir", `/dir${i}`, 0o755)).toBe(0);
      const fd = await call("open", `/dir${i}/f`, C.O_CREAT | C.O_RDWR, 0o644);
      const bytes = Buffer.alloc(20_000, `${i}`);
      expect(await call("pwrite64", fd, bytes, bytes.length, i * 1000)).toBe(bytes.length);
      await call("close", fd);
      if (i % 3 === 2) expect(await call("unlink", `/dir${i - 1}/f`)).toBe(0);
      if (i % 3 === 2) expect(await call("rename", `/dir${i}/f`, `/dir${i - 1}/g`)).toBe(0);
    }
    expect(device.waits).toBeGreaterThan(20);
    await check(inner, image);
    inner.close();
  });
});

describe("an image that cannot be used", () => {
  it("is refused with the reason", async () => {
    const path = join(folder, "zeros");
    writeFileSync(path, Buffer.alloc(1 << 20));
    const device = new ImageDevice(path);
    await expect(openExt4(device, 1, () => ({ seconds: 0, nanoseconds: 0 }))).rejects.toThrow(
      DiskFormatError,
    );
    const journal = makeImage("journal", 24, ["-t", "ext4"]);
    execFileSync("debugfs", ["-w", "-R", "feature needs_recovery", journal], {
      env: ENVIRONMENT,
      stdio: "ignore",
    });
    const dirty = new ImageDevice(journal);
    await expect(openExt4(dirty, 1, () => ({ seconds: 0, nanoseconds: 0 }))).rejects.toThrow(/journal/);
  });
});
