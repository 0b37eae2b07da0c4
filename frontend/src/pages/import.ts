/** The page that imports a machine: sends the chosen file, then follows the import. `<form data-import="<api url>">` with
 * `data-job-url` (the imports' address) and, when one is under way, its id as `data-running`. All words are set as text. */
import { humanBytes, nextWait } from "./job";

/** `GET /api/v1/imports/<id>`. */
export interface Import {
  id: string;
  state: "receiving" | "queued" | "running" | "succeeded" | "failed" | "cancelled";
  step: string;
  done: number;
  total: number;
  error: string;
  vm: string | null;
}

export const isOver = (job: Import): boolean => ["succeeded", "failed", "cancelled"].includes(job.state);

/** "Checking the archive: 1.2 GB of 2.4 GB". */
export function importWords(job: Import): string {
  if (job.state === "succeeded") return "Imported.";
  if (job.state === "cancelled") return "Cancelled.";
  if (job.state === "failed") return "";
  if (job.state === "queued") return "Waiting for the worker";
  const amount = job.total > 0 ? `${humanBytes(job.done)} of ${humanBytes(job.total)}` : humanBytes(job.done);
  return `${job.step}: ${amount}`;
}

/** Percent of the step, null when nobody knows how much there is. */
export function importPercent(job: Import): number | null {
  return job.total > 0 ? Math.min(100, Math.floor((100 * job.done) / job.total)) : null;
}

/** The sentence in an error's body, or one of our own. */
export function sentenceOf(status: number, body: string): string {
  try {
    const parsed = JSON.parse(body) as { error?: { message?: unknown } };
    if (typeof parsed.error?.message === "string") return parsed.error.message;
  } catch {
    // no JSON: an answer of something in between
  }
  return `The service answered ${status}. Try again in a moment.`;
}

export function installImport(document: Document): void {
  const form = document.querySelector<HTMLFormElement>("form[data-import]");
  if (form) new ImportForm(form).install();
}

class ImportForm {
  private request: XMLHttpRequest | undefined;
  private following: string | undefined;
  private failures = 0;
  /** Names the attempt: the same file sent again, because the answer was lost, is the same import. */
  private key = "";

  constructor(private readonly form: HTMLFormElement) {}

  install(): void {
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.part("cancel").addEventListener("click", () => void this.cancel());
    this.file.addEventListener("change", () => {
      this.key = "";
    });
    addEventListener("beforeunload", (event) => {
      if (this.request) event.preventDefault();
    });
    if (this.form.dataset.running) this.follow(this.form.dataset.running);
  }

  private get file(): HTMLInputElement {
    return this.form.querySelector<HTMLInputElement>("input[type=file]")!;
  }

  private part<T extends HTMLElement>(name: string): T {
    return this.form.querySelector<T>(`[data-import-part="${name}"]`)!;
  }

  private get csrf(): string {
    return document.querySelector<HTMLMetaElement>('meta[name="csrf-token"]')?.content ?? "";
  }

  private send(): void {
    const file = this.file.files?.[0];
    if (!file) return;
    const limit = Number(this.form.dataset.maxBytes);
    if (file.size > limit) {
      this.fail(`The file has ${humanBytes(file.size)}; at most ${humanBytes(limit)} are taken.`);
      return;
    }
    const url = new URL(this.form.dataset.import ?? "", location.href);
    const name = this.form.querySelector<HTMLInputElement>("#name")?.value.trim();
    if (name) url.searchParams.set("name", name);
    this.key ||= crypto.randomUUID?.() ?? "";
    if (this.key) url.searchParams.set("key", this.key);
    const request = new XMLHttpRequest();
    this.request = request;
    request.upload.onprogress = ({ loaded, total }) => {
      this.show(`Sending: ${humanBytes(loaded)} of ${humanBytes(total)}`, (100 * loaded) / total);
    };
    request.onload = () => {
      this.request = undefined;
      if (request.status === 202) this.follow((JSON.parse(request.responseText) as Import).id);
      else this.fail(sentenceOf(request.status, request.responseText));
    };
    request.onerror = () => {
      this.request = undefined;
      this.fail("The connection broke off. Press Import to send the file again.");
    };
    request.onabort = () => {
      this.request = undefined;
      this.key = "";
      this.rest("Cancelled.");
    };
    request.open("POST", url);
    request.setRequestHeader("X-CSRFToken", this.csrf);
    request.setRequestHeader("Content-Type", "application/zstd");
    request.send(file);
    this.show("Sending", 0);
  }

  private follow(id: string): void {
    this.following = id;
    this.show("Waiting for the worker", null);
    void this.poll(id);
  }

  private async poll(id: string): Promise<void> {
    try {
      const answer = await fetch(this.jobUrl(id), { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      this.failures = 0;
      if (this.took((await answer.json()) as Import)) return;
    } catch {
      this.failures += 1;
      this.show("The service does not answer; trying again…", null);
    }
    setTimeout(() => void this.poll(id), nextWait(this.failures));
  }

  /** Whether the import is over. */
  private took(job: Import): boolean {
    if (!isOver(job)) {
      this.show(importWords(job), importPercent(job));
      return false;
    }
    this.following = undefined;
    this.key = "";
    if (job.state === "failed") this.fail(job.error);
    else this.rest(importWords(job));
    if (job.vm) {
      const open = this.part<HTMLAnchorElement>("open");
      open.href = `/vms/${encodeURIComponent(job.vm)}/`;
      open.hidden = false;
      this.part("send").hidden = true;
      open.focus();
    }
    return true;
  }

  private async cancel(): Promise<void> {
    if (this.request) this.request.abort();
    else if (this.following) {
      const headers = { "X-CSRFToken": this.csrf };
      await fetch(this.jobUrl(this.following), { method: "DELETE", headers }).catch(() => undefined);
    }
  }

  private jobUrl(id: string): string {
    return `${this.form.dataset.jobUrl ?? ""}/${encodeURIComponent(id)}`;
  }

  private show(words: string, percent: number | null): void {
    const bar = this.part("bar");
    bar.hidden = false;
    bar.toggleAttribute("data-busy", percent === null);
    bar.style.setProperty("--value", String(percent ?? 0));
    if (percent === null) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(Math.floor(percent)));
    bar.setAttribute("aria-valuetext", words);
    this.say(words, "");
    this.busy(true);
  }

  private fail(sentence: string): void {
    this.rest("");
    this.say("", sentence);
  }

  private rest(words: string): void {
    this.part("bar").hidden = true;
    this.say(words, "");
    this.busy(false);
  }

  private say(words: string, error: string): void {
    this.part("status").textContent = words;
    this.part("error").textContent = error;
    this.part("error").hidden = !error;
  }

  private busy(is: boolean): void {
    this.part<HTMLButtonElement>("send").disabled = is;
    this.part("cancel").hidden = !is;
    for (const input of this.form.querySelectorAll("input")) input.disabled = is;
  }
}
