/** Light or dark, and how much of the page can be seen: what CSS alone does not tell the terminal. */

import { themeFor } from "../terminal/theme";

export type Scheme = "light" | "dark";

const darkSystem = matchMedia("(prefers-color-scheme: dark)");

/** The person's choice on `<html data-theme>`, else the system's. */
export function currentScheme(): Scheme {
  const chosen = document.documentElement.dataset["theme"];
  if (chosen === "light" || chosen === "dark") return chosen;
  return darkSystem.matches ? "dark" : "light";
}

/** Calls `listener` at once and with every change. */
export function followScheme(listener: (scheme: Scheme) => void): void {
  const tell = (): void => {
    const scheme = currentScheme();
    document.documentElement.style.setProperty("--terminal-background", themeFor(scheme).background ?? "");
    listener(scheme);
  };
  darkSystem.addEventListener("change", tell);
  new MutationObserver(tell).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  tell();
}

/** Keeps the page as high as what a soft keyboard leaves visible. */
export function followVisibleHeight(): void {
  const viewport = window.visualViewport;
  if (!viewport) return;
  const fit = (): void => {
    // Zoomed in by hand: the page keeps its size and is moved about.
    if (viewport.scale > 1.05) return;
    document.documentElement.style.setProperty("--visible", `${Math.round(viewport.height)}px`);
    window.scrollTo(0, 0);
  };
  viewport.addEventListener("resize", fit);
  fit();
}
