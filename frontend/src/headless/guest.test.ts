import { describe, expect, it } from "vitest";
import { Emitter } from "../machine/emitter";
import type { MachineEvents, MachineState } from "../machine/machine";
import { Guest, StepError, type PatientMachine } from "./guest";

/** A machine whose guest answers the agent's lines as told. */
class Scripted extends Emitter<MachineEvents> {
  readonly lines: string[] = [];
  private line = "";

  constructor(private readonly answer: (command: string) => string[]) {
    super();
  }

  sendAgentText(text: string): void {
    this.line += text;
    if (!this.line.endsWith("\n")) return;
    const [, command = ""] = this.line.trim().split(" ");
    this.lines.push(Buffer.from(command, "base64").toString());
    this.line = "";
    for (const piece of this.answer(this.lines.at(-1) ?? "")) this.emit("agent", Buffer.from(piece));
  }

  turn(state: MachineState): void {
    this.emit("state", state);
  }

  say(text: string): void {
    this.emit("console", Buffer.from(text), 0);
  }
}

function guestOf(answer: (command: string) => string[] = () => ["exit 0\n"], timeout = 5_000) {
  const machine = new Scripted(answer);
  const silent = { console: () => undefined, agent: () => undefined };
  const guest = new Guest(machine as unknown as PatientMachine, silent, performance.now() + timeout);
  return { machine, guest };
}

const out = (text: string): string => `out ${Buffer.from(text).toString("base64")}\n`;

describe("Guest", () => {
  it("test_it_works: runs commands one after the other, however their answers are cut", async () => {
    const { machine, guest } = guestOf(() => ["ou", `${out("working\n").slice(2)}ex`, "it 0", "\n"]);
    await guest.run("ls");
    const long = `echo ${"x".repeat(5000)}`;
    await guest.run(long);
    expect(machine.lines).toEqual(["ls", long]);
  });

  it("reports a command that fails with its output", async () => {
    const { guest } = guestOf(() => [out("no such package\n"), "exit 3\n"]);
    const error = await guest.run("configure").catch((e: unknown) => e);
    expect(error).toBeInstanceOf(StepError);
    expect((error as Error).message).toMatch(/`configure` ended with status 3:\nno such package/);
  });

  it("waits for the prompt, and not for one that was there before", async () => {
    const { machine, guest } = guestOf();
    machine.say("root@webvm:~# ");
    await guest.waitForConsole(/root@webvm.*# /, "the prompt");
    await expect(guest.waitForConsole(/root@webvm.*# /, "the next prompt", 50)).rejects.toThrow(
      /timed out waiting for the next prompt/,
    );
  });

  it("ends at once with the last lines when the kernel panics", async () => {
    const { machine, guest } = guestOf();
    const waiting = guest.waitForConsole(/# $/, "the prompt").catch((e: unknown) => e);
    machine.say("VFS: cannot open root device\nKernel panic - not syncing: VFS\n");
    expect((await waiting) as Error).toMatchObject({
      message: expect.stringMatching(/^Kernel panic - not syncing: VFS[^]*cannot open root device/) as string,
    });
  });

  it("ends when the machine stops or restarts", async () => {
    for (const state of ["error", "loading"] as const) {
      const { machine, guest } = guestOf(() => []);
      const running = guest.run("reboot");
      machine.turn(state);
      await expect(running).rejects.toBeInstanceOf(StepError);
    }
  });

  it("keeps to the deadline of the whole run", async () => {
    const { guest } = guestOf(() => [], 60);
    await expect(guest.run("sleep infinity")).rejects.toThrow(/timed out waiting for `sleep infinity`/);
  });
});
