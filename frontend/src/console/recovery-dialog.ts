/**
 * Before a machine is opened: unsaved work of an earlier run in this browser, and the one choice of going on from there or from
 * the last saved state.
 */

import { leftoverOf, type BrowserJournals } from "../journal/opening";
import { continueLeftover, type Leftover } from "../journal/recovery";
import { Damaged } from "../journal/sealing";
import type { OpenSocket } from "../sync/connection";
import { Cancelled, Expected, describe } from "../sync/errors";
import type { SaveProgress } from "../sync/save";
import type { Api, Descriptor } from "./api";
import { announce, button, byId, setProgress, setText } from "./dom";
import { formatBytes, formatMoment } from "./format";

/** What takes less needs no progress bar. */
const PATIENCE_MS = 1000;

export interface RecoveryOptions {
  journals: BrowserJournals;
  /** This page's own run. */
  session: string;
  descriptor: Descriptor | undefined;
  api: Api;
  socketUrl: (vm: string) => string;
  openSocket: OpenSocket;
}

export interface Recovered {
  /** The run's name: that of the run that ended, so that this one need not wait for its lease to run out. */
  session: string;
  /** The VM has a newer head than the page knows. */
  newHead: boolean;
  /** For the person, once the machine is there. */
  note?: string;
}

/** Resolves when the machine can be opened. Never rejects. */
export async function recover(options: RecoveryOptions): Promise<Recovered> {
  let found;
  try {
    found = await leftoverOf(options.journals, options.descriptor);
  } catch (error) {
    console.warn(error);
    const note =
      "This browser may keep unsaved work of this machine, but it could not be read now. Reload the page to try again.";
    return { session: options.session, newHead: false, note };
  }
  if (found.work) return new RecoveryDialog(found.work, options).choice();
  return { session: options.session, newHead: false, ...(found.damaged ? { note: DAMAGED } : {}) };
}

const DAMAGED =
  "Unsaved work of an earlier run was found in this browser, but it is damaged and cannot be used. This is the last saved state.";

class RecoveryDialog {
  private readonly dialog = byId<HTMLDialogElement>("recovery-dialog");
  private readonly name: string;
  private readonly session: string;
  private done: (recovered: Recovered) => void = () => undefined;

  constructor(
    private readonly work: Leftover,
    private readonly options: RecoveryOptions,
  ) {
    this.name = options.descriptor?.vm.name ?? byId("console").dataset["name"] ?? "";
    this.session = work.session ?? options.session;
    // A choice has to be made: Esc does not close it, and where the browser insists it opens again.
    this.dialog.addEventListener("cancel", (event) => event.preventDefault());
  }

  choice(): Promise<Recovered> {
    const { manifest } = this.work;
    setText(byId("recovery-title"), "Unsaved work was found in this browser");
    setText(
      byId("recovery-text"),
      `“${this.name}” ended here before everything was saved. Go on from where it was, or open it as it was last saved?`,
    );
    setText(
      byId("recovery-hint"),
      "Nothing is lost either way: the saved state stays in the history, and the unsaved work can be brought back for 24 hours.",
    );
    const picture = byId<HTMLImageElement>("recovery-picture");
    picture.hidden = manifest.thumbnail === null;
    if (manifest.thumbnail)
      picture.src = `data:${pictureType(manifest.thumbnail)};base64,${manifest.thumbnail}`;
    return new Promise((resolve) => {
      const reopen = (): void => this.dialog.showModal();
      this.done = (recovered) => {
        this.dialog.removeEventListener("close", reopen);
        this.dialog.close();
        resolve(recovered);
      };
      this.dialog.addEventListener("close", reopen);
      this.offer();
      this.dialog.showModal();
      announce(byId("recovery-title").textContent ?? "");
    });
  }

  private offer(more: HTMLButtonElement[] = []): void {
    const { descriptor } = this.options;
    const saved = descriptor?.snapshot ? Date.parse(descriptor.snapshot.created_at) : undefined;
    const last =
      saved === undefined
        ? "Open it as it was at first"
        : `Open the last saved state from ${formatMoment(saved)}`;
    const from = `Continue from ${formatMoment(this.work.manifest.savedAt)}`;
    const go = button(from, "button button-primary", () => void this.goOn(false));
    go.autofocus = true;
    this.actions(
      button(last, "button", () => void this.setAside()),
      ...more,
      go,
    );
  }

  private actions(...buttons: HTMLButtonElement[]): void {
    byId("recovery-actions").replaceChildren(...buttons);
    (buttons.find((each) => each.autofocus) ?? buttons[0])?.focus();
  }

  private async setAside(note?: string): Promise<void> {
    const { store } = this.options.journals;
    // Where that fails it is offered again the next time, which loses nothing either.
    await store.setAside(this.work.id, Date.now()).catch((error: unknown) => console.warn(error));
    this.work.release();
    this.done({ session: this.session, newHead: false, ...(note ? { note } : {}) });
  }

  private async goOn(asCopy: boolean): Promise<void> {
    const cancel = new AbortController();
    const { journals, socketUrl, openSocket, session } = this.options;
    this.actions(button("Cancel", "button", () => cancel.abort()));
    setText(byId("recovery-error"), "");
    this.showProgress({ phase: "waiting", doneBytes: 0, totalBytes: 0, uploadedBytes: 0 });
    const patience = setTimeout(() => (byId("recovery-progress").hidden = false), PATIENCE_MS);
    try {
      const copy = await continueLeftover(this.work, {
        store: journals.store,
        session,
        socketUrl,
        openSocket,
        asCopy,
        copy: (snapshot) => this.makeCopy(snapshot),
        onProgress: (progress) => this.showProgress(progress),
        signal: cancel.signal,
      });
      this.work.release();
      if (copy === undefined) this.done({ session: this.session, newHead: true });
      else this.tellOfCopy(copy, asCopy);
    } catch (error) {
      if (error instanceof Damaged) return this.setAside(DAMAGED);
      this.fail(error);
    } finally {
      clearTimeout(patience);
      byId("recovery-progress").hidden = true;
    }
  }

  /** The journal is as it was; the choice is still there. */
  private fail(error: unknown): void {
    if (!(error instanceof Cancelled)) setText(byId("recovery-error"), describe(error));
    const taken = error instanceof Expected && ["lease_held", "lease_lost"].includes(error.code);
    this.offer(taken ? [button("Keep it as a copy", "button", () => void this.goOn(true))] : []);
  }

  private tellOfCopy(copy: string, asCopy: boolean): void {
    setText(byId("recovery-title"), "Your work is in a copy now");
    const why = asCopy ? "has it open" : "has saved it in the meantime";
    setText(
      byId("recovery-text"),
      `Another tab or device ${why}, and the two cannot be merged. Your unsaved work was saved as a machine of its own, “${this.copyName()}”.`,
    );
    setText(byId("recovery-hint"), "");
    const open = button("Open the copy", "button button-primary", () => location.assign(`/vms/${copy}/`));
    open.autofocus = true;
    this.actions(
      button("Open this machine", "button", () => this.done({ session: this.session, newHead: true })),
      open,
    );
    announce(byId("recovery-text").textContent ?? "");
  }

  private copyName(): string {
    return `${this.name.slice(0, 100)} (unsaved work)`;
  }

  private async makeCopy(snapshot: string | null): Promise<string> {
    const { api, journals } = this.options;
    const { image, tenant } = await api.vm(journals.vm);
    const name = this.copyName();
    if (snapshot) return (await api.forkSnapshot(snapshot, name, tenant)).id;
    return (await api.createVm({ image: image.slug, tenant, name })).id;
  }

  private showProgress({ phase, doneBytes, totalBytes, uploadedBytes }: SaveProgress): void {
    const texts = {
      waiting: "Waiting for the connection…",
      negotiating: "Asking what is missing…",
      uploading: `${formatBytes(uploadedBytes)} sent`,
      committing: "Finishing…",
    };
    setText(byId("recovery-doing"), texts[phase]);
    setProgress(
      byId("recovery-bar"),
      phase === "uploading" && totalBytes > 0 ? doneBytes / totalBytes : undefined,
    );
  }
}

/** Thumbnails are PNG or WebP. */
function pictureType(base64: string): string {
  return base64.startsWith("UklGR") ? "image/webp" : "image/png";
}
