/** `<form data-confirm="what happens" data-confirm-title="Sure?" data-confirm-button="Delete">`: asks in a dialog before
 * the form is sent. Without scripts the form is sent at once, and what can be undone can be undone. */

/** Ask; resolves to whether the person agreed. Text is set as text, never as markup. */
export function confirmDialog(
  document: Document,
  { title, text, button }: { title: string; text: string; button: string },
): Promise<boolean> {
  const dialog = document.createElement("dialog");
  dialog.className = "dialog";
  const heading = document.createElement("h2");
  heading.textContent = title;
  heading.id = "confirm-title";
  const paragraph = document.createElement("p");
  paragraph.textContent = text;
  paragraph.id = "confirm-text";
  dialog.setAttribute("aria-labelledby", heading.id);
  dialog.setAttribute("aria-describedby", paragraph.id);
  const actions = document.createElement("form");
  actions.method = "dialog";
  actions.className = "dialog-actions";
  const choice = (value: string, label: string, kind: string): HTMLButtonElement => {
    const made = document.createElement("button");
    made.value = value;
    made.textContent = label;
    made.className = `button ${kind}`;
    return made;
  };
  actions.append(choice("no", "Cancel", "button-quiet"), choice("yes", button, "button-danger"));
  dialog.append(heading, paragraph, actions);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}

export function installConfirm(document: Document): void {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || !form.dataset.confirm || form.dataset.confirmed) return;
    event.preventDefault();
    const submitter = event.submitter;
    void confirmDialog(document, {
      title: form.dataset.confirmTitle ?? "Are you sure?",
      text: form.dataset.confirm,
      button: form.dataset.confirmButton ?? "Go on",
    }).then((agreed) => {
      if (!agreed) return;
      form.dataset.confirmed = "yes";
      form.requestSubmit(submitter);
      delete form.dataset.confirmed;
    });
  });
}
