/**
 * One live run of a VM in this tab: the machine, its terminal and its lease brought together. Knows no DOM; the page shows
 * `view` and calls the methods here.
 */

import type { MachineClient, MachineStats } from "../machine/client";
import type { MachineEvents, MachineState } from "../machine/machine";
import { Expected, describe } from "../sync/errors";
import type { Descriptor } from "./api";
import { Background } from "./background";
import { agentAnswers, promptAppears, reseed, resize, setClock } from "./guest";
import { copyVm } from "./copies";
import { Holding } from "./holding";
import type { PublicState, SaveReport, SessionOptions, SessionView } from "./model";
import { Saving } from "./saving";
import { ScreenSharing } from "./screen-sharing";
import type { SyncClient } from "../sync/client";

export class Session {
  private readonly options: SessionOptions;
  private readonly listeners = new Set<(view: SessionView) => void>();
  private readonly saving: Saving;
  private readonly holding: Holding;
  private readonly background: Background;
  private readonly sharing: ScreenSharing;
  private handingOver: string | undefined;
  private machine: MachineClient | undefined;
  private descriptor: Descriptor | undefined;
  private machineState: MachineState = "loading";
  private booting: AbortController | undefined;
  private failure: SessionView["failure"];
  private loading: SessionView["loading"];
  private pausedByPerson = false;
  private pausedByFlood = false;
  private waitingForDisk = false;
  private run = 0;
  private opened = false;
  /** Disk traffic in bytes, for the activity light. */
  onDisk: (read: number, written: number) => void = () => undefined;

  constructor(options: SessionOptions) {
    this.options = options;
    this.saving = new Saving(options, () => this.changed());
    this.holding = new Holding(options, {
      online: () => this.leaseIsOurs(),
      conflict: () => {
        if (this.mustStandStill() && !this.loading) void this.machine?.pause();
      },
      changed: () => this.changed(),
      saving: () => this.saving.busy,
      asked: (by) => void this.handOver(by),
      watched: (fresh) => this.sharing.watched(fresh),
    });
    this.sharing = new ScreenSharing(options.terminal, () => this.holding.sync);
    this.background = new Background({
      journal: options.journal,
      saving: this.saving,
      holding: this.holding,
      machine: () => {
        const usable = !this.loading && !this.failure && !this.booting && this.handingOver === undefined;
        return usable ? this.machine : undefined;
      },
      round: () => this.saveBy((machine, sync) => this.saving.runRound(machine, sync)),
      journalRound: () => this.saving.runJournalRound(this.startedMachine()),
      changed: () => this.changed(),
    });
  }

  get view(): SessionView {
    const lease = this.holding.sync.state;
    return {
      state: this.publicState(),
      machine: this.machineState,
      lease: lease.kind,
      saving: this.saving.view,
      autosave: this.background.autosave.view,
      offlineSince: lease.kind === "connecting" ? lease.since : undefined,
      watching: this.sharing.watching,
      handingOver: this.handingOver,
      conflict: this.holding.conflict,
      failure: this.failure,
      loading: this.loading,
      unsaved: this.saving.unsaved,
      dirtyBlocks: this.saving.dirtyBlocks,
      waitingForDisk: this.waitingForDisk,
      head: this.holding.head ?? null,
    };
  }

  /** Calls `listener` whenever the view changes; returns what ends that. */
  onView(listener: (view: SessionView) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Loads the machine as it was last saved and runs it. Failures end up in `view.failure`. */
  async start(): Promise<void> {
    const run = ++this.run;
    const { api, terminal, phases } = this.options;
    this.failure = undefined;
    this.booting?.abort();
    this.machineState = "loading";
    this.loading = { phase: "descriptor", done: 0, total: 0 };
    this.changed();
    void this.machine?.destroy();
    this.machine = undefined;
    const worker = this.options.startWorker();
    // Its script may fail to load, perhaps before there is a machine to hear of it.
    worker.addEventListener("error", () => {
      if (run !== this.run || !this.loading) return;
      this.run++;
      void this.machine?.destroy();
      this.machine = undefined;
      this.loading = undefined;
      this.failure = {
        message: "The emulator could not be loaded. Check the network and try again.",
        retry: "start",
      };
      this.changed();
    });
    try {
      // The page brought one; a later start asks again, since there may be a newer save.
      const brought = this.opened ? undefined : this.options.descriptor;
      this.opened = true;
      const descriptor = brought ?? (await api.open(this.options.descriptorUrl));
      if (run !== this.run) return;
      phases.mark("descriptor");
      this.descriptor = descriptor;
      this.holding.head = descriptor.snapshot?.id ?? null;
      this.holding.checkHead();
      const locate: Parameters<SessionOptions["startMachine"]>[0]["locate"] = (request) =>
        api.locate(descriptor.locate_url, request);
      const machine = this.options.startMachine({ descriptor, worker, locate });
      this.machine = machine;
      this.listen(machine);
      const started = await machine.start();
      if (run !== this.run) return;
      phases.mark("started");
      this.loading = undefined;
      this.background.autosave.set(descriptor.vm.autosave_seconds);
      this.greet(machine);
      if (started.resumed) {
        // An image's own snapshot brings no screen: Enter makes the shell show its prompt.
        if (started.extra) phases.mark("usable");
        else machine.sendConsole(new Uint8Array([13]));
      } else this.followBoot(machine);
      if (this.mustStandStill()) await machine.pause();
    } catch (error) {
      if (run !== this.run) return;
      worker.terminate();
      this.loading = undefined;
      this.failure = { message: describe(error), retry: "start" };
    }
    this.changed();
    terminal.fit();
  }

  /** Bytes typed by a person or a script. Lost while the machine is being loaded or somebody else has it. */
  input(bytes: Uint8Array): void {
    if (!this.machine || this.loading || this.holding.conflict) return;
    this.saving.touch();
    this.background.active();
    this.machine.sendConsole(bytes);
  }

  key(code: string, down: boolean): void {
    if (down) this.saving.touch();
    this.machine?.sendKey({ code, down });
  }

  mouse(event: { dx: number; dy: number; buttons: number; wheel: number }): void {
    if (event.buttons) this.saving.touch();
    this.machine?.sendMouse(event);
  }

  /** The terminal has a new size. */
  resized(columns: number, rows: number): void {
    if (this.machine && !this.loading) resize(this.machine, columns, rows);
    this.sharing.output();
  }

  /** Sends the VGA screen to `listener` until the returned function is called. */
  watchScreen(listener: MachineEvents["screen"]): () => void {
    const machine = this.machine;
    if (!machine) return () => undefined;
    const stop = machine.on("screen", listener);
    machine.watchScreen(true);
    return () => {
      stop();
      machine.watchScreen(false);
    };
  }

  async pause(): Promise<void> {
    this.pausedByPerson = true;
    await this.machine?.pause();
    this.changed();
  }

  async resume(): Promise<void> {
    this.pausedByPerson = false;
    await this.runOn();
  }

  /** The guest prints faster than the terminal shows: it stands still for a moment, and nothing is lost. */
  async flood(on: boolean): Promise<void> {
    this.pausedByFlood = on;
    if (on) await this.machine?.pause();
    else await this.runOn();
  }

  /** The tab was hidden or the computer asleep: the guest's clock may be behind, the network back. */
  wokeUp(): void {
    if (this.machine && this.machineState === "running") setClock(this.machine);
    this.holding.sync.poke();
  }

  /** "Try again" of a failure. */
  async retry(): Promise<void> {
    if (this.failure?.retry !== "disk") return this.start();
    this.failure = undefined;
    this.changed();
    await this.machine?.retryDisk();
  }

  /** Saves disk and memory as they are now. Rejects with `Expected` or `Cancelled`; a conflict is then in the view. */
  async save(message: string): Promise<SaveReport> {
    const report = await this.saveBy((machine, sync) => this.saving.save({ machine, sync, message }));
    this.background.autosave.saved();
    return report;
  }

  /** How often the machine saves by itself, 0: never. Kept with the VM. */
  async setAutosave(seconds: number): Promise<void> {
    await this.options.api.setAutosave(this.options.vm, seconds);
    if (this.descriptor) this.descriptor.vm.autosave_seconds = seconds;
    this.background.autosave.set(seconds);
  }

  get autosaveSeconds(): number {
    return this.descriptor?.vm.autosave_seconds ?? 0;
  }

  cancelSave(): void {
    this.saving.cancel();
  }

  /**
   * Takes the lease from whoever has it and runs on, unless there is a newer snapshot: then that is the conflict. They are asked
   * first, and save what they have (`now`: they are not).
   */
  async takeOver(now = false): Promise<void> {
    await this.holding.takeOver(now);
  }

  /** Shows what whoever has the machine sees; the machine that was loaded here goes. */
  watch(on: boolean): void {
    if (on) this.unload();
    this.sharing.watch(on);
    this.changed();
  }

  /** Connects again after signing in elsewhere. */
  reconnect(): void {
    this.holding.reconnect();
  }

  /**
   * Makes a new VM from the snapshot that this run started from and saves this run's work in it: nothing is merged and
   * nothing dropped. Resolves with the new VM's id.
   */
  async keepAsCopy(): Promise<string> {
    const machine = this.startedMachine();
    await machine.pause();
    const vm = await copyVm(this.options, this.holding.head ?? null);
    const sync = this.holding.newSync(vm);
    try {
      await sync.whenOnline();
      const expectedHead = sync.state.kind === "online" ? sync.state.head : null;
      const message = `Kept from ${this.descriptor?.vm.name ?? "another machine"}`;
      await this.saving.save({ machine, sync, message, expectedHead });
      this.saving.forget();
    } finally {
      sync.close();
    }
    return vm;
  }

  /** Makes a new VM from the last snapshot, without what this run did. Resolves with its id. */
  makeCopy(): Promise<string> {
    // Work builds on the snapshot that it started from; without any, the newest is what is meant.
    return copyVm(this.options, this.saving.worked ? this.holding.head : undefined);
  }

  /** Gives the lease back and stops everything. */
  close(): void {
    this.run++;
    this.booting?.abort();
    this.background.autosave.close();
    this.sharing.close();
    this.holding.sync.close();
    void this.machine?.destroy();
  }

  async stats(): Promise<{ machine: MachineStats | null; saves: SaveReport[]; socketBytes: number }> {
    const machine = this.machine ? await this.machine.stats() : null;
    return {
      machine,
      saves: this.saving.reports.map((report) => ({ ...report })),
      socketBytes: this.holding.sync.sentBytes,
    };
  }

  /** Somebody wants the machine: it stands still, what is new is saved, and then it is theirs. */
  private async handOver(by: string): Promise<void> {
    if (this.handingOver !== undefined) return;
    this.handingOver = by;
    this.changed();
    try {
      await this.holding.sync.giveUp(by, async () => {
        if (!this.machine || this.loading || !(this.saving.worked || this.saving.worthSaving)) return;
        await this.machine.pause();
        // A save that is under way has left out what the guest did since.
        await this.saving.settled();
        await this.saveBy((machine, sync) => this.saving.save({ machine, sync, message: "", kind: "auto" }));
        this.holding.savedBefore = true;
      });
      // All of it is in the snapshot that went: taking the machine back simply opens what it has become.
      if (this.holding.savedBefore) this.saving.forget();
    } catch {
      // Not saved: the machine runs on here until it is taken.
    }
    this.handingOver = undefined;
    void this.runOn();
  }

  /** A save of any kind into this VM: its snapshot is the head then. */
  private async saveBy(
    save: (machine: MachineClient, sync: SyncClient) => Promise<SaveReport>,
  ): Promise<SaveReport> {
    const { sync } = this.holding;
    try {
      const report = await save(this.startedMachine(), sync);
      if (sync === this.holding.sync) this.holding.head = report.snapshot;
      return report;
    } catch (error) {
      if (error instanceof Expected && error.code === "head_moved" && sync === this.holding.sync)
        this.holding.setConflict({ kind: "head_moved" });
      throw error;
    }
  }

  private unload(): void {
    this.run++;
    this.booting?.abort();
    this.booting = undefined;
    this.loading = undefined;
    this.failure = undefined;
    void this.machine?.destroy();
    this.machine = undefined;
    this.machineState = "paused";
  }

  private startedMachine(): MachineClient {
    if (!this.machine || this.loading) throw new Expected("not_started", "The machine has not started yet.");
    return this.machine;
  }

  private leaseIsOurs(): void {
    this.options.phases.mark("lease");
    if (this.sharing.watching) {
      this.sharing.stop();
      void this.start();
      return;
    }
    if (this.holding.headMoved && !this.saving.worked && !this.loading) {
      // Nothing was done here that could be lost: simply the newer save.
      void this.start();
      return;
    }
    this.holding.checkHead();
    // The disk reads that failed for want of a connection: nobody has to press a button for those.
    if (this.failure?.retry === "disk") void this.retry();
    else void this.runOn();
  }

  private mustStandStill(): boolean {
    return (
      this.holding.mustStandStill ||
      this.handingOver !== undefined ||
      this.pausedByPerson ||
      this.pausedByFlood
    );
  }

  private async runOn(): Promise<void> {
    const machine = this.machine;
    if (machine && this.machineState === "paused" && !this.mustStandStill()) {
      await machine.run();
      setClock(machine);
    }
    this.changed();
  }

  private listen(machine: MachineClient): void {
    const { terminal, phases } = this.options;
    const mine =
      <A extends unknown[]>(listener: (...args: A) => void) =>
      (...args: A): void => {
        if (this.machine === machine) listener(...args);
      };
    machine.on(
      "console",
      mine((bytes) => {
        phases.mark("first_output");
        if (!this.loading && !this.booting) phases.mark("usable");
        this.background.active();
        this.saving.guestMoved(false);
        terminal.write(bytes);
        this.sharing.output(bytes);
      }),
    );
    machine.on(
      "extra",
      mine((bytes) => {
        if (terminal.restore(bytes)) phases.mark("screen_restored");
        this.sharing.output();
      }),
    );
    machine.on(
      "progress",
      mine((progress) => {
        if (!this.loading) return;
        this.loading = progress;
        this.changed();
      }),
    );
    machine.on(
      "disk",
      mine((activity) => {
        this.saving.dirtyBlocks = activity.dirtyBlocks;
        this.waitingForDisk = activity.waiting;
        this.onDisk(activity.read, activity.written);
        this.changed();
      }),
    );
    machine.on(
      "state",
      mine((state, message) => {
        this.machineState = state;
        if (state === "stopped-on-disk")
          this.failure = { message: message ?? "A part of the disk could not be read.", retry: "disk" };
        else if (state === "error")
          this.failure = { message: message ?? "The machine stopped.", retry: "start" };
        else if (this.failure?.retry === "disk") this.failure = undefined;
        this.changed();
      }),
    );
  }

  private greet(machine: MachineClient): void {
    const { columns, rows } = this.options.terminal;
    setClock(machine);
    reseed(machine);
    resize(machine, columns, rows);
  }

  /** A cold boot is over when the agent answers, or (a guest without one) when the screen shows a prompt. */
  private followBoot(machine: MachineClient): void {
    const booting = new AbortController();
    this.booting = booting;
    const { signal } = booting;
    const up = [
      agentAnswers(machine, signal),
      promptAppears(() => this.options.terminal.screenText(), signal),
    ];
    void Promise.race(up).then(() => {
      const over = signal.aborted;
      booting.abort();
      this.booting = undefined;
      if (!over) this.greet(machine);
      this.changed();
    });
  }

  private publicState(): PublicState {
    if (this.failure) return "error";
    if (this.loading || this.machineState === "loading") return "loading";
    if (this.saving.view) return "saving";
    if (this.machineState === "paused" && !(this.pausedByFlood && !this.pausedByPerson)) return "paused";
    return this.booting ? "booting" : "running";
  }

  private changed(): void {
    const view = this.view;
    for (const listener of [...this.listeners]) listener(view);
  }
}
