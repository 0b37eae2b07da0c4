/** The tabs, by mouse, by arrow keys and by Ctrl+Alt and a digit (the ARIA tabs pattern): the terminals, and a `pc`'s screen. */

import type { MachineConfig } from "../machine/machine";
import { announce, byId } from "./dom";
import { consolesOf } from "./machine-run";

export type TabName = "terminal" | "screen";

interface Tab {
  name: TabName;
  /** Of the terminal; 0 for the screen. */
  number: number;
  button: HTMLElement;
  panel: HTMLElement;
}

export class Tabs {
  private tabs: Tab[] = [];
  private active: Tab;

  constructor(private readonly onChange: (tab: TabName) => void) {
    this.active = this.add("terminal", 0, "terminal");
    this.add("screen", 0, "screen");
  }

  get current(): TabName {
    return this.active.name;
  }

  /** Where the shown terminal's letters go. */
  get place(): HTMLElement {
    return this.active.panel.firstElementChild as HTMLElement;
  }

  get terminal(): number {
    return this.active.number;
  }

  /** A tab for every console of the machine; a screen only where there is one. */
  prepare(machine: MachineConfig): void {
    if (machine.kind !== "linux") return;
    byId("tab-screen").hidden = true;
    const [first] = this.tabs;
    const consoles = consolesOf(machine);
    for (let number = 0; number < consoles && consoles > 1; number++) {
      if (this.find(number)?.button.dataset["number"]) continue;
      const { button } = number === 0 && first ? first : this.make(number);
      button.dataset["number"] = String(number + 1);
      const word = document.createElement("span");
      word.className = "console-tab-word";
      word.textContent = "Terminal ";
      button.replaceChildren(word, String(number + 1));
      if (number < 9) button.setAttribute("aria-keyshortcuts", `Control+Alt+${number + 1}`);
    }
  }

  select(name: TabName, number = 0): void {
    const chosen = name === "screen" ? this.tabs.find((tab) => tab.name === name) : this.find(number);
    if (!chosen) return;
    this.active = chosen;
    for (const tab of this.tabs) {
      const isChosen = tab === chosen;
      tab.button.setAttribute("aria-selected", String(isChosen));
      tab.button.tabIndex = isChosen ? 0 : -1;
      tab.panel.hidden = !isChosen;
    }
    chosen.button.querySelector(".console-tab-news")?.remove();
    this.onChange(name);
  }

  /** Ctrl+Alt and the number of a terminal. What AltGr makes of a digit is for the guest. */
  shortcut(event: KeyboardEvent): boolean {
    const digit = /^Digit([1-9])$/.exec(event.code)?.[1];
    if (!digit || !event.ctrlKey || !event.altKey || event.shiftKey || event.metaKey) return false;
    if (event.getModifierState("AltGraph")) return false;
    const tab = this.find(Number(digit) - 1);
    if (!tab?.button.dataset["number"]) return false;
    this.select("terminal", tab.number);
    return true;
  }

  /** A terminal that nobody looks at has printed something. */
  mark(number: number): void {
    const tab = this.find(number);
    if (!tab || tab === this.active || tab.button.querySelector(".console-tab-news")) return;
    const news = document.createElement("span");
    news.className = "console-tab-news";
    const said = document.createElement("span");
    said.className = "visually-hidden";
    said.textContent = "new output";
    news.append(said);
    tab.button.append(news);
    announce(`Terminal ${number + 1} has new output`);
  }

  /** Where the focus goes when somebody leaves the terminal. */
  focusTab(): void {
    this.active.button.focus();
  }

  private find(number: number): Tab | undefined {
    return this.tabs.find((tab) => tab.name === "terminal" && tab.number === number);
  }

  /** Tab and panel of one more terminal, beside those that the page has. */
  private make(number: number): Tab {
    const id = `terminal-${number + 1}`;
    const button = byId("tab-terminal").cloneNode() as HTMLElement;
    button.id = `tab-${id}`;
    button.setAttribute("aria-controls", `panel-${id}`);
    button.setAttribute("aria-selected", "false");
    button.tabIndex = -1;
    const panel = byId("panel-terminal").cloneNode() as HTMLElement;
    panel.id = `panel-${id}`;
    panel.setAttribute("aria-labelledby", button.id);
    panel.hidden = true;
    const place = document.createElement("div");
    place.className = "console-terminal";
    panel.append(place);
    byId("tab-screen").before(button);
    byId("panel-screen").before(panel);
    return this.add("terminal", number, id);
  }

  private add(name: TabName, number: number, id: string): Tab {
    const tab: Tab = { name, number, button: byId(`tab-${id}`), panel: byId(`panel-${id}`) };
    this.tabs.push(tab);
    tab.button.addEventListener("click", () => this.select(name, number));
    tab.button.addEventListener("keydown", (event) => this.move(event));
    return tab;
  }

  /** The focus goes along the row, in the order of the page. */
  private move(event: KeyboardEvent): void {
    const row = [
      ...byId("tab-terminal").parentElement!.querySelectorAll<HTMLElement>("[role=tab]:not([hidden])"),
    ];
    const at = row.indexOf(event.currentTarget as HTMLElement);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: row.length - 1 }[event.key];
    if (to === undefined) return;
    row.at(to % row.length)?.focus();
    event.preventDefault();
  }
}
