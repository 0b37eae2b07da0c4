/** The row of keys that a phone's keyboard lacks. It takes no focus: the soft keyboard stays up. */

import type { ExtraKey } from "../terminal/input";
import type { ConsoleTerminal } from "../terminal/terminal";
import { byId } from "./dom";

export function wireExtraKeys(
  terminal: () => ConsoleTerminal,
  onPaste: () => void,
): { ctrlChanged(on: boolean): void } {
  const row = byId("extra-keys");
  const ctrl = byId("key-ctrl");
  row.addEventListener("pointerdown", (event) => event.preventDefault());
  for (const key of row.querySelectorAll<HTMLButtonElement>("[data-key]")) {
    key.addEventListener("click", () => terminal().pressExtra(key.dataset["key"] as ExtraKey));
  }
  ctrl.addEventListener("click", () => {
    terminal().latchCtrl(!terminal().ctrlLatched);
    terminal().focus();
  });
  byId("key-paste").addEventListener("click", onPaste);
  return { ctrlChanged: (on) => ctrl.setAttribute("aria-pressed", String(on)) };
}
