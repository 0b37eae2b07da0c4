/** The bar above the terminal while somebody else has the machine and this tab shows what they see. */

import { describe } from "../sync/errors";
import { announce, byId, setText } from "./dom";
import type { SessionView } from "./model";
import type { Session } from "./session";

export class WatchBar {
  private readonly bar = byId("watch-bar");

  constructor(session: Session) {
    byId("watch-stop").addEventListener("click", () => session.watch(false));
    byId("watch-take-over").addEventListener("click", () => {
      session.takeOver().catch((error: unknown) => announce(describe(error)));
    });
  }

  show(view: SessionView): void {
    this.bar.hidden = !view.watching;
    document.documentElement.classList.toggle("watching", view.watching);
    if (!view.watching) return;
    const conflict = view.conflict?.kind === "held" ? view.conflict : undefined;
    const who = conflict?.yours ? "you, in another place" : (conflict?.holder ?? "somebody else");
    const text = conflict?.asking
      ? conflict.saving
        ? "Taking over: it is being saved there…"
        : "Taking over: asking for it…"
      : `Watching ${who}: you see what happens, keys do nothing.`;
    const element = byId("watch-text");
    if (element.textContent !== text) announce(text);
    setText(element, text);
    byId<HTMLButtonElement>("watch-take-over").disabled = conflict?.asking === true;
  }
}
