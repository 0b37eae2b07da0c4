/** Small helpers of the page's parts. Text always goes in as text, never as markup. */

import { Bug } from "../sync/errors";

/** The element with this id; the template has them all. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Bug(`the page has no #${id}`);
  return element as T;
}

export function button(label: string, className: string, onClick: () => void): HTMLButtonElement {
  const element = document.createElement("button");
  element.type = "button";
  element.className = className;
  element.textContent = label;
  element.addEventListener("click", onClick);
  return element;
}

/** Sets text only when it differs, so that screen readers and the layout are left alone. */
export function setText(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Says something to people who use a screen reader. */
export function announce(text: string): void {
  setText(byId("live"), text);
}

/** Makes the `data-close` buttons of a dialog work, and a click beside it close it. */
export function wireDialog(dialog: HTMLDialogElement): void {
  for (const close of dialog.querySelectorAll("[data-close]")) {
    close.addEventListener("click", () => dialog.close());
  }
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

/** `--value` of a `.progress` and what screen readers are told; undefined: busy, no figure. */
export function setProgress(bar: HTMLElement, fraction: number | undefined): void {
  bar.toggleAttribute("data-busy", fraction === undefined);
  if (fraction === undefined) {
    bar.style.removeProperty("--value");
    bar.removeAttribute("aria-valuenow");
    return;
  }
  const percent = Math.round(100 * Math.min(1, Math.max(0, fraction)));
  bar.style.setProperty("--value", String(percent));
  bar.setAttribute("aria-valuenow", String(percent));
}
