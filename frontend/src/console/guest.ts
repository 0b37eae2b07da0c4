/** What is said to the guest's agent (docs/design/guest.md), and how a guest that boots shows that it is up. */

import type { MachineClient } from "../machine/client";
import type { TerminalSize } from "./model";

export function setClock(machine: MachineClient): void {
  machine.sendAgent(`clock ${(Date.now() / 1000).toFixed(3)}`);
}

/** 32 fresh random bytes: two copies of one snapshot never share random numbers. */
function reseed(machine: MachineClient): void {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  machine.sendAgent(`reseed ${Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("")}`);
}

export function resize(machine: MachineClient, { columns, rows, terminal }: TerminalSize): void {
  machine.sendAgent(`resize ${columns} ${rows}${terminal > 0 ? ` ${terminal}` : ""}`);
}

/** What every guest is told that has just come up: the time, fresh random numbers, the terminals' sizes. */
export function greet(machine: MachineClient, sizes: readonly TerminalSize[]): void {
  setClock(machine);
  reseed(machine);
  for (const size of sizes) resize(machine, size);
}

/** A guest that has nothing else to do answers in a few milliseconds; a save does not wait longer for one that does not. */
const TRIM_PATIENCE = 500;

/**
 * Lets the guest give up memory that its disk has as well, so that who opens the save does not have to fetch it. Resolves when it has,
 * or does not answer in time (an older guest, one without an agent): the save is whole either way.
 */
export function trim(machine: MachineClient, patience = TRIM_PATIENCE): Promise<void> {
  return new Promise((resolve) => {
    const decoder = new TextDecoder();
    let heard = "";
    const done = (): void => {
      clearTimeout(timer);
      stop();
      resolve();
    };
    const timer = setTimeout(done, patience);
    const stop = machine.on("agent", (bytes) => {
      heard = (heard + decoder.decode(bytes, { stream: true })).slice(-4096);
      if (/^(ok trim|error)/m.test(heard)) done();
    });
    machine.sendAgent("trim");
  });
}

/** Whether the last line of a screen looks like a shell waiting for a command. */
export function showsPrompt(screenText: string): boolean {
  return /[#$]\s*$/.test(screenText.slice(screenText.lastIndexOf("\n") + 1));
}

/** Resolves when the screen shows a prompt, or on abort. */
export function promptAppears(screenText: () => string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setInterval(() => showsPrompt(screenText()) && done(), 500);
    const done = (): void => {
      clearInterval(timer);
      resolve();
    };
    signal.addEventListener("abort", done, { once: true });
  });
}

/** Resolves when a booting guest's agent answers, or on abort. Asks once a second: what is sent before the agent listens is lost. */
export function agentAnswers(machine: MachineClient, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const decoder = new TextDecoder();
    let heard = "";
    const timer = setInterval(() => machine.sendAgent("ping"), 1000);
    const stop = machine.on("agent", (bytes) => {
      heard = (heard + decoder.decode(bytes, { stream: true })).slice(-4096);
      if (/^ok /m.test(heard)) done();
    });
    const done = (): void => {
      clearInterval(timer);
      stop();
      resolve();
    };
    signal.addEventListener("abort", done, { once: true });
  });
}
