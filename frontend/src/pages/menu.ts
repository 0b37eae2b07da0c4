/** `<details data-menu>`: closes on Escape, on a click elsewhere and when the focus leaves it. */
export function installMenus(document: Document): void {
  for (const menu of document.querySelectorAll<HTMLDetailsElement>("details[data-menu]")) {
    document.addEventListener("pointerdown", (event) => {
      if (!menu.contains(event.target as Node)) menu.open = false;
    });
    menu.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !menu.contains(event.relatedTarget as Node)) menu.open = false;
    });
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !menu.open) return;
      menu.open = false;
      menu.querySelector("summary")?.focus();
    });
  }
}
