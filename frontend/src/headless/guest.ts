/** One powered-on machine under Node and what one wants from it: wait for text, run commands through the agent. */

import type { Machine } from "../machine/machine";

/** A machine that takes a line for its agent in pieces. */
export type PatientMachine = Machine & { sendAgentText(text: string): void };

/** A step that could not be done; the message says which and why. */
export class StepError extends Error {
  override readonly name = "StepError";
}

const PANIC = /Kernel panic - not syncing.*/;
/** What is kept of the console for patterns and for error messages, characters. */
const KEPT = 64 * 1024;
/**
 * The agent's port is a terminal whose input buffer takes 4 KiB: longer lines are sent in pieces, with time in between
 * for the guest to take them in.
 */
const PIECE = 256;
const PIECE_PAUSE = 20;

export interface GuestOutput {
  console(text: string): void;
  agent(text: string): void;
}

export class Guest {
  private text = "";
  private agentText = "";
  private lastOutput = performance.now();
  private failure: string | undefined;
  private readonly decoder = new TextDecoder();

  constructor(
    readonly machine: PatientMachine,
    output: GuestOutput,
    private readonly deadline: number,
  ) {
    machine.on("console", (bytes, terminal) => {
      if (terminal !== 0) return;
      const text = this.decoder.decode(bytes, { stream: true });
      this.text = (this.text + text).slice(-KEPT);
      this.lastOutput = performance.now();
      output.console(text);
      this.failure ??= PANIC.exec(this.text)?.[0];
    });
    machine.on("agent", (bytes) => {
      const text = new TextDecoder().decode(bytes);
      this.agentText += text;
      output.agent(text);
    });
    machine.on("state", (state, message) => {
      if (state === "error" || state === "stopped-on-disk")
        this.failure ??= `the machine stopped: ${message ?? state}`;
      if (state === "loading") this.failure ??= "the guest restarted";
    });
  }

  /** Waits until the console shows the pattern, and forgets what was shown up to and with it. */
  async waitForConsole(pattern: RegExp, what: string, timeout = Infinity): Promise<void> {
    await this.until(
      () => {
        const match = pattern.exec(this.text);
        if (match) this.text = this.text.slice(match.index + match[0].length);
        return match !== null;
      },
      what,
      timeout,
    );
  }

  /** Resolves when the console has been quiet for so many milliseconds. */
  async waitForQuiet(milliseconds: number): Promise<void> {
    await this.until(() => performance.now() - this.lastOutput >= milliseconds, "the console to be quiet");
  }

  /** Runs a shell command in the guest; rejects when it fails. */
  async run(command: string): Promise<void> {
    const line = `run ${Buffer.from(command, "utf8").toString("base64")}`;
    for (let at = 0; at < line.length; at += PIECE) {
      this.machine.sendAgentText(line.slice(at, at + PIECE));
      if (line.length > PIECE) await pause(PIECE_PAUSE);
    }
    this.machine.sendAgentText("\n");
    let output = "";
    let status: number | undefined;
    await this.until(() => {
      let end: number;
      while (status === undefined && (end = this.agentText.indexOf("\n")) >= 0) {
        const [word, value = ""] = this.agentText.slice(0, end).trim().split(" ");
        this.agentText = this.agentText.slice(end + 1);
        if (word === "out") output += Buffer.from(value, "base64").toString("utf8");
        else if (word === "exit") status = Number(value);
        else if (word === "error") throw new StepError(`the guest's agent refused \`${command}\`: ${value}`);
      }
      return status !== undefined;
    }, `\`${command}\` to end`);
    if (status !== 0)
      throw new StepError(`\`${command}\` ended with status ${status}:\n${output.slice(-2000)}`);
  }

  private async until(condition: () => boolean, what: string, timeout = Infinity): Promise<void> {
    const end = Math.min(this.deadline, performance.now() + timeout);
    while (!condition()) {
      if (this.failure !== undefined) {
        throw new StepError(`${this.failure}\nThe console's last lines:\n${this.lastLines()}`);
      }
      if (performance.now() > end) {
        throw new StepError(`timed out waiting for ${what}.\nThe console's last lines:\n${this.lastLines()}`);
      }
      await pause(20);
    }
  }

  private lastLines(): string {
    return this.text.split("\n").slice(-20).join("\n");
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
