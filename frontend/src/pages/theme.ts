/** Light and dark: the system's choice until somebody presses the toggle; the choice is a cookie, so that the server
 * renders the page in it and nothing flashes. */

export type Theme = "light" | "dark";

/** The other one of what is shown now. */
export function otherTheme(chosen: string | undefined, systemIsDark: boolean): Theme {
  const shown = chosen === "light" || chosen === "dark" ? chosen : systemIsDark ? "dark" : "light";
  return shown === "dark" ? "light" : "dark";
}

export function installTheme(document: Document): void {
  const root = document.documentElement;
  for (const button of document.querySelectorAll<HTMLButtonElement>("[data-theme-toggle]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const theme = otherTheme(root.dataset.theme, matchMedia("(prefers-color-scheme: dark)").matches);
      root.dataset.theme = theme;
      document.cookie = `theme=${theme}; path=/; max-age=31536000; samesite=lax`;
    });
  }
}
