/** Links whose secret is in the URL's fragment, where no server log and no link previewer sees it. The secret is put
 * into the form and taken out of the address bar and the history; a person sends it with the button. Who has to sign in
 * first finds it again afterwards: until then it is kept in the tab's session storage. */

/** The secret of a fragment such as `#abc`, or "" when it holds none. */
export function secretOf(hash: string): string {
  const secret = hash.replace(/^#/, "");
  return /^[\w-]{16,128}$/.test(secret) ? secret : "";
}

/** The secret of this page: the fragment's, else the one kept before signing in, which is forgotten by that. */
export function takeSecret(hash: string, path: string, kept: Storage): string {
  const key = `secret ${path}`;
  const secret = secretOf(hash) || (kept.getItem(key) ?? "");
  kept.removeItem(key);
  return secret;
}

/** Keep a fragment's secret for when the person is back at this page, signed in. */
export function keepSecret(hash: string, path: string, kept: Storage): void {
  const secret = secretOf(hash);
  if (secret) kept.setItem(`secret ${path}`, secret);
}

export function installFragmentForms(document: Document): void {
  const form = document.querySelector<HTMLFormElement>("form[data-fragment-form]");
  const input = form?.querySelector<HTMLInputElement>("input[name=secret]");
  const look = (): void => {
    if (form && input) {
      const secret = takeSecret(location.hash, location.pathname, sessionStorage);
      if (!secret) return;
      input.value = secret;
      const field = form.querySelector<HTMLElement>("[data-fragment-field]");
      if (field) field.hidden = true;
      form.querySelector<HTMLButtonElement>("button")?.focus();
    } else if (document.querySelector("[data-keep-fragment]")) {
      keepSecret(location.hash, location.pathname, sessionStorage);
    } else {
      return;
    }
    if (location.hash) history.replaceState(null, "", location.pathname);
  };
  look();
  addEventListener("hashchange", look);
}
