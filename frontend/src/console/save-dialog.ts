/** Ctrl+S and the Save button: ask for a message, save, say how it went. */

import { Cancelled, describe } from "../sync/errors";
import { announce, byId, setText, wireDialog } from "./dom";
import { formatBytes } from "./format";
import type { SaveReport } from "./model";
import type { Session } from "./session";

const SHOWN_MS = 8000;

export class SaveDialog {
  private readonly dialog = byId<HTMLDialogElement>("save-dialog");
  private readonly message = byId<HTMLInputElement>("save-message");
  private hide: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly session: Session,
    onClosed: () => void,
  ) {
    wireDialog(this.dialog);
    byId("save-form").addEventListener("submit", () => {
      const message = this.message.value.trim();
      this.message.value = "";
      void this.save(message);
    });
    this.dialog.addEventListener("close", onClosed);
    byId("saving-cancel").addEventListener("click", () => session.cancelSave());
    byId("save").addEventListener("click", () => this.open());
  }

  open(): void {
    if (this.dialog.open || byId<HTMLButtonElement>("save").disabled) return;
    this.dialog.showModal();
    this.message.focus();
  }

  /** Saves and shows the result in the status line. Resolves undefined when it failed or was cancelled. */
  async save(message: string): Promise<SaveReport | undefined> {
    try {
      const report = await this.session.save(message);
      this.say(`Saved, ${formatBytes(report.uploadedBytes)} uploaded`, false);
      return report;
    } catch (error) {
      if (error instanceof Cancelled) this.say("The save was cancelled", false);
      else this.say(`Not saved. ${describe(error)}`, true);
      return undefined;
    }
  }

  private say(text: string, stays: boolean): void {
    const toast = byId("toast");
    setText(toast, text);
    toast.classList.toggle("note-danger", stays);
    toast.hidden = false;
    announce(text);
    clearTimeout(this.hide);
    this.hide = setTimeout(() => (toast.hidden = true), stays ? 3 * SHOWN_MS : SHOWN_MS);
  }
}
