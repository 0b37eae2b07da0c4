/** The page a share link opens (`/s/#<secret>`): shows what is shared before the person takes a copy. fragment.ts has put
 * the secret into the form; the form itself is what opens the copy. */

import { fetchAhead, type Pack } from "./ahead";
import { keepSecret } from "./fragment";

interface Preview {
  name: string;
  image: string;
  message: string;
  shared_by: string | null;
  saved_at: string;
  allow_guests: boolean;
  thumbnail: string | null;
  warm_pack: Pack | null;
}

/** What is on its way while the person reads; leaving the page would break it off. */
let coming: Promise<void> | undefined;

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
    if (secret.value) void preview(form);
  };
  show();
  addEventListener("hashchange", show);
  // Whoever signs in first, or is told to, finds the secret again afterwards.
  const keep = (): void => keepSecret(`#${secret.value}`, location.pathname, sessionStorage);
  const wait = (waiting: boolean): void => {
    const button = form.querySelector<HTMLButtonElement>("button.button-primary");
    if (button) button.disabled = waiting;
    const box = form.querySelector<HTMLElement>("[data-share-fetching]");
    if (box) box.hidden = !waiting;
  };
  form.addEventListener("submit", (event) => {
    keep();
    if (!coming) return;
    event.preventDefault();
    wait(true);
    void Promise.all([exchange(form), coming]).then(([vm]) => {
      if (vm) location.assign(`/vms/${vm}/`);
      // The form asks again, and its page says what is wrong.
      else form.submit();
    });
  });
  // Back from the console: the page is as it was left.
  addEventListener("pageshow", () => wait(false));
  form.querySelector("[data-keep-fragment]")?.addEventListener("click", keep);
}

/** The VM one gets, or undefined when it is not to be had in this way. */
async function exchange(form: HTMLFormElement): Promise<string | undefined> {
  try {
    const answer = await ask(form, "exchange");
    if (!answer.ok) return undefined;
    return ((await answer.json()) as { vm: { id: string } }).vm.id;
  } catch {
    return undefined;
  }
}

/** `POST /links/…` with the form's secret. */
function ask(form: HTMLFormElement, what: "preview" | "exchange"): Promise<Response> {
  const value = (name: string): string =>
    form.querySelector<HTMLInputElement>(`input[name=${name}]`)?.value ?? "";
  return fetch(`/api/v1/links/${what}`, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Accept: "application/json",
      "X-CSRFToken": value("csrfmiddlewaretoken"),
    },
    body: JSON.stringify({ secret: value("secret") }),
  });
}

async function preview(form: HTMLFormElement): Promise<void> {
  const part = <T extends HTMLElement>(name: string): T | null =>
    form.querySelector<T>(`[data-share-${name}]`);
  const problem = part("problem");
  const say = (text: string): void => {
    if (!problem) return;
    problem.textContent = text;
    problem.hidden = !text;
  };
  say("");
  let answer: Response;
  try {
    answer = await ask(form, "preview");
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
    return;
  }
  const fetched = form.querySelector<HTMLElement>("[data-share-fetched]");
  if (!shared.warm_pack) return;
  coming = fetchAhead(shared.warm_pack, (bytes) => {
    if (fetched) fetched.textContent = `${(bytes / 1e6).toFixed(0)} MB so far`;
  }).finally(() => (coming = undefined));
}
