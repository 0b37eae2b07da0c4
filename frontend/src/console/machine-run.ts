/** The machine of a session: it is opened, started and listened to here. Who has it, and what is saved of it, are others' matter. */

import type { MachineClient } from "../machine/client";
import type { MachineEvents, MachineState } from "../machine/machine";
import { Expected, describe } from "../sync/errors";
import type { Descriptor } from "./api";
import { agentAnswers, greet, promptAppears, setClock } from "./guest";
import { locateAhead } from "./locating";
import type { Failure, SessionOptions, SessionView } from "./model";

const ENTER = 13;
/** Ctrl+L: shells and full-screen programs draw themselves anew. */
const REDRAW = 12;

/** Ends a program's own screen, mouse reports and the like, keeps what is to be read: DECSTR and what xterm's users add to it. */
const CALM = new TextEncoder().encode("\x1b[?1047l\x1b[!p\x1b[?1000;1002;1003;1006;2004l\r\n");

export interface MachineRunEvents {
  changed(): void;
  /** What is about to be loaded. */
  opening(descriptor: Descriptor): void;
  /** The guest runs, or boots. */
  started(descriptor: Descriptor): void;
  output(bytes: Uint8Array, terminal: number): void;
  /** The terminals show the screens that were saved with the machine. */
  screenRestored(): void;
  disk(activity: Parameters<MachineEvents["disk"]>[0]): void;
  /** Whether the guest must not run at the moment. */
  mustStandStill(): boolean;
}

export class MachineRun {
  state: MachineState = "loading";
  failure: Failure | undefined;
  loading: SessionView["loading"];
  waitingForDisk = false;
  descriptor: Descriptor | undefined;
  private machine: MachineClient | undefined;
  private boot: AbortController | undefined;
  /** Counts the starts: what belongs to an earlier one is over. */
  private current = 0;
  private opened = false;
  /** Terminals whose screen nobody has: what was printed on them was not saved, or nothing was. */
  private readonly blank = new Set<number>();

  constructor(
    private readonly options: SessionOptions,
    private readonly events: MachineRunEvents,
  ) {}

  /** As soon as there is one: it may be loading. */
  get client(): MachineClient | undefined {
    return this.machine;
  }

  get booting(): boolean {
    return this.boot !== undefined;
  }

  /** The machine, when it is neither loading, booting nor failed. */
  get usable(): MachineClient | undefined {
    return this.loading || this.failure || this.boot ? undefined : this.machine;
  }

  /** Throws `Expected` when there is none. */
  startedMachine(): MachineClient {
    if (!this.machine || this.loading) throw new Expected("not_started", "The machine has not started yet.");
    return this.machine;
  }

  /** Loads the machine as it was last saved and runs it, or boots its disk. Failures end up in `failure`. */
  async start(coldBoot = false): Promise<void> {
    const { phases, terminals } = this.options;
    const run = ++this.current;
    this.failure = undefined;
    this.boot?.abort();
    this.state = "loading";
    this.loading = { phase: "descriptor", done: 0, total: 0 };
    this.events.changed();
    void this.machine?.destroy();
    this.machine = undefined;
    const worker = this.startWorker(run);
    try {
      const descriptor = await this.open();
      if (run !== this.current) return worker.terminate();
      phases.mark("descriptor");
      this.descriptor = descriptor;
      this.blank.clear();
      for (let n = 1; n < consolesOf(descriptor.machine); n++) this.blank.add(n);
      terminals.prepare(descriptor.machine);
      this.events.opening(descriptor);
      const machine = this.options.startMachine({
        descriptor,
        worker,
        locate: locateAhead(descriptor, (request) => this.options.api.locate(descriptor.locate_url, request)),
        coldBoot,
      });
      this.machine = machine;
      this.listen(machine);
      const started = await machine.start();
      if (run !== this.current) return;
      phases.mark("started");
      this.loading = undefined;
      this.events.started(descriptor);
      this.greet(machine);
      if (started.resumed) {
        // An image's own snapshot brings no screen: Enter makes the shell show its prompt.
        if (started.extra) phases.mark("usable");
        else machine.sendConsole(new Uint8Array([ENTER]));
        this.shown(terminals.shown);
      } else {
        this.blank.clear();
        this.followBoot(machine);
      }
      if (this.events.mustStandStill()) await machine.pause();
    } catch (error) {
      if (run !== this.current) return;
      worker.terminate();
      this.loading = undefined;
      this.failure = { message: describe(error), retry: isNotResumable(error) ? "boot" : "start" };
    }
    this.events.changed();
    terminals.fit();
  }

  /** As switching it off and on. Throws `Expected` when there is no machine that could be. */
  async restart(): Promise<void> {
    const machine = this.usable;
    if (!machine) throw new Expected("not_started", "The machine has not started yet.");
    // It may stand still; what its programs have made of the screens is over.
    for (let n = 0; n < machine.terminals; n++) this.events.output(CALM, n);
    this.events.output(new TextEncoder().encode("The machine is switched off and on again.\r\n"), 0);
    this.blank.clear();
    this.followBoot(machine);
    this.events.changed();
    await machine.restart();
  }

  /** The person looks at this terminal: what runs there is asked to draw itself if nobody knows how it looks. */
  shown(terminal: number): void {
    if (!this.machine || this.loading || !this.blank.delete(terminal)) return;
    this.machine.sendConsole(new Uint8Array([REDRAW]), terminal);
  }

  /** "Try again" of a failure. */
  async retry(): Promise<void> {
    if (this.failure?.retry !== "disk") return this.start();
    this.failure = undefined;
    this.events.changed();
    await this.machine?.retryDisk();
  }

  /** Lets a paused guest run on, unless something speaks against it. */
  async runOn(): Promise<void> {
    const machine = this.machine;
    if (machine && this.state === "paused" && !this.events.mustStandStill()) {
      await machine.run();
      setClock(machine);
    }
    this.events.changed();
  }

  /** The machine goes, saved or not. */
  unload(): void {
    this.current++;
    this.boot?.abort();
    this.boot = undefined;
    this.loading = undefined;
    this.failure = undefined;
    void this.machine?.destroy();
    this.machine = undefined;
    this.state = "paused";
  }

  close(): void {
    this.current++;
    this.boot?.abort();
    void this.machine?.destroy();
  }

  private startWorker(run: number): Worker {
    const worker = this.options.startWorker();
    // Its script may fail to load, perhaps before there is a machine to hear of it.
    worker.addEventListener("error", () => {
      if (run !== this.current || !this.loading) return;
      this.current++;
      void this.machine?.destroy();
      this.machine = undefined;
      this.loading = undefined;
      this.failure = {
        message: "The emulator could not be loaded. Check the network and try again.",
        retry: "start",
      };
      this.events.changed();
    });
    return worker;
  }

  /** The page brought a descriptor; a later start asks again, since there may be a newer save. */
  private async open(): Promise<Descriptor> {
    const brought = this.opened ? undefined : this.options.descriptor;
    this.opened = true;
    return brought ?? (await this.options.api.open(this.options.descriptorUrl));
  }

  private listen(machine: MachineClient): void {
    const { terminals, phases } = this.options;
    const mine =
      <A extends unknown[]>(listener: (...args: A) => void) =>
      (...args: A): void => {
        if (this.machine === machine) listener(...args);
      };
    machine.on(
      "console",
      mine((bytes, terminal) => {
        phases.mark("first_output");
        if (!this.loading && !this.boot) phases.mark("usable");
        this.events.output(bytes, terminal);
      }),
    );
    machine.on(
      "extra",
      mine((bytes) => {
        const restored = terminals.restore(bytes);
        for (const terminal of restored) this.blank.delete(terminal);
        if (restored.length > 0) phases.mark("screen_restored");
        this.events.screenRestored();
      }),
    );
    machine.on(
      "progress",
      mine((progress) => {
        if (!this.loading) return;
        this.loading = progress;
        this.events.changed();
      }),
    );
    machine.on(
      "disk",
      mine((activity) => {
        this.waitingForDisk = activity.waiting;
        this.events.disk(activity);
        this.events.changed();
      }),
    );
    machine.on(
      "state",
      mine((state, message) => this.stateChanged(state, message)),
    );
  }

  private stateChanged(state: MachineState, message: string | undefined): void {
    this.state = state;
    if (state === "stopped-on-disk")
      this.failure = { message: message ?? "A part of the disk could not be read.", retry: "disk" };
    else if (state === "error") this.failure = { message: message ?? "The machine stopped.", retry: "start" };
    else if (this.failure?.retry === "disk") this.failure = undefined;
    this.events.changed();
  }

  private greet(machine: MachineClient): void {
    greet(machine, this.options.terminals.sizes);
  }

  /** A cold boot is over when the agent answers, or (a guest without one) when the screen shows a prompt. */
  private followBoot(machine: MachineClient): void {
    const boot = new AbortController();
    this.boot = boot;
    const { signal } = boot;
    const up = [
      agentAnswers(machine, signal),
      promptAppears(() => this.options.terminals.screenText(), signal),
    ];
    void Promise.race(up).then(() => {
      const over = signal.aborted;
      boot.abort();
      this.boot = undefined;
      if (!over) this.greet(machine);
      this.events.changed();
    });
  }
}

/** The memory that was saved is not for this version, or damaged: trying again would not help. */
function isNotResumable(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "state_version" || code === "bad_state" || code === "memory_size";
}

/** How many consoles a machine has. */
export function consolesOf(machine: Descriptor["machine"]): number {
  return machine.kind === "linux" ? machine.terminals : 1;
}
