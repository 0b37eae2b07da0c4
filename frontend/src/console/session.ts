/**
 * One live run of a VM in this tab: the machine, its terminal and its lease brought together. Knows no DOM; the page shows
 * `view` and calls the methods here.
 */

import type { MachineClient, MachineStats } from "../machine/client";
import type { MachineEvents } from "../machine/machine";
import { Expected } from "../sync/errors";
import { Background } from "./background";
import type { VmInfo } from "./api";
import { copyVm } from "./copies";
import { resize, setClock, trim } from "./guest";
import { Holding } from "./holding";
import { MachineRun } from "./machine-run";
import type { PublicState, SaveReport, SessionOptions, SessionView, TerminalSize } from "./model";
import { Saving } from "./saving";
import { ScreenSharing } from "./screen-sharing";
import type { SyncClient } from "../sync/client";

export class Session {
  private readonly options: SessionOptions;
  private readonly listeners = new Set<(view: SessionView) => void>();
  private readonly run: MachineRun;
  private readonly saving: Saving;
  private readonly holding: Holding;
  private readonly background: Background;
  private readonly sharing: ScreenSharing;
  private handingOver: string | undefined;
  private pausedByPerson = false;
  private pausedByFlood = false;
  /** Disk traffic in bytes, for the activity light. */
  onDisk: (read: number, written: number) => void = () => undefined;

  constructor(options: SessionOptions) {
    this.options = options;
    const changed = (): void => this.changed();
    this.saving = new Saving(options, changed);
    this.holding = new Holding(options, {
      online: () => this.leaseIsOurs(),
      conflict: () => {
        if (this.mustStandStill() && !this.run.loading) void this.run.client?.pause();
      },
      changed,
      saving: () => this.saving.busy,
      asked: (by) => void this.handOver(by),
      watched: (fresh) => this.sharing.watched(fresh),
    });
    this.sharing = new ScreenSharing(options.terminals, () => this.holding.sync);
    this.background = new Background({
      journal: options.journal,
      saving: this.saving,
      holding: this.holding,
      machine: () => (this.handingOver === undefined ? this.run.usable : undefined),
      round: () => this.saveBy((machine, sync) => this.saving.runRound(machine, sync)),
      journalRound: () => this.saving.runJournalRound(this.run.startedMachine()),
      changed,
    });
    this.run = new MachineRun(options, {
      changed,
      opening: ({ snapshot }) => {
        this.holding.head = snapshot?.id ?? null;
        this.holding.checkHead();
      },
      started: ({ vm }) => this.background.autosave.set(vm.autosave_seconds),
      output: (bytes, terminal) => {
        this.background.active();
        this.saving.guestMoved(false);
        options.terminals.write(bytes, terminal);
        this.sharing.output(bytes, terminal);
      },
      screenRestored: () => this.sharing.changed(),
      disk: ({ read, written, dirtyBlocks }) => {
        this.saving.dirtyBlocks = dirtyBlocks;
        this.onDisk(read, written);
      },
      mustStandStill: () => this.mustStandStill(),
    });
  }

  get view(): SessionView {
    const lease = this.holding.sync.state;
    return {
      state: this.publicState(),
      machine: this.run.state,
      lease: lease.kind,
      saving: this.saving.view,
      autosave: this.background.autosave.view,
      offlineSince: lease.kind === "connecting" ? lease.since : undefined,
      watching: this.sharing.watching,
      handingOver: this.handingOver,
      conflict: this.holding.conflict,
      failure: this.run.failure,
      loading: this.run.loading,
      unsaved: this.saving.unsaved,
      dirtyBlocks: this.saving.dirtyBlocks,
      waitingForDisk: this.run.waitingForDisk,
      head: this.holding.head ?? null,
    };
  }

  /** Calls `listener` whenever the view changes; returns what ends that. */
  onView(listener: (view: SessionView) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Loads the machine as it was last saved and runs it. Failures end up in `view.failure`. */
  start(): Promise<void> {
    return this.run.start();
  }

  /** Bytes typed by a person or a script. Lost while the machine is being loaded or somebody else has it. */
  input(bytes: Uint8Array, terminal = 0): void {
    const { client, loading } = this.run;
    if (!client || loading || this.holding.conflict) return;
    this.saving.touch();
    this.background.active();
    client.sendConsole(bytes, terminal);
  }

  key(code: string, down: boolean): void {
    if (down) this.saving.touch();
    this.run.client?.sendKey({ code, down });
  }

  mouse(event: { dx: number; dy: number; buttons: number; wheel: number }): void {
    if (event.buttons) this.saving.touch();
    this.run.client?.sendMouse(event);
  }

  /** A terminal has a new size. */
  resized(size: TerminalSize): void {
    if (this.run.client && !this.run.loading) resize(this.run.client, size);
    if (size.terminal === this.options.terminals.shown) this.sharing.changed();
  }

  /** The person looks at another terminal. */
  shown(terminal: number): void {
    this.run.shown(terminal);
    this.sharing.changed();
  }

  /** Sends the VGA screen to `listener` until the returned function is called. */
  watchScreen(listener: MachineEvents["screen"]): () => void {
    const machine = this.run.client;
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
    await this.run.client?.pause();
    this.changed();
  }

  async resume(): Promise<void> {
    this.pausedByPerson = false;
    await this.run.runOn();
  }

  /** The guest prints faster than the terminal shows: it stands still for a moment, and nothing is lost. */
  async flood(on: boolean): Promise<void> {
    this.pausedByFlood = on;
    if (on) await this.run.client?.pause();
    else await this.run.runOn();
  }

  /** The tab was hidden or the computer asleep: the guest's clock may be behind, the network back. */
  wokeUp(): void {
    if (this.run.client && this.run.state === "running") setClock(this.run.client);
    this.holding.sync.poke();
  }

  /** "Try again" of a failure. */
  retry(): Promise<void> {
    return this.run.retry();
  }

  /** Boots the disk of the last save: for a machine that cannot be resumed. */
  bootFromDisk(): Promise<void> {
    return this.run.start(true);
  }

  /** Switches the machine off and on: its disk stays, its programs end. Throws `Expected` when none runs. */
  async restart(): Promise<void> {
    this.pausedByPerson = false;
    await this.run.restart();
    this.saving.touch();
    this.background.active();
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
    if (this.run.descriptor) this.run.descriptor.vm.autosave_seconds = seconds;
    this.background.autosave.set(seconds);
  }

  get autosaveSeconds(): number {
    return this.run.descriptor?.vm.autosave_seconds ?? 0;
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

  /** Asks again for the lease when there was no room for one more running machine; false: there still is none. */
  async askAgain(): Promise<boolean> {
    return (await this.holding.sync.askAgain()).kind !== "full";
  }

  /** The other machines of this one's tenant that somebody has open. */
  async runningBeside(): Promise<VmInfo[]> {
    const tenant = this.run.descriptor?.vm.tenant;
    const running = tenant ? await this.options.api.runningVms(tenant) : [];
    return running.filter(({ id }) => id !== this.options.vm);
  }

  /** Has another machine saved where it is open, and closes it there: as taking it over, to give it back at once. */
  async closeOther(vm: string): Promise<void> {
    const sync = this.holding.newSync(vm);
    try {
      await sync.takeOver();
    } finally {
      await sync.handBack();
    }
  }

  /** Shows what whoever has the machine sees; the machine that was loaded here goes. */
  watch(on: boolean): void {
    if (on) this.run.unload();
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
    const machine = this.run.startedMachine();
    await machine.pause();
    const vm = await copyVm(this.options, this.holding.head ?? null);
    const sync = this.holding.newSync(vm);
    try {
      await sync.whenOnline();
      const expectedHead = sync.state.kind === "online" ? sync.state.head : null;
      const message = `Kept from ${this.run.descriptor?.vm.name ?? "another machine"}`;
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
    this.background.autosave.close();
    this.sharing.close();
    this.holding.sync.close();
    this.run.close();
  }

  async stats(): Promise<{ machine: MachineStats | null; saves: SaveReport[]; socketBytes: number }> {
    const machine = (await this.run.client?.stats()) ?? null;
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
        if (!this.run.client || this.run.loading || !(this.saving.worked || this.saving.worthSaving)) return;
        // Fetched by who takes over: what the disk has as well need not be in the memory.
        if (this.run.state === "running") await trim(this.run.client);
        await this.run.client.pause();
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
    void this.run.runOn();
  }

  /** A save of any kind into this VM: its snapshot is the head then. */
  private async saveBy(
    save: (machine: MachineClient, sync: SyncClient) => Promise<SaveReport>,
  ): Promise<SaveReport> {
    const { sync } = this.holding;
    try {
      const report = await save(this.run.startedMachine(), sync);
      if (sync === this.holding.sync) this.holding.head = report.snapshot;
      return report;
    } catch (error) {
      if (error instanceof Expected && error.code === "head_moved" && sync === this.holding.sync)
        this.holding.setConflict({ kind: "head_moved" });
      throw error;
    }
  }

  private leaseIsOurs(): void {
    this.options.phases.mark("lease");
    if (this.sharing.watching) {
      this.sharing.stop();
      void this.start();
      return;
    }
    if (this.holding.headMoved && !this.saving.worked && !this.run.loading) {
      // Nothing was done here that could be lost: simply the newer save.
      void this.start();
      return;
    }
    this.holding.checkHead();
    // The disk reads that failed for want of a connection: nobody has to press a button for those.
    if (this.run.failure?.retry === "disk") void this.retry();
    else void this.run.runOn();
  }

  private mustStandStill(): boolean {
    return (
      this.holding.mustStandStill ||
      this.handingOver !== undefined ||
      this.pausedByPerson ||
      this.pausedByFlood
    );
  }

  private publicState(): PublicState {
    if (this.run.failure) return "error";
    if (this.run.loading || this.run.state === "loading") return "loading";
    if (this.saving.view) return "saving";
    if (this.run.state === "paused" && !(this.pausedByFlood && !this.pausedByPerson)) return "paused";
    return this.run.booting ? "booting" : "running";
  }

  private changed(): void {
    const view = this.view;
    for (const listener of [...this.listeners]) listener(view);
  }
}
