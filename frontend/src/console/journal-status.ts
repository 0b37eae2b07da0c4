/** What the status line says of the journal, and the button that brings back what was set aside. */

import type { JournalStatus } from "../journal/tab-journal";
import { announce, byId, setText } from "./dom";
import { formatMoment } from "./format";

/** A save that takes less than this is not worth a word. */
const PATIENCE_MS = 3000;
const NOTE_MS = 24_000;

export class JournalLine {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private since = 0;
  private said = "";

  show(status: JournalStatus): void {
    if (status.kind !== "kept") this.since = 0;
    else this.since ||= performance.now();
    clearTimeout(this.timer);
    const wait = status.kind === "kept" ? this.since + PATIENCE_MS - performance.now() : 0;
    const say = (): void => {
      const line = byId("status-journal");
      setText(line, journalText(status));
      line.classList.toggle("unsaved", status.kind === "failed");
      const spoken = status.kind === "failed" ? status.why : "";
      if (spoken && spoken !== this.said) announce(journalText(status));
      this.said = spoken;
    };
    if (wait > 0) this.timer = setTimeout(say, wait);
    else say();
  }

  /** Work was set aside when this machine was opened, or not long before. */
  offerBack(aside: { savedAt: number; bringBack(): Promise<void> }): void {
    const link = byId<HTMLButtonElement>("bring-back");
    setText(link, `Bring back the unsaved work from ${formatMoment(aside.savedAt)}`);
    link.hidden = false;
    link.addEventListener("click", () => {
      link.disabled = true;
      // The page asks again what to go on from.
      void aside.bringBack().then(
        () => location.reload(),
        () => {
          setText(link, "The unsaved work is not there any more");
        },
      );
    });
  }
}

export function journalText(status: JournalStatus): string {
  if (status.kind === "empty") return "";
  if (status.kind === "kept") return `Kept in this browser: ${formatMoment(status.at)}`;
  const reasons = {
    no_room: "No room in this browser for unsaved work",
    too_large: "Too much unsaved work to keep it in this browser",
    no_key: "Unsaved work is not kept in this browser: not connected",
    storage: "This browser keeps no unsaved work",
  };
  const older = status.at === null ? "" : ` (kept: ${formatMoment(status.at)})`;
  return reasons[status.why] + older;
}

/** A sentence over the stage for a while. */
export function showNote(text: string): void {
  const toast = byId("toast");
  setText(toast, text);
  toast.classList.add("note-warn");
  toast.hidden = false;
  setTimeout(() => {
    toast.classList.remove("note-warn");
    if (toast.textContent === text) toast.hidden = true;
  }, NOTE_MS);
}
