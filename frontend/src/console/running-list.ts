/** The machines that run while there is no room for this one: each can be saved and closed from here. */

import { describe } from "../sync/errors";
import type { VmInfo } from "./api";
import { button, byId, setText } from "./dom";
import { formatAgo } from "./format";
import type { Session } from "./session";

export class RunningList {
  private readonly list = byId("conflict-list");

  constructor(private readonly session: Session) {}

  hide(): void {
    this.list.hidden = true;
    this.list.replaceChildren();
  }

  async show(): Promise<void> {
    try {
      const running = await this.session.runningBeside();
      this.list.replaceChildren(...running.map((vm) => this.row(vm)));
      this.list.hidden = running.length === 0;
    } catch (error) {
      setText(byId("conflict-error"), `Which machines run could not be found out: ${describe(error)}`);
    }
  }

  private row(vm: VmInfo): HTMLLIElement {
    const row = document.createElement("li");
    const what = document.createElement("span");
    const name = document.createElement("strong");
    name.textContent = vm.name;
    const who = vm.open_in ? `, ${vm.open_in.holder}, opened ${formatAgo(vm.open_in.since)}` : "";
    what.append(name, who);
    const close = button("Save and close", "button button-small", () => void this.close(vm, close));
    close.setAttribute("aria-label", `Save and close ${vm.name}`);
    row.append(what, close);
    return row;
  }

  private async close(vm: VmInfo, pressed: HTMLButtonElement): Promise<void> {
    pressed.disabled = true;
    setText(pressed, "Saving it…");
    setText(byId("conflict-error"), "");
    try {
      await this.session.closeOther(vm.id);
      await this.session.askAgain();
    } catch (error) {
      setText(byId("conflict-error"), `${vm.name} was not closed: ${describe(error)}`);
    }
    if (!this.list.hidden) await this.show();
  }
}
