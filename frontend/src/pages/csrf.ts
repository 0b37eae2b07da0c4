/** The CSRF token of the page, for requests that scripts send. */
export function csrfToken(document: Document): string {
  return document.querySelector<HTMLMetaElement>("meta[name=csrf-token]")?.content ?? "";
}
