/** The choice of how often this machine saves by itself. */

import { describe } from "../sync/errors";
import { announce, byId, setText } from "./dom";
import type { Session } from "./session";

export class AutosaveSetting {
  private readonly select = byId<HTMLSelectElement>("autosave");
  private shown: number | undefined;

  constructor(private readonly session: Session) {
    this.select.addEventListener("change", () => void this.change(Number(this.select.value)));
  }

  /** A time that is not among the choices (set by a script) gets one of its own. */
  show(seconds: number): void {
    if (seconds === this.shown) return;
    this.shown = seconds;
    const value = String(seconds);
    if (![...this.select.options].some((option) => option.value === value))
      this.select.add(new Option(`Every ${seconds} seconds`, value));
    this.select.value = value;
  }

  private async change(seconds: number): Promise<void> {
    const error = byId("autosave-error");
    setText(error, "");
    try {
      await this.session.setAutosave(seconds);
      announce(seconds > 0 ? "Autosave is on" : "Autosave is off");
    } catch (problem) {
      setText(error, describe(problem));
      this.shown = undefined;
    }
    this.show(this.session.autosaveSeconds);
  }
}
