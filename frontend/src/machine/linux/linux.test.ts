import { afterEach, describe, expect, it, vi } from "vitest";
import { loadCore } from "../../../engine/headless/core.ts";
import { makeGuestDisk, TestDisk } from "../../testing/linux-guest";
import { BLOCK, STATE_BLOCKS, type MachineState } from "../machine";
import { runsOf } from "../sparse";
import { LinuxMachine } from "./linux";

vi.setConfig({ testTimeout: 30_000 });
const wasm = loadCore(undefined);
const IMAGE = makeGuestDisk();
const config = { kind: "linux", memory_mib: 64, terminals: 2 } as const;
const MEMORY_BLOCKS = config.memory_mib * 256;

/** A machine and what is seen of it. */
class Bench {
  readonly machine: LinuxMachine;
  readonly states: [MachineState, string | undefined][] = [];
  readonly text = ["", ""];
  agent = "";

  constructor(readonly disk = new TestDisk(IMAGE)) {
    this.machine = new LinuxMachine({ config, disk, wasm });
    const decoders = this.text.map(() => new TextDecoder());
    this.machine.on("console", (bytes, terminal) => {
      this.text[terminal] += decoders[terminal]!.decode(bytes, { stream: true });
    });
    this.machine.on("agent", (bytes) => (this.agent += new TextDecoder().decode(bytes)));
    this.machine.on("state", (state, message) => this.states.push([state, message]));
    benches.push(this);
  }

  get state(): MachineState | undefined {
    return this.states.at(-1)?.[0];
  }

  async up(): Promise<this> {
    await this.machine.boot();
    await this.sees("> ");
    return this;
  }

  /** Waits for the text on a terminal, and forgets what came up to it. */
  async sees(expected: string, terminal = 0): Promise<void> {
    await until(
      () => this.text[terminal]!.includes(expected),
      () => `for ${expected}; saw ${JSON.stringify(this.text[terminal]!.slice(-400))}, ${this.states.join()}`,
    );
    const text = this.text[terminal]!;
    this.text[terminal] = text.slice(text.indexOf(expected) + expected.length);
  }

  type(text: string, terminal = 0): void {
    this.machine.sendConsole(new TextEncoder().encode(text), terminal);
  }

  /** Types a line and gives back what was answered before the next prompt. */
  async ask(line: string): Promise<string> {
    this.type(`${line}\n`);
    await this.sees(`${line}\r\n`);
    const from = this.text[0]!;
    await until(
      () => this.text[0]!.includes("> "),
      () => `for an answer to ${line}; saw ${from}`,
    );
    const answer = this.text[0]!.slice(0, this.text[0]!.indexOf("> "));
    await this.sees("> ");
    return answer.replaceAll("\r\n", "\n").trimEnd();
  }

  async tell(line: string, last: RegExp): Promise<string> {
    this.agent = "";
    this.machine.sendAgent(line);
    await until(
      () => last.test(this.agent),
      () => `for the agent to answer ${line}; it said ${this.agent.slice(-200)}`,
    );
    return this.agent;
  }

  async milliseconds(): Promise<number> {
    return Number((await this.ask("time")).split(" ")[1]);
  }
}

const benches: Bench[] = [];
afterEach(async () => {
  for (const { machine } of benches.splice(0)) await machine.destroy();
});

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function until(condition: () => boolean, what: () => string): Promise<void> {
  const end = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited in vain ${what()}`);
    await pause(5);
  }
}

const run = (command: string): string => `run ${btoa(command)}`;
/** Output that the agent's lines carry. */
const outputOf = (lines: string): string =>
  [...lines.matchAll(/^out (.*)$/gm)].map(([, text]) => atob(text!)).join("");

describe("a linux machine", () => {
  it("boots from its disk, and each of its terminals talks", async () => {
    const bench = await new Bench().up();
    expect(bench.state).toBe("running");
    expect(await bench.ask("show /greeting")).toBe("good morning");
    bench.type("second\n");
    await bench.sees("here", 1);
    bench.type("you\n", 1);
    await bench.sees("heard you");
  });

  it("says what is missing when its disk has no init", async () => {
    const blank = new Bench(new TestDisk(new Uint8Array(1 << 20)));
    await expect(blank.machine.boot()).rejects.toMatchObject({ code: "disk_error" });
  });

  it("stands still while it is paused, and its clock with it", async () => {
    const bench = await new Bench().up();
    bench.type("spin\n");
    await pause(50);
    await bench.machine.pause();
    expect(bench.state).toBe("paused");
    const { instructions } = bench.machine;
    await pause(50);
    expect(bench.machine.instructions).toBe(instructions);
    await bench.machine.run();
    await pause(50);
    expect(bench.machine.instructions).toBeGreaterThan(instructions);
    bench.type("\x03");
    await bench.sees("spun");
    await bench.sees("> ");
    const before = await bench.milliseconds();
    const running = performance.now();
    await bench.machine.pause();
    const paused = performance.now();
    await pause(1500);
    const end = performance.now();
    await bench.machine.run();
    const after = await bench.milliseconds();
    const ran = paused - running + performance.now() - end;
    expect(after - before).toBeLessThanOrEqual(ran + 10);
  });

  it("starts again when its init ends, with what was written", async () => {
    const bench = await new Bench().up();
    await bench.tell("resize 100 30 0", /ok/);
    expect(await bench.ask("store for later")).toBe("written");
    bench.type("exit\n");
    await bench.sees("The machine has stopped");
    await until(
      () => bench.states.length >= 3,
      () => "for the restart",
    );
    expect(bench.states.map(([state]) => state)).toEqual(["running", "loading", "running"]);
    await bench.sees("> ");
    expect(await bench.ask("show /kept")).toBe("for later");
    expect(await bench.ask("size")).toBe("100 by 30");
  });

  it("starts again when it is told to, whatever runs", async () => {
    const bench = await new Bench().up();
    expect(await bench.ask("store unsynced")).toBe("written");
    bench.type("flood\n");
    await pause(50);
    await bench.machine.restart();
    expect(bench.states.map(([state]) => state)).toEqual(["running", "loading", "running"]);
    await bench.sees("> ");
    expect(await bench.ask("show /kept")).toBe("unsynced");
    await bench.machine.pause();
    await bench.machine.restart();
    await bench.sees("> ");
    expect(await bench.ask("show /kept")).toBe("unsynced");
  });

  it("holds a program back that writes faster than a page draws", async () => {
    const bench = await new Bench().up();
    const started = performance.now();
    let bytes = 0;
    bench.machine.on("console", (piece) => (bytes += piece.length));
    bench.type("flood\n");
    await pause(500);
    bench.type("\x03");
    await bench.sees("interrupted");
    expect(bytes).toBeGreaterThan(50_000);
    expect(bytes).toBeLessThan(300_000 + (performance.now() - started) * 2048);
  });

  it("stops with a report when the engine fails", async () => {
    const bench = await new Bench().up();
    await bench.ask("store something");
    bench.disk.write = () => {
      throw new Error("no such device");
    };
    bench.type("sync\n");
    await until(
      () => bench.state === "error",
      () => "for the error",
    );
    expect(bench.states.at(-1)![1]).toContain("no such device");
    await expect(bench.machine.capture()).rejects.toMatchObject({ code: "machine_gone" });
  });
});

describe("its disk", () => {
  it("may be slow", async () => {
    const disk = new TestDisk(IMAGE);
    disk.slow = true;
    const bench = await new Bench(disk).up();
    expect(await bench.ask("show /greeting")).toBe("good morning");
  });

  it("stops it when a read fails for good; a retry goes on with that read", async () => {
    const bench = await new Bench().up();
    bench.disk.slow = true;
    bench.disk.failure = new Error("Chunk 7 answers 500.");
    bench.type("show /greeting\n");
    await until(
      () => bench.state === "stopped-on-disk",
      () => "for the stop",
    );
    expect(bench.states.at(-1)![1]).toBe("Chunk 7 answers 500.");
    await expect(bench.machine.capture()).rejects.toMatchObject({ code: "disk_error" });
    await bench.machine.retryDisk();
    expect(bench.state).toBe("stopped-on-disk");
    bench.disk.failure = undefined;
    await bench.machine.retryDisk();
    expect(bench.state).toBe("running");
    await bench.sees("good morning");
  });

  it("may fail before the first program runs", async () => {
    const disk = new TestDisk(IMAGE);
    disk.slow = true;
    disk.failure = new Error("The service cannot be reached.");
    const bench = new Bench(disk);
    const booted = bench.machine.boot();
    await until(
      () => bench.state === "stopped-on-disk",
      () => "for the stop",
    );
    disk.failure = undefined;
    await bench.machine.retryDisk();
    await booted;
    await bench.sees("> ");
    expect(bench.state).toBe("running");
  });
});

describe("its agent", () => {
  it("answers lines", async () => {
    const bench = await new Bench().up();
    expect(await bench.tell("clock 1700000000.5", /\n/)).toBe("ok clock\n");
    expect(await bench.tell(`reseed ${"ab".repeat(32)}`, /\n/)).toBe("ok reseed\n");
    expect(await bench.tell("resize 132 43", /\n/)).toBe("ok resize\n");
    expect(await bench.ask("size")).toBe("132 by 43");
    expect(await bench.tell("resize 0 43", /\n/)).toBe("error resize\n");
    expect(await bench.tell("resize 80 25 2", /\n/)).toBe("error resize\n");
    expect(await bench.tell("dance", /\n/)).toMatch(/^error/);
  });

  it("runs commands, one after the other", async () => {
    const bench = await new Bench().up();
    const answer = await bench.tell(run("this"), /^exit/m);
    expect(outputOf(answer)).toBe("ran this\n");
    expect(answer).toMatch(/exit 7\n$/);
    bench.agent = "";
    bench.machine.sendAgent(run("big"));
    bench.machine.sendAgent("ping");
    await until(
      () => bench.agent.endsWith("ok ping\n"),
      () => "for both answers",
    );
    expect(outputOf(bench.agent).length).toBe(1 << 20);
    expect(bench.agent).toMatch(/exit 0\nok ping\n$/);
    expect(await bench.tell(run("die"), /^exit/m)).toBe("exit 137\n");
  });
});

describe("a capture", () => {
  it("comes to life in another machine, in the middle of a program", async () => {
    const bench = await new Bench().up();
    await bench.ask("remember the sea");
    await bench.ask("store on the disk");
    const started = performance.now();
    const before = await bench.milliseconds();
    bench.type("recall");
    await bench.sees("recall");
    const seen: string[] = [];
    const { memory, matched, disk, thumbnail } = await bench.machine.capture({
      frozen: () => seen.push(bench.state!),
    });
    expect(seen).toEqual(["running"]);
    expect(matched.length).toBe(0);
    expect(thumbnail).toBeNull();
    expect([...memory.numbers]).toEqual([...memory.numbers].sort((a, b) => a - b));
    expect(memory.numbers.at(-1)).toBeLessThan(MEMORY_BLOCKS + STATE_BLOCKS);
    expect(memory.data.length).toBe(memory.numbers.length * BLOCK);
    expect(disk.numbers.length).toBeGreaterThan(0);

    const copy = bench.disk.copy();
    const stopped = performance.now();
    await pause(1000);
    const other = new Bench(copy);
    const resuming = performance.now();
    await other.machine.resume(runsOf(memory));
    other.type("\n");
    await other.sees("it was the sea");
    await other.sees("> ");
    const resumed = await other.milliseconds();
    expect(resumed).toBeGreaterThanOrEqual(before);
    expect(resumed - before).toBeLessThanOrEqual(stopped - started + performance.now() - resuming + 10);
    expect(await other.ask("show /kept")).toBe("on the disk");
    // The first one runs on.
    bench.type("\n");
    await bench.sees("it was the sea");
  });

  it("leaves out what is known, and names it", async () => {
    const bench = await new Bench().up();
    const first = await bench.machine.capture();
    const known = new Map<number, Int32Array>();
    [...first.memory.numbers].forEach((block, i) =>
      known.set(block, new Int32Array(first.memory.data.slice(i * BLOCK, (i + 1) * BLOCK).buffer)),
    );
    const matches = (block: number, words: Int32Array, at: number): boolean =>
      known.get(block)?.every((word, i) => word === words[at + i]) ?? false;
    const second = await bench.machine.capture({ matches });
    const both = [...second.memory.numbers, ...second.matched].sort((a, b) => a - b);
    expect(both).toEqual([...first.memory.numbers]);
    expect(second.matched.length).toBeGreaterThan(second.memory.numbers.length);
    const survey = await bench.machine.survey(() => false, 5);
    expect(survey.numbers.length).toBe(5);
  });

  it("is refused with a reason when it is of another size or kind", async () => {
    const { memory } = await (await new Bench().up()).machine.capture();
    const small = new LinuxMachine({
      config: { ...config, memory_mib: 32 },
      disk: new TestDisk(IMAGE),
      wasm,
    });
    await expect(small.resume(runsOf(memory))).rejects.toMatchObject({ code: "bad_state" });
    await expect(new Bench().machine.resume([])).rejects.toMatchObject({ code: "bad_state" });
    await small.destroy();
  });
});
