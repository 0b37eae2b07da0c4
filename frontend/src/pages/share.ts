/** The page a share link opens (`/s/#<secret>`): shows what is shared before the person takes a copy. fragment.ts has put
 * the secret into the form; the form itself is what opens the copy. */

import { keepSecret } from "./fragment";

interface Preview {
  name: string;
  image: string;
  message: string;
  shared_by: string | null;
  saved_at: string;
  allow_guests: boolean;
  thumbnail: string | null;
}

/** "Debian 12, shared by Ada, saved 3 May 2026, 10:00: “before the exam”". */
export function aboutLine(preview: Preview, locale?: string): string {
  const saved = new Date(preview.saved_at).toLocaleString(locale, {
    dateStyle: "medium",
    timeStyle: "short",
  });
  const by = preview.shared_by ? `, shared by ${preview.shared_by}` : "";
  return `${preview.image}${by}, saved ${saved}${preview.message ? `: “${preview.message}”` : ""}`;
}

export function installShare(document: Document): void {
  const form = document.querySelector<HTMLFormElement>("form[data-share]");
  const secret = form?.querySelector<HTMLInputElement>("input[name=secret]");
  if (!form || !secret) return;
  const show = (): void => {
    if (secret.value) void preview(form, secret.value);
  };
  show();
  addEventListener("hashchange", show);
  // Whoever signs in first, or is told to, finds the secret again afterwards.
  const keep = (): void => keepSecret(`#${secret.value}`, location.pathname, sessionStorage);
  form.addEventListener("submit", keep);
  form.querySelector("[data-keep-fragment]")?.addEventListener("click", keep);
}

async function preview(form: HTMLFormElement, secret: string): Promise<void> {
  const part = <T extends HTMLElement>(name: string): T | null =>
    form.querySelector<T>(`[data-share-${name}]`);
  const token = form.querySelector<HTMLInputElement>("input[name=csrfmiddlewaretoken]")?.value ?? "";
  const problem = part("problem");
  const say = (text: string): void => {
    if (!problem) return;
    problem.textContent = text;
    problem.hidden = !text;
  };
  say("");
  let answer: Response;
  try {
    answer = await fetch("/api/v1/links/preview", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": token },
      body: JSON.stringify({ secret }),
    });
  } catch {
    return; // offline: the button still works when the network is back
  }
  if (!answer.ok) {
    if (answer.status === 404) {
      const body = (await answer.json()) as { error?: { message?: string } };
      say(body.error?.message ?? "This link does not work.");
    }
    return;
  }
  const shared = (await answer.json()) as Preview;
  const name = part("name");
  if (name) name.textContent = shared.name;
  const about = part("about");
  if (about) about.textContent = aboutLine(shared);
  const picture = part<HTMLImageElement>("picture");
  if (picture && shared.thumbnail) {
    picture.src = shared.thumbnail;
    picture.hidden = false;
  }
  const box = part("preview");
  if (box) box.hidden = false;
  const guest = part("guest");
  const open = part("open");
  if (guest && open && !shared.allow_guests) {
    guest.textContent = "Its owner shares it with people who are signed in. Sign in to open your copy.";
    open.hidden = true;
  }
}
