/** `<button data-copy="<id>">`: copies the text (or value) of that element and says so. */
const SAID_MS = 2000;

export function installCopy(document: Document): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>("button[data-copy]")) {
    prepareCopy(button);
  }
}

/** Make one copy button work; pages that add buttons later call it themselves. */
export function prepareCopy(button: HTMLButtonElement): void {
  if (!navigator.clipboard) return; // only on HTTPS and localhost; the text can still be selected
  const label = button.textContent;
  button.hidden = false;
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", () => {
    const source = button.ownerDocument.getElementById(button.dataset.copy ?? "");
    const text = source instanceof HTMLInputElement ? source.value : (source?.textContent ?? "");
    navigator.clipboard.writeText(text.trim()).then(
      () => {
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = label), SAID_MS);
      },
      () => (button.textContent = "Select and copy it"),
    );
  });
}
