/** Images of mke2fs, used through system calls, judged by e2fsck and debugfs. */

import { execFileSync, spawnSync } from "node:child_process";
import {
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
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ImageDevice } from "../../../headless/image-device.ts";
import { E } from "../../errno.ts";
import * as C from "../constants.ts";
import { openExt4 } from "./filesystem.ts";
import { DiskFormatError } from "./geometry.ts";
import {
  answer,
  call,
  check,
  dump,
  ENVIRONMENT,
  makeImage,
  mount,
  readAll,
  SlowDevice,
  trial,
  tryAnything,
} from "./trial.ts";

// e2fsck and debugfs are other programs: on a busy machine they take their time.
vi.setConfig({ testTimeout: 120_000 });

beforeEach(() => {
  trial.folder = mkdtempSync(join(tmpdir(), "ext4-"));
});

afterEach(() => rmSync(trial.folder, { recursive: true }));

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
    const tree = join(trial.folder, "tree");
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
    await tryAnything(device, image, seed);
    device.close();
  });
});

describe("a large directory", () => {
  it("loses its hash tree without harm", async () => {
    const tree = join(trial.folder, "tree");
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
    const tree = join(trial.folder, "tree");
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

describe("a disk that is slow, full, or mapped", () => {
  it("does whatever is asked, later", async () => {
    const image = makeImage("image", 24, KINDS["ext4 as Debian makes it"]!);
    const inner = new ImageDevice(image);
    const device = new SlowDevice(inner);
    await mount(device, { mostKept: 8 });
    await tryAnything(inner, image, 3);
    expect(device.waits).toBeGreaterThan(100);
    inner.close();
  });

  it("says that it is full, and has everything back when files go", async () => {
    const image = makeImage("image", 4, ["-t", "ext4", "-b", "4096", "-N", "64", "-O", "^has_journal"]);
    const device = new ImageDevice(image);
    await mount(device);
    const before = trial.fs.statfs();
    const bytes = Buffer.alloc(200_000, "full");
    let files = 0;
    let result = 0;
    while (result >= 0) {
      const fd = await call("open", `/file${files}`, C.O_CREAT | C.O_WRONLY, 0o644);
      expect(fd).toBeGreaterThanOrEqual(0);
      result = await call("write", fd, bytes, bytes.length);
      await call("close", fd);
      files += 1;
    }
    expect(result).toBe(-E.NOSPC);
    for (let names = 0; result !== -E.NOSPC || names === 0; names += 1) {
      result = await call("mkdir", `/dir${names}`, 0o755);
      if (result < 0) break;
    }
    expect(result).toBe(-E.NOSPC);
    await check(device, image);
    for (let i = 0; i < files; i += 1) expect(await call("unlink", `/file${i}`)).toBe(0);
    for (let i = 0; (await call("rmdir", `/dir${i}`)) === 0; i += 1);
    await check(device, image);
    const { free, freeFiles } = trial.fs.statfs();
    expect({ free, freeFiles }).toEqual({ free: before.free, freeFiles: before.freeFiles });
    device.close();
  });

  it("keeps what a shared mapping wrote", async () => {
    const image = makeImage("image", 8, ["-t", "ext4", "-b", "1024"]);
    const device = new ImageDevice(image);
    await mount(device);
    const fd = await call("open", "/mapped", C.O_CREAT | C.O_RDWR, 0o644);
    expect(await call("ftruncate", fd, 10_000)).toBe(0);
    const { inode } = trial.task.process.files.get(fd);
    inode.hold();
    inode.page(1).set(Buffer.from("through the mapping"), 2000);
    inode.pageDirtied(1);
    expect((await readAll("/mapped")).toString("latin1", 6096, 6115)).toBe("through the mapping");
    await call("close", fd);
    inode.drop();
    const out = dump(await check(device, image));
    const written = readFileSync(join(out, "mapped"));
    expect(written.length).toBe(10_000);
    expect(written.toString("latin1", 6096, 6115)).toBe("through the mapping");
    device.close();
  });

  it("leaves an open file without a name to the orphans", async () => {
    const image = makeImage("image", 8, ["-t", "ext4"]);
    const device = new ImageDevice(image);
    await mount(device);
    const fd = await call("open", "/gone", C.O_CREAT | C.O_RDWR, 0o644);
    expect(await call("write", fd, "still here", 10)).toBe(10);
    expect(await call("unlink", "/gone")).toBe(0);
    const free = trial.fs.statfs().freeFiles;
    // Another look at the same disk, as after an end without warning.
    const { now } = trial.fs;
    expect((await openExt4(device, 2, now, { keepOrphans: true })).statfs().freeFiles).toBe(free);
    expect((await openExt4(device, 2, now)).statfs().freeFiles).toBe(free + 1);
    device.close();
  });
});

describe("an image that cannot be used", () => {
  it("is refused with the reason", async () => {
    const path = join(trial.folder, "zeros");
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
