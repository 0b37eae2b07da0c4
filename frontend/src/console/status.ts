/** The status line, and the buttons that depend on the state. */

import { announce, byId, setProgress, setText } from "./dom";
import { formatBytes, formatMoment, plural } from "./format";
import type { SessionView } from "./model";

type Led = "ok" | "busy" | "warn" | "danger" | "";

const BLOCK = 4096;
/** How long the disk light stays on after traffic. */
const LIGHT_MS = 150;
/** A connection that is away for less is not worth a word, ms. */
const OFFLINE_AFTER = 1500;

export class StatusLine {
  private lightOff: ReturnType<typeof setTimeout> | undefined;
  private offlineTimer: ReturnType<typeof setTimeout> | undefined;
  private shown: SessionView | undefined;
  private said = "";
  private waitingForDisk = false;

  show(view: SessionView): void {
    this.shown = view;
    const [state, led] = stateText(view);
    setText(byId("status-state"), state);
    setLed("led-state", led);
    const [network, networkLed] = networkText(view);
    setText(byId("status-network"), network);
    setLed("led-network", networkLed);
    this.showDisk(view);
    const unsaved = byId("status-unsaved");
    setText(unsaved, unsavedText(view));
    unsaved.classList.toggle("unsaved", view.unsaved || view.autosave.kind === "full");
    this.watchClock(view);
    this.showSaving(view);

    const started = view.state !== "loading" && view.machine !== "loading" && !view.watching;
    byId<HTMLButtonElement>("save").disabled = !started || view.saving !== undefined;
    byId<HTMLButtonElement>("share").disabled = !started;
    const pause = byId<HTMLButtonElement>("pause");
    pause.disabled = !started || view.failure !== undefined;
    setText(pause, view.machine === "paused" ? "Resume" : "Pause");
    const spoken = view.state === "saving" ? "" : state;
    if (spoken && spoken !== this.said) {
      this.said = spoken;
      announce(spoken);
    }
  }

  /** A lost connection becomes "Offline" by the clock alone. */
  private watchClock(view: SessionView): void {
    clearTimeout(this.offlineTimer);
    if (view.offlineSince === undefined) return;
    const left = view.offlineSince + OFFLINE_AFTER - Date.now();
    if (left >= 0) this.offlineTimer = setTimeout(() => this.show(this.shown ?? view), left + 20);
  }

  /** Disk traffic: the light goes on for a moment. */
  blink(read: number, written: number): void {
    if (read + written === 0) return;
    clearTimeout(this.lightOff);
    setLed("led-disk", "ok");
    this.lightOff = setTimeout(() => setLed("led-disk", this.waitingForDisk ? "busy" : ""), LIGHT_MS);
  }

  private showDisk(view: SessionView): void {
    if (view.waitingForDisk !== this.waitingForDisk) {
      this.waitingForDisk = view.waitingForDisk;
      setLed("led-disk", view.waitingForDisk ? "busy" : "");
    }
    setText(byId("status-disk"), view.waitingForDisk ? "Fetching disk…" : "Disk");
  }

  private showSaving(view: SessionView): void {
    byId("status-saving").hidden = view.saving === undefined;
    if (!view.saving) return;
    const { phase, progress } = view.saving;
    const total = progress?.totalBytes ?? 0;
    setProgress(
      byId("saving-bar"),
      phase === "uploading" && total > 0 ? (progress?.doneBytes ?? 0) / total : undefined,
    );
    const texts = {
      preparing: "Saving: looking for changes…",
      waiting: "Saving: waiting for the connection…",
      negotiating: "Saving: asking what is new…",
      uploading: `Saving: ${formatBytes(progress?.uploadedBytes ?? 0)} sent`,
      committing: "Saving: finishing…",
    };
    setText(byId("saving-text"), texts[phase]);
    byId("saving-cancel").hidden = phase === "committing";
  }
}

function setLed(id: string, led: Led): void {
  byId(id).className = led ? `led led-${led}` : "led";
}

function stateText(view: SessionView): [string, Led] {
  if (view.machine === "stopped-on-disk") return ["Stopped: disk", "danger"];
  if (view.failure) return ["Stopped", "danger"];
  switch (view.state) {
    case "loading":
      return ["Loading", "busy"];
    case "booting":
      return ["Starting up", "busy"];
    case "paused":
      return ["Paused", "warn"];
    default:
      return [view.machine === "paused" ? "Paused" : "Running", view.machine === "paused" ? "warn" : "ok"];
  }
}

function networkText(view: SessionView): [string, Led] {
  switch (view.lease) {
    case "online":
      return ["Online", "ok"];
    case "connecting":
      return view.offlineSince !== undefined && Date.now() - view.offlineSince > OFFLINE_AFTER
        ? ["Offline", "warn"]
        : ["Connecting…", "warn"];
    case "asking":
    case "held":
      return ["Open elsewhere", "danger"];
    case "full":
      return ["No room", "danger"];
    case "lost":
      return ["Taken over", "danger"];
    case "ended":
      return ["Disconnected", "danger"];
  }
}

function unsavedText(view: SessionView): string {
  if (view.state === "loading" || view.watching) return "";
  if (view.handingOver !== undefined) return `Saving for ${view.handingOver}, who takes over…`;
  const changes = view.dirtyBlocks > 0 ? plural(view.dirtyBlocks, "change") : "changes";
  if (view.offlineSince !== undefined && Date.now() - view.offlineSince > OFFLINE_AFTER)
    return `Offline: working on, ${view.unsaved ? changes : "no changes"} not saved`;
  const { autosave } = view;
  if (autosave.kind === "full") return "Storage is full: not autosaved";
  if (autosave.kind === "failing") return "Not autosaved: trying again";
  if (autosave.kind === "saving") return "Autosaving…";
  if (!view.unsaved && autosave.kind === "on" && autosave.at !== undefined)
    return `Autosaved at ${formatMoment(autosave.at)}`;
  if (!view.unsaved) return view.head ? "No changes since the last save" : "";
  if (view.dirtyBlocks === 0) return "Unsaved changes";
  const size = formatBytes(view.dirtyBlocks * BLOCK);
  return `Unsaved changes: ${plural(view.dirtyBlocks, "block")}, ${size} on disk`;
}
