/** "Restart" in the More dialog: asks, then switches the machine off and on. */

import { describe } from "../sync/errors";
import { announce, byId, wireDialog } from "./dom";
import type { Session } from "./session";

export class RestartDialog {
  constructor(session: Session, more: HTMLDialogElement) {
    const dialog = byId<HTMLDialogElement>("restart-dialog");
    const button = byId<HTMLButtonElement>("restart");
    wireDialog(dialog);
    button.addEventListener("click", () => {
      more.close();
      dialog.showModal();
    });
    session.onView(({ state, watching, conflict }) => {
      button.disabled = !["running", "paused"].includes(state) || watching || conflict !== undefined;
    });
    byId("restart-form").addEventListener("submit", () => {
      session.restart().then(
        () => announce("The machine starts again."),
        (error: unknown) => announce(describe(error)),
      );
    });
  }
}
