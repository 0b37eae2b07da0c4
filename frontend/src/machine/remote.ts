/** The page's proxy of the machine in its worker. */

import type {
  ClientEvents,
  LocateAnswer,
  MachineClient,
  MachineStats,
  PreparedRound,
  PreparedSave,
  SaveOptions,
  Started,
  StartOptions,
} from "./client";
import { Emitter } from "./emitter";
import { MachineError, MOST_EXTRA, type MachineKind } from "./machine";
import {
  errorFrom,
  plainError,
  type Calls,
  type Notices,
  type SaveSummary,
  type ToPage,
  type ToWorker,
} from "./messages";

interface Waiting {
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
}

export class RemoteMachine extends Emitter<ClientEvents> implements MachineClient {
  readonly kind: MachineKind;
  readonly terminals: number;
  private readonly waiting = new Map<number, Waiting>();
  private lastId = 0;
  private extra: SaveOptions["extra"];
  private gone: Error | undefined;

  constructor(
    private readonly worker: Worker,
    private readonly options: StartOptions,
  ) {
    super();
    const { machine } = options.descriptor;
    this.kind = machine.kind;
    this.terminals = machine.kind === "linux" ? machine.terminals : 1;
    worker.onmessage = (event: MessageEvent<ToPage>) => this.receive(event.data);
    worker.onerror = (event) => this.fail(event.message || "the worker could not be loaded");
    worker.onmessageerror = () => this.fail("a message could not be read");
  }

  start(): Promise<Started> {
    return this.call("start", {
      descriptor: this.options.descriptor,
      coldBoot: this.options.coldBoot ?? false,
    });
  }

  pause(): Promise<void> {
    return this.call("pause");
  }

  run(): Promise<void> {
    return this.call("run");
  }

  restart(): Promise<void> {
    return this.call("restart");
  }

  retryDisk(): Promise<void> {
    return this.call("retryDisk");
  }

  stats(): Promise<MachineStats> {
    return this.call("stats");
  }

  async prepareSave({ extra }: SaveOptions = {}): Promise<PreparedSave> {
    // One save at a time: the worker refuses a second one before it asks for anything.
    if (!this.extra) this.extra = extra;
    const { id, ...summary }: SaveSummary = await this.call("prepareSave", extra !== undefined).finally(
      () => {
        if (this.extra === extra) this.extra = undefined;
      },
    );
    return {
      ...summary,
      frame: (digest) => this.call("frame", id, digest),
      committed: (snapshot) => this.call("committed", id, snapshot),
      discard: (stored = []) => this.call("discard", id, stored),
    };
  }

  async prepareRound(): Promise<PreparedRound | undefined> {
    const round = await this.call("prepareRound");
    return (
      round && {
        chunks: round.chunks,
        frame: (digest) => this.call("roundFrame", digest),
        discard: (stored = []) => this.call("discardRound", round.id, stored),
      }
    );
  }

  sendConsole(bytes: Uint8Array, terminal = 0): void {
    this.notice("sendConsole", bytes, terminal);
  }

  sendAgent(line: string): void {
    this.notice("sendAgent", line);
  }

  sendKey(event: { code: string; down: boolean }): void {
    this.notice("sendKey", event);
  }

  sendMouse(event: { dx: number; dy: number; buttons: number; wheel: number }): void {
    this.notice("sendMouse", event);
  }

  watchScreen(on: boolean): void {
    this.notice("watchScreen", on);
  }

  async destroy(): Promise<void> {
    if (this.gone) return;
    // The worker ends with all that is in it; there is nothing to wait for.
    this.worker.terminate();
    this.end(new MachineError("machine_gone", "The machine is switched off."));
  }

  private call<K extends keyof Calls>(name: K, ...args: Parameters<Calls[K]>): Promise<ReturnType<Calls[K]>> {
    if (this.gone) return Promise.reject(this.gone);
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as Waiting["resolve"], reject });
      this.post({ type: "call", id, name, args });
    });
  }

  private notice<K extends keyof Notices>(name: K, ...args: Parameters<Notices[K]>): void {
    if (!this.gone) this.post({ type: "notice", name, args });
  }

  private post(message: ToWorker): void {
    this.worker.postMessage(message);
  }

  private receive(message: ToPage): void {
    switch (message.type) {
      case "event":
        this.emit(message.name as keyof ClientEvents, ...(message.values as never));
        return;
      case "locate":
        void this.locate(message.id, message.request);
        return;
      case "extra":
        void this.answerExtra();
        return;
      case "answer": {
        const waiting = this.waiting.get(message.id);
        this.waiting.delete(message.id);
        if ("error" in message) waiting?.reject(errorFrom(message.error));
        else waiting?.resolve(message.result);
      }
    }
  }

  private async locate(id: number, request: Parameters<StartOptions["locate"]>[0]): Promise<void> {
    try {
      const answer: LocateAnswer = await this.options.locate(request);
      this.post({ type: "located", id, answer });
    } catch (error) {
      this.post({ type: "located", id, error: plainError(error) });
    }
  }

  private async answerExtra(): Promise<void> {
    const bytes = await this.extra?.().catch((error: unknown) => void console.warn(error));
    this.post({ type: "extra", bytes: bytes && bytes.length <= MOST_EXTRA ? bytes : undefined });
  }

  private fail(reason: string): void {
    if (this.gone) return;
    const error = new MachineError(
      "machine_gone",
      `The machine has stopped working (${reason}). Reload the page.`,
    );
    this.emit("state", "error", error.message);
    this.end(error);
  }

  private end(error: Error): void {
    this.gone = error;
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }
}
