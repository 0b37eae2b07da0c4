/** The console page: puts the session, the terminal and the page's parts together. */

import "./console.css";
import { asideOf, browserJournals, startJournal } from "../journal/opening";
import { startMachine } from "../machine/client";
import { takeWorker } from "../machine/early";
import { openWebSocket } from "../sync/connection";
import { encodePicture, shrink } from "../terminal/thumbnail";
import { Api, csrfFromPage, descriptorFromPage } from "./api";
import { currentScheme, followScheme, followVisibleHeight } from "./appearance";
import { makeAutomation } from "./automation";
import { AutosaveSetting } from "./autosave-setting";
import { ConflictDialog } from "./conflict-dialog";
import { Cover } from "./cover";
import { announce, byId, wireDialog } from "./dom";
import { wireExtraKeys } from "./extra-keys";
import type { SessionView } from "./model";
import { JournalLine, showNote } from "./journal-status";
import { Phases } from "./phases";
import { loadPreferences, storePreferences } from "./preferences";
import { recover, type Recovered } from "./recovery-dialog";
import { RestartDialog } from "./restart-dialog";
import { SaveDialog } from "./save-dialog";
import { Screen } from "./screen";
import { Session } from "./session";
import { ShareDialog } from "./share-dialog";
import { StatusLine } from "./status";
import { steadily } from "./steady";
import { missingSupport, reducedSupport } from "./support";
import { Tabs } from "./tabs";
import { Terminals } from "./terminals";
import { WatchBar } from "./watch-bar";

/** The run's name outlives a reload of this tab, but not a copy of the tab: it is in the storage only while no page runs. */
function sessionName(vm: string): { session: string; keep(name: string): void } {
  const key = `webvm.session.${vm}`;
  let session: string | null = null;
  try {
    session = sessionStorage.getItem(key);
    sessionStorage.removeItem(key);
  } catch {
    // no storage: a reload is a new run, and takes its own lease
  }
  return {
    session: session ?? crypto.randomUUID(),
    keep: (name) => {
      try {
        sessionStorage.setItem(key, name);
      } catch {
        // as above
      }
    },
  };
}

async function openConsole(): Promise<void> {
  const root = byId("console");
  const vm = root.dataset["vm"] ?? "";
  const phases = new Phases();
  phases.mark("script");
  const cover = new Cover();
  followVisibleHeight();
  const missing = missingSupport();
  if (missing) {
    followScheme(() => undefined);
    cover.refuse(missing);
    return;
  }

  const preferences = loadPreferences();
  const api = new Api(csrfFromPage);
  const run = sessionName(vm);
  const socketUrl = (id: string): string =>
    `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/vms/${id}/`;
  const brought = descriptorFromPage();
  const journalLine = new JournalLine();
  const owner = root.dataset["journalOwner"] ?? "";
  const journals = browserJournals({ owner, vm, fetchKey: () => api.journalKey(vm) });
  const recovered: Recovered = journals
    ? await recover({
        ...{ journals, session: run.session, descriptor: brought },
        ...{ api, socketUrl, openSocket: openWebSocket },
      })
    : { session: run.session, newHead: false };
  phases.mark("journal");
  const runName = recovered.session;
  const journal = journals && startJournal(journals, runName, (status) => journalLine.show(status));
  if (!journal) journalLine.show({ kind: "failed", why: "storage", at: null });
  const shortcut = (event: KeyboardEvent): boolean => {
    const control = event.ctrlKey || (event.metaKey && navigator.platform.startsWith("Mac"));
    if (control && event.shiftKey && event.code === "KeyL") {
      screen.leave();
      tabs.focusTab();
      return true;
    }
    if (control && !event.shiftKey && !event.altKey && event.code === "KeyS") {
      saveDialog.open();
      return true;
    }
    return tabs.shortcut(event);
  };

  const terminals: Terminals = new Terminals({
    fontSize: preferences.fontSize,
    screenReader: preferences.screenReader,
    scheme: currentScheme(),
    onInput: (bytes, terminal) => session.input(bytes, terminal),
    onResize: (size) => session.resized(size),
    onFlood: (on) => void session.flood(on),
    onShortcut: shortcut,
    onCtrlLatch: (on) => extraKeys.ctrlChanged(on),
    onMachine: (machine) => tabs.prepare(machine),
    onWanted: (terminal) => tabs.select("terminal", terminal),
    onNews: (terminal) => {
      if (session.view.state !== "loading" && session.view.state !== "booting") tabs.mark(terminal);
    },
  });
  const session: Session = new Session({
    vm,
    descriptorUrl: root.dataset["descriptor"] ?? "",
    descriptor: recovered.newHead ? undefined : brought,
    socketUrl,
    session: runName,
    api,
    terminals,
    phases,
    openSocket: openWebSocket,
    every: steadily,
    startWorker: takeWorker,
    startMachine,
    journal,
    takePicture: () =>
      encodePicture(tabs.current === "screen" ? shrink(screen.element) : terminals.active.picture()),
  });
  // First of all: everything below happens while the descriptor and the worker are on their way.
  void session.start();

  const focusActive = (): void => {
    if (tabs.current === "terminal") terminals.active.focus();
    else byId("vga").focus();
  };
  const screen = new Screen(session, shortcut);
  const tabs: Tabs = new Tabs((tab) => {
    byId("extra-keys").hidden = tab === "screen"; // they type into the terminal
    if (tab === "screen") screen.open();
    else {
      screen.close();
      terminals.show(tabs.terminal, tabs.place);
      session.shown(tabs.terminal);
      terminals.active.focus();
    }
  });
  const paste = (): void =>
    void terminals.active.pasteFromClipboard().then((done) => {
      if (!done) announce("The browser did not give the clipboard. Use its own paste command.");
    });
  const extraKeys = wireExtraKeys(() => terminals.active, paste);
  const saveDialog = new SaveDialog(session, focusActive);
  new ShareDialog(vm, session, api, focusActive);
  const conflicts = new ConflictDialog(session, () => (leaving = true));
  const status = new StatusLine();
  const watchBar = new WatchBar(session);
  const autosave = new AutosaveSetting(session);
  let leaving = false;

  terminals.show(tabs.terminal, tabs.place);
  followScheme((scheme) => terminals.set({ scheme }));
  wireMore();
  byId("error-retry").addEventListener("click", () => {
    cover.restart();
    void session.retry();
  });
  byId("error-boot").addEventListener("click", () => {
    cover.restart();
    void session.bootFromDisk();
  });
  new RestartDialog(session, byId<HTMLDialogElement>("more-dialog"));
  byId("pause").addEventListener("click", () => {
    void (session.view.machine === "paused" ? session.resume() : session.pause());
  });

  let started = false;
  const show = (view: SessionView): void => {
    status.show(view);
    cover.show(view);
    if (!started && !view.loading && !view.failure) {
      started = true;
      if (document.activeElement === document.body) terminals.active.focus();
      screen.reopen();
    }
    if (view.loading) started = false;
    conflicts.show(view.watching ? undefined : view.conflict, started);
    watchBar.show(view);
    autosave.show(session.autosaveSeconds);
  };
  let connected = true;
  session.onView(({ lease }) => {
    if (lease === "online" && !connected) void journal?.renew();
    connected = lease === "online";
  });
  session.onView(show);
  session.onDisk = (read, written) => status.blink(read, written);
  show(session.view);

  document.addEventListener("keydown", (event) => {
    if (!event.defaultPrevented && shortcut(event)) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) session.wokeUp();
  });
  window.addEventListener("online", () => session.wokeUp());
  window.addEventListener("beforeunload", (event) => {
    const { unsaved, saving } = session.view;
    if ((unsaved || saving) && !leaving) event.preventDefault();
  });
  window.addEventListener("pagehide", () => {
    run.keep(runName);
    session.close();
    journal?.close();
  });
  // Out of the back-forward cache the socket and the machine are gone: start over.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });

  const note = recovered.note ?? reducedSupport();
  if (note) showNote(note);
  if (journals) {
    void asideOf(journals).then(
      (aside) => aside && journalLine.offerBack(aside),
      (error: unknown) => console.warn(error),
    );
  }

  Object.defineProperty(window, "webvm", {
    value: makeAutomation(session, terminals, phases),
    writable: false,
    configurable: false,
  });

  function wireMore(): void {
    const dialog = byId<HTMLDialogElement>("more-dialog");
    const size = byId<HTMLSelectElement>("font-size");
    const reader = byId<HTMLInputElement>("screen-reader");
    const keys = byId<HTMLInputElement>("show-keys");
    wireDialog(dialog);
    dialog.addEventListener("close", focusActive);
    byId("more").addEventListener("click", () => dialog.showModal());
    byId("copy").addEventListener("click", () => void terminals.active.copy().then(() => dialog.close()));
    byId("paste").addEventListener("click", () => {
      dialog.close();
      paste();
    });
    size.value = String(preferences.fontSize);
    reader.checked = preferences.screenReader;
    keys.checked = preferences.extraKeys ?? matchMedia("(hover: none) and (pointer: coarse)").matches;
    const apply = (): void => {
      byId("extra-keys").classList.toggle("shown", keys.checked);
    };
    apply();
    for (const control of [size, reader, keys]) {
      control.addEventListener("change", () => {
        preferences.fontSize = Number(size.value) || 14;
        preferences.screenReader = reader.checked;
        preferences.extraKeys = keys.checked;
        terminals.set({ fontSize: preferences.fontSize, screenReader: preferences.screenReader });
        apply();
        storePreferences(preferences);
      });
    }
  }
}

void openConsole();
