/** Links whose secret is in the URL's fragment, where no server log and no link previewer sees it. The secret is put
 * into the form and taken out of the address bar and the history; a person sends it with the button. */

/** The secret of a fragment such as `#abc`, or "" when it holds none. */
export function secretOf(hash: string): string {
  const secret = hash.replace(/^#/, "");
  return /^[\w-]{16,128}$/.test(secret) ? secret : "";
}

export function installFragmentForms(document: Document): void {
  const take = (): void => {
    const secret = secretOf(location.hash);
    if (!secret) return;
    for (const form of document.querySelectorAll<HTMLFormElement>("form[data-fragment-form]")) {
      const input = form.querySelector<HTMLInputElement>("input[name=secret]");
      if (!input) continue;
      input.value = secret;
      const field = form.querySelector<HTMLElement>("[data-fragment-field]");
      if (field) field.hidden = true;
      history.replaceState(null, "", location.pathname);
      form.querySelector<HTMLButtonElement>("button")?.focus();
    }
    // Signing in first: the fragment comes along, and the browser keeps it across the redirects that follow.
    for (const link of document.querySelectorAll<HTMLAnchorElement>("a[data-keep-fragment]")) {
      link.href = withNextFragment(link.href, secret);
    }
  };
  take();
  addEventListener("hashchange", take);
}

/** `…?next=/join/` → `…?next=/join/%23<secret>`, so that the page after signing in has the secret again. */
export function withNextFragment(href: string, secret: string): string {
  const url = new URL(href);
  const next = url.searchParams.get("next");
  if (next) url.searchParams.set("next", `${next.split("#")[0]}#${secret}`);
  return url.href;
}
