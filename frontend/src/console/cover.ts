/** What lies over the stage while the machine loads, and when it has stopped. */

import { byId, setProgress, setText } from "./dom";
import { formatBytes } from "./format";
import type { SessionView } from "./model";

/** Shorter than this, loading shows no card at all: a flash would only disturb. */
const PATIENCE_MS = 250;

const PHASES: Record<string, string> = {
  descriptor: "Opening the machine…",
  memory: "Fetching the machine's memory…",
};

const FROM_DISK = "Its programs cannot go on, but its files are all there: start it from its disk.";

/** Below this a total counts chunks, not bytes: no memory is so small. */
const LEAST_BYTES = 65536;

export class Cover {
  private since = performance.now();
  private timer: ReturnType<typeof setTimeout> | undefined;

  show(view: SessionView): void {
    const cover = byId("cover");
    if (view.failure) {
      this.stopTimer();
      byId("cover-loading").hidden = true;
      byId("cover-error").hidden = false;
      setText(byId("error-title"), title(view));
      const boots = view.failure.retry === "boot";
      setText(byId("error-text"), boots ? `${view.failure.message} ${FROM_DISK}` : view.failure.message);
      const retry = byId("error-retry");
      const boot = byId("error-boot");
      setText(retry, view.machine === "error" ? "Start again from the last save" : "Try again");
      // What stopped by itself may do so again: its disk is the way out.
      boot.hidden = !boots && view.machine !== "error";
      retry.hidden = boots;
      boot.classList.toggle("button-primary", boots);
      if (cover.hidden) (boots ? boot : retry).focus();
      cover.hidden = false;
      return;
    }
    byId("cover-error").hidden = true;
    if (!view.loading) {
      this.stopTimer();
      cover.hidden = true;
      return;
    }
    if (performance.now() - this.since < PATIENCE_MS) {
      cover.hidden = true;
      this.timer ??= setTimeout(() => {
        cover.hidden = false;
      }, PATIENCE_MS);
    }
    byId("cover-loading").hidden = false;
    const { phase, done, total } = view.loading;
    setText(byId("loading-text"), PHASES[phase] ?? "Starting the machine…");
    setProgress(byId("loading-bar"), total > 0 ? done / total : undefined);
    const percent = total > 0 ? `${Math.round((100 * done) / total)}%` : "";
    setText(
      byId("loading-bytes"),
      total < LEAST_BYTES ? percent : `${formatBytes(done)} of ${formatBytes(total)}`,
    );
  }

  /** A sentence in place of the machine, for a browser that cannot run it. */
  refuse(sentence: string): void {
    byId("cover").hidden = false;
    byId("cover-loading").hidden = true;
    byId("cover-error").hidden = false;
    byId("error-retry").hidden = true;
    setText(byId("error-title"), "The machine cannot run here");
    setText(byId("error-text"), sentence);
  }

  /** Loading starts anew. */
  restart(): void {
    this.since = performance.now();
  }

  private stopTimer(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}

function title(view: SessionView): string {
  if (view.machine === "stopped-on-disk") return "The machine is waiting for its disk";
  if (view.failure?.retry === "boot") return "What was running cannot be resumed";
  return view.machine === "loading" ? "The machine could not be started" : "The machine stopped";
}
