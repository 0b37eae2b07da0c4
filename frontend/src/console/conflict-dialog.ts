/** When somebody else has the machine, or a newer save of it: say what happened and let the person choose. Never merge, never drop. */

import { describe } from "../sync/errors";
import { announce, button, byId, setText } from "./dom";
import { formatAgo } from "./format";
import type { Conflict } from "./model";
import { RunningList } from "./running-list";
import type { Session } from "./session";

interface Choice {
  label: string;
  primary?: boolean;
  /** Resolves when the dialog has done its work; a string is the address to go to. */
  act: () => Promise<string | void>;
}

export class ConflictDialog {
  private readonly dialog = byId<HTMLDialogElement>("conflict-dialog");
  private readonly running: RunningList;
  private shown: string | undefined;

  constructor(
    private readonly session: Session,
    private readonly onLeave: () => void,
  ) {
    this.running = new RunningList(session);
    // A choice has to be made: Esc does not close it, and where the browser insists it opens again.
    this.dialog.addEventListener("cancel", (event) => event.preventDefault());
    this.dialog.addEventListener("close", () => {
      if (this.shown !== undefined) this.dialog.showModal();
    });
  }

  show(conflict: Conflict | undefined, started: boolean): void {
    const key = conflict && `${JSON.stringify(conflict)}/${started}`;
    if (key === this.shown) return;
    this.shown = key;
    if (!conflict) {
      this.dialog.close();
      return;
    }
    const { title, text, choices } = this.explain(conflict, started);
    const focused = (document.activeElement as HTMLElement | null)?.textContent;
    setText(byId("conflict-title"), title);
    setText(byId("conflict-text"), text);
    setText(byId("conflict-error"), "");
    if (conflict.kind === "full") void this.running.show();
    else this.running.hide();
    byId("conflict-actions").replaceChildren(...choices.map((choice) => this.choiceButton(choice)));
    if (!this.dialog.open) this.dialog.showModal();
    else [...this.dialog.querySelectorAll("button")].find((each) => each.textContent === focused)?.focus();
    announce(`${title}. ${text}`);
  }

  private explain(conflict: Conflict, started: boolean): { title: string; text: string; choices: Choice[] } {
    const leave: Choice = { label: "All machines", act: async () => "/machines/" };
    const keep: Choice = {
      label: "Keep my work as a copy",
      act: async () => `/vms/${await this.session.keepAsCopy()}/`,
    };
    const copy: Choice = {
      label: "Open a copy of the last save",
      act: async () => `/vms/${await this.session.makeCopy()}/`,
    };
    const openNewer: Choice = { label: "Open the newer save", act: async () => location.pathname };
    const takeOver: Choice = { label: "Take over", primary: true, act: () => this.startTakingOver(false) };
    const watch: Choice = { label: "Watch", act: async () => this.session.watch(true) };
    switch (conflict.kind) {
      case "held": {
        const ago = formatAgo(conflict.since) || "a while ago";
        if (conflict.asking) {
          return {
            title: "Taking over",
            text: conflict.saving
              ? "It is being saved where it is open, and opens here right after."
              : "It was asked for where it is open. Without an answer it opens here in a few seconds, as it was last saved.",
            choices: [leave, { label: "Don’t wait", act: () => this.startTakingOver(true) }],
          };
        }
        return {
          title: conflict.yours
            ? "You have this machine open somewhere else"
            : "This machine is open somewhere else",
          text: `${conflict.yours ? "You" : conflict.holder} opened it ${ago}${conflict.yours ? ", in another tab or on another device" : ""}. Only one place at a time can save it. Taking over saves it there first, if it still answers. When it is closed there, it opens here.`,
          choices: [leave, copy, watch, takeOver],
        };
      }
      case "full":
        return {
          title: "No room for one more running machine",
          text: `As many machines as may run at one time are running (${conflict.sessions} of ${conflict.most}). This one stands still, since it could not be saved. Close one of the others, or ask an admin for more room: then it goes on here by itself.`,
          choices: [leave, { label: "Try again", primary: true, act: () => this.tryAgain() }],
        };
      case "lost":
        return {
          title: "This machine was taken over",
          text: conflict.saved
            ? `${conflict.message} All you did here was saved before, and goes on there.`
            : `${conflict.message} It is paused here. Your work since the last save is still in this tab: keep it as a copy.`,
          choices: [
            leave,
            conflict.saved ? copy : { ...keep, primary: true },
            { ...takeOver, label: "Take it back", primary: conflict.saved },
          ],
        };
      case "head_moved":
        return {
          title: "There is a newer save of this machine",
          text: started
            ? "It was saved somewhere else after you opened it here. The two cannot be merged: keep your work as a copy, or leave it and open the newer save."
            : "It was saved somewhere else a moment ago.",
          choices: started
            ? [openNewer, { ...keep, primary: true }]
            : [leave, { ...openNewer, primary: true }],
        };
      case "signed_out":
        return {
          title: "You are signed out",
          text: "The machine runs on in this tab, but it cannot be saved. Sign in again in another tab, then come back here.",
          choices: [
            {
              label: "Sign in (new tab)",
              act: async () => void window.open("/accounts/login/", "_blank", "noopener"),
            },
            { label: "I have signed in", primary: true, act: async () => this.session.reconnect() },
          ],
        };
      case "not_found":
        return {
          title: "This machine is not yours any more",
          text: "It was deleted, or your access to it was taken away. It is paused and cannot be saved here.",
          choices: [leave],
        };
    }
  }

  private async tryAgain(): Promise<void> {
    if (await this.session.askAgain()) return;
    setText(byId("conflict-error"), "There is still no room.");
    await this.running.show();
  }

  /** The dialog follows what comes of it; a failure shows in what it says next. */
  private async startTakingOver(now: boolean): Promise<void> {
    this.session.takeOver(now).catch((error: unknown) => {
      if (this.dialog.open) setText(byId("conflict-error"), describe(error));
    });
  }

  private choiceButton(choice: Choice): HTMLButtonElement {
    const element = button(choice.label, choice.primary ? "button button-primary" : "button", () => {
      void this.carryOut(choice, element);
    });
    element.autofocus = choice.primary === true;
    return element;
  }

  private async carryOut(choice: Choice, pressed: HTMLButtonElement): Promise<void> {
    const buttons = byId("conflict-actions").querySelectorAll("button");
    const before = pressed.textContent;
    for (const each of buttons) each.disabled = true;
    setText(pressed, "One moment…");
    setText(byId("conflict-error"), "");
    try {
      const address = await choice.act();
      if (typeof address !== "string") return;
      this.onLeave();
      location.assign(address);
    } catch (error) {
      setText(byId("conflict-error"), describe(error));
    } finally {
      setText(pressed, before ?? choice.label);
      for (const each of buttons) each.disabled = false;
    }
  }
}
