/** For tests of ext4: images of mke2fs, system calls on them, and what e2fsck and debugfs say. */

import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { ImageDevice } from "../../../headless/image-device.ts";
import { callOnce, type Caller, makeCaller, WAITS } from "../../io/caller.ts";
import { fileCalls } from "../../syscalls/files.ts";
import * as C from "../constants.ts";
import { Context } from "../context.ts";
import { Descriptors } from "../descriptors.ts";
import { Vfs } from "../vfs.ts";
import { type Ext4FileSystem, openExt4 } from "./filesystem.ts";
import type { Device } from "./store.ts";

export const ENVIRONMENT = {
  ...process.env,
  PATH: `${process.env["PATH"]}:/usr/sbin:/sbin`,
  MKE2FS_DETERMINISTIC: "1",
};

/** What a test works with. */
export const trial = {} as { folder: string; task: Caller; fs: Ext4FileSystem };
/** Where arguments of a call, and what it answers, are put. */
let scratch: number;
export let answer: number;

/** Every second read of a block has to be waited for. */
export class SlowDevice implements Device {
  private readonly device: ImageDevice;
  private readonly here = new Set<number>();
  waits = 0;

  constructor(device: ImageDevice) {
    this.device = device;
  }

  get blocks(): number {
    return this.device.blocks;
  }

  readNow(first: number, count: number): Uint8Array | undefined {
    for (let i = 0; i < count; i += 1) if (!this.here.has(first + i)) return undefined;
    if (this.here.size > 40) this.here.clear();
    return this.device.readNow(first, count);
  }

  async read(first: number, count: number): Promise<Uint8Array> {
    this.waits += 1;
    for (let i = 0; i < count; i += 1) this.here.add(first + i);
    return this.device.readNow(first, count);
  }

  write(first: number, data: Uint8Array): void {
    this.here.add(first);
    this.device.write(first, data);
  }
}

export function makeImage(name: string, mib: number, options: string[], tree?: string): string {
  const path = join(trial.folder, name);
  writeFileSync(path, "");
  const from = tree === undefined ? [] : ["-d", tree];
  execFileSync("mke2fs", ["-q", "-F", ...options, ...from, path, `${mib}M`], { env: ENVIRONMENT });
  return path;
}

export async function mount(device: Device, options: { mostKept?: number } = {}): Promise<void> {
  trial.task = makeCaller();
  const vfs = new Vfs(() => trial.task.process.kernel.realtime());
  trial.fs = await openExt4(device, 0x801, vfs.now, { seed: 1, ...options });
  vfs.mount(trial.fs, undefined, "/dev/vda", 0);
  trial.task.process.fs = new Context(vfs.root);
  trial.task.process.files = new Descriptors(vfs);
  scratch = trial.task.memory.place(400_000);
  answer = trial.task.memory.place(65536);
}

export async function call(name: string, ...a: (number | string | Uint8Array)[]): Promise<number> {
  let next = scratch;
  const numbers = a.map((argument) => {
    if (typeof argument === "number") return argument;
    const bytes = typeof argument === "string" ? Buffer.from(`${argument}\0`, "latin1") : argument;
    trial.task.memory.bytes.set(bytes, next);
    next += bytes.length;
    return next - bytes.length;
  });
  for (;;) {
    const result = callOnce(fileCalls, trial.task, name, ...numbers);
    if (result !== WAITS) return result;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The image with what was written; e2fsck finds nothing to say. */
export async function check(device: ImageDevice, image: string): Promise<string> {
  while ((await call("sync")) !== 0);
  const copy = join(trial.folder, "checked");
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

export function dump(image: string): string {
  const out = join(trial.folder, "dump");
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out);
  execFileSync("debugfs", ["-R", `rdump / ${out}`, image], { env: ENVIRONMENT, stdio: "ignore" });
  return out;
}

export async function readAll(path: string): Promise<Buffer> {
  const fd = await call("open", path, C.O_RDONLY, 0);
  expect(fd).toBeGreaterThanOrEqual(0);
  const parts: Buffer[] = [];
  const at = answer;
  for (;;) {
    const count = await call("read", fd, at, 65536);
    expect(count).toBeGreaterThanOrEqual(0);
    if (count === 0) break;
    parts.push(Buffer.from(trial.task.memory.readable(at, count)));
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

/** Random operations beside a model of what they should do; in the end everything is as the model has it. */
export async function tryAnything(device: ImageDevice, image: string, seed: number): Promise<void> {
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
          if (each === from || each.startsWith(`${from}/`)) directories[i] = fresh + each.slice(from.length);
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
}
