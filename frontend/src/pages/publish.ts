/** The live page of a publish job: `<section data-publish-job="<api url>">` with, inside it, elements marked
 * `data-job="state"`, `step`, `amount`, `bar` (role=progressbar), `error`, `log`; those that are missing are not shown.
 * Everything the job says is set as text, never as markup. */
import { amount, badgeClass, isOver, nextWait, percent, stateWords, type Job } from "./job";

const AT_END_PX = 40;

export function installPublishJob(document: Document): void {
  for (const root of document.querySelectorAll<HTMLElement>("[data-publish-job]")) follow(root);
}

function follow(root: HTMLElement): void {
  const find = (name: string): HTMLElement | null => root.querySelector(`[data-job="${name}"]`);
  const log = find("log");
  let lastSeq = Number(log?.dataset.lastSeq ?? -1);
  let failures = 0;

  const show = (job: Job): void => {
    const state = find("state");
    if (state) {
      state.className = badgeClass(job);
      setText(state, stateWords(job));
    }
    setText(find("step"), job.step);
    setText(find("amount"), amount(job));
    const bar = find("bar");
    if (bar) showBar(bar, job);
    const error = find("error");
    if (error) {
      error.hidden = !job.error;
      setText(error, job.error);
    }
    appendLines(job);
  };

  const appendLines = (job: Job): void => {
    if (!log) return;
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < AT_END_PX;
    for (const line of job.log) {
      if (line.seq <= lastSeq) continue;
      lastSeq = line.seq;
      log.append(`${line.text}\n`);
    }
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  };

  const poll = async (): Promise<void> => {
    try {
      const url = new URL(root.dataset.publishJob ?? "", location.href);
      url.searchParams.set("after_log", String(lastSeq));
      const response = await fetch(url, { headers: { Accept: "application/json" } });
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      const job = (await response.json()) as Job;
      failures = 0;
      show(job);
      if (isOver(job)) {
        location.reload(); // the buttons and links of a finished job come from the server
        return;
      }
    } catch {
      failures += 1;
      setText(find("amount"), "The service does not answer; trying again…");
    }
    setTimeout(() => void poll(), nextWait(failures));
  };
  void poll();
}

function showBar(bar: HTMLElement, job: Job): void {
  const value = percent(job);
  bar.hidden = isOver(job) && job.state !== "succeeded";
  bar.toggleAttribute("data-busy", value === null && job.state === "running");
  bar.style.setProperty("--value", String(value ?? 0));
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  if (value === null) bar.removeAttribute("aria-valuenow");
  else bar.setAttribute("aria-valuenow", String(value));
  bar.setAttribute("aria-valuetext", [job.step, amount(job)].filter(Boolean).join(": "));
}

function setText(element: HTMLElement | null, text: string): void {
  if (element && element.textContent !== text) element.textContent = text;
}
