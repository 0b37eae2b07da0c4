/** `<form data-sign-out="…">`: asks before unsaved work in this browser goes; and once somebody has signed out, it does. */

import { forgetPrivateChunks } from "../disk/browser-cache";
import { browserStore } from "../journal/indexed-db";
import { forgetSignedOut, keepsUnsaved } from "../journal/sign-out";
import { confirmDialog } from "./confirm";

export function installSignOut(document: Document): void {
  const store = browserStore();
  if (!store) return;
  // A console looks for unsaved work before anything else. This script is there before the console's.
  if (document.querySelector("[data-journal-owner]")) store.warm();
  void forgetSignedOut(document, store, forgetPrivateChunks).catch((error: unknown) => console.warn(error));
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || !form.dataset.signOut || form.dataset.confirmed) return;
    event.preventDefault();
    const { submitter } = event;
    const owner = form.dataset.signOut;
    void (async () => {
      if ((await keepsUnsaved(store, owner)) && !(await confirmDialog(document, QUESTION))) return;
      form.dataset.confirmed = "yes";
      form.requestSubmit(submitter);
      delete form.dataset.confirmed;
    })();
  });
}

const QUESTION = {
  title: "Sign out and lose unsaved work?",
  text: "This browser keeps work of yours that is in no saved state yet. Signing out removes it. To keep it, open the machine and save it first.",
  button: "Sign out",
};
