/** The two tabs, by mouse and by arrow keys (the ARIA tabs pattern). */

import { byId } from "./dom";

export type TabName = "terminal" | "screen";
const NAMES: readonly TabName[] = ["terminal", "screen"];

export class Tabs {
  private active: TabName = "terminal";

  constructor(private readonly onChange: (tab: TabName) => void) {
    for (const name of NAMES) {
      const tab = byId(`tab-${name}`);
      tab.addEventListener("click", () => this.select(name));
      tab.addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        const other = name === "terminal" ? "screen" : "terminal";
        byId(`tab-${other}`).focus();
        event.preventDefault();
      });
    }
  }

  get current(): TabName {
    return this.active;
  }

  select(name: TabName): void {
    this.active = name;
    for (const each of NAMES) {
      const tab = byId(`tab-${each}`);
      tab.setAttribute("aria-selected", String(each === name));
      tab.tabIndex = each === name ? 0 : -1;
      byId(`panel-${each}`).hidden = each !== name;
    }
    this.onChange(name);
  }

  /** Where the focus goes when somebody leaves the terminal. */
  focusTab(): void {
    byId(`tab-${this.active}`).focus();
  }
}
