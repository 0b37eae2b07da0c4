/** Making, listing and revoking share links. The secret URL is on the page only until the dialog closes. */

import { describe } from "../sync/errors";
import type { Api, ShareLink } from "./api";
import { announce, button, byId, setText, wireDialog } from "./dom";
import { formatAgo, plural } from "./format";
import type { Session } from "./session";

export class ShareDialog {
  private readonly dialog = byId<HTMLDialogElement>("share-dialog");
  private readonly make = byId<HTMLButtonElement>("share-make");
  private readonly makeLast = byId<HTMLButtonElement>("share-last");

  constructor(
    private readonly vm: string,
    private readonly session: Session,
    private readonly api: Api,
    onClosed: () => void,
  ) {
    wireDialog(this.dialog);
    byId("share").addEventListener("click", () => this.open());
    byId("share-form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.share(this.mustSave());
    });
    this.makeLast.addEventListener("click", () => void this.share(false));
    byId("share-copy").addEventListener("click", () => void this.copy());
    this.dialog.addEventListener("close", () => {
      this.forget();
      onClosed();
    });
  }

  open(): void {
    this.forget();
    this.showChoices();
    this.dialog.showModal();
    void this.list();
  }

  private mustSave(): boolean {
    const { unsaved, head } = this.session.view;
    return unsaved || head === null;
  }

  private showChoices(): void {
    const { unsaved, head } = this.session.view;
    const note = byId("share-unsaved");
    note.hidden = !this.mustSave();
    if (head === null) setText(note, "This machine has not been saved yet. A link shares a save.");
    else if (unsaved) setText(note, "There are changes since the last save. A link shares a save.");
    setText(this.make, this.mustSave() ? "Save and share" : "Make a link");
    this.makeLast.hidden = !(unsaved && head !== null);
  }

  private async share(saveFirst: boolean): Promise<void> {
    setText(byId("share-error"), "");
    this.busy(true);
    try {
      if (saveFirst) {
        setText(this.make, "Saving…");
        await this.session.save("Shared");
      }
      const snapshot = this.session.view.head;
      if (snapshot === null) return;
      const link = await this.api.createLink(snapshot, {
        expires_in: number(byId<HTMLSelectElement>("share-expires_in").value),
        max_uses: number(byId<HTMLInputElement>("share-max_uses").value),
      });
      setText(byId("share-url"), link.url);
      byId("share-new").hidden = false;
      byId("share-copy").focus();
      announce("The link is ready");
      await this.list();
    } catch (error) {
      setText(byId("share-error"), describe(error));
    } finally {
      this.busy(false);
      this.showChoices();
    }
  }

  private async list(): Promise<void> {
    const list = byId("share-list");
    try {
      const links = (await this.api.links(this.vm)).filter((link) => link.state === "active");
      list.replaceChildren(...links.map((link) => this.entry(link)));
      if (links.length === 0) list.append(line("No links yet."));
    } catch (error) {
      list.replaceChildren(line(describe(error)));
    }
  }

  private entry(link: ShareLink): HTMLLIElement {
    const item = document.createElement("li");
    const text = document.createElement("span");
    const uses =
      link.max_uses === null ? plural(link.uses, "use") : `${link.uses} of ${plural(link.max_uses, "use")}`;
    const until =
      link.expires_at === null ? "until revoked" : `until ${new Date(link.expires_at).toLocaleString()}`;
    text.textContent = `Made ${formatAgo(link.created_at)}, ${uses}, ${until}`;
    const revoke = button("Revoke", "button button-danger button-small", () => {
      revoke.disabled = true;
      this.api.revokeLink(link.id).then(
        () => this.list(),
        (error: unknown) => {
          revoke.disabled = false;
          setText(byId("share-error"), describe(error));
        },
      );
    });
    item.append(text, revoke);
    return item;
  }

  private async copy(): Promise<void> {
    const url = byId("share-url");
    try {
      await navigator.clipboard.writeText(url.textContent ?? "");
      setText(byId("share-copy"), "Copied");
    } catch {
      getSelection()?.selectAllChildren(url);
      setText(byId("share-copy"), "Press Ctrl+C");
    }
  }

  private busy(on: boolean): void {
    this.make.disabled = on;
    this.makeLast.disabled = on;
  }

  private forget(): void {
    setText(byId("share-url"), "");
    setText(byId("share-copy"), "Copy");
    setText(byId("share-error"), "");
    byId("share-new").hidden = true;
  }
}

function number(value: string): number | null {
  return value === "" ? null : Number(value);
}

function line(text: string): HTMLLIElement {
  const item = document.createElement("li");
  item.className = "muted";
  item.textContent = text;
  return item;
}
