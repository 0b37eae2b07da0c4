/** What the page of a publish job shows, worked out from the API's answer; no DOM here. */

export interface JobLine {
  seq: number;
  text: string;
}

/** `GET /api/v1/admin/publish-jobs/<id>?after_log=<seq>`; `log` has the lines after `seq`. */
export interface Job {
  state: "queued" | "running" | "succeeded" | "failed" | "cancelled";
  step: string;
  done: number;
  total: number;
  unit: string;
  error: string;
  log: JobLine[];
}

const STATES: Record<Job["state"], string> = {
  queued: "Waiting for the worker",
  running: "Publishing",
  succeeded: "Published",
  failed: "Failed",
  cancelled: "Cancelled",
};

export const isOver = (job: Job): boolean => !["queued", "running"].includes(job.state);

export const stateWords = (job: Job): string => STATES[job.state] ?? job.state;

export const badgeClass = (job: Job): string =>
  ({
    queued: "badge",
    running: "badge badge-ok badge-live",
    succeeded: "badge badge-ok",
    failed: "badge badge-danger",
    cancelled: "badge badge-warn",
  })[job.state] ?? "badge";

/** Percent done of the step, or null when nobody knows how much there is. */
export function percent(job: Job): number | null {
  if (job.state === "succeeded") return 100;
  return job.total > 0 ? Math.min(100, Math.max(0, Math.floor((100 * job.done) / job.total))) : null;
}

/** Bytes as people read them: 1.5 MB. */
export function humanBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** How far the step is: "12.3 MB of 80.0 MB", "3 of 120 packages", or "" when there is nothing to count. */
export function amount(job: Job): string {
  if (isOver(job) || (job.done <= 0 && job.total <= 0)) return "";
  const isBytes = job.unit === "bytes" || job.unit === "B";
  const show = isBytes ? humanBytes : String;
  const unit = isBytes || !job.unit ? "" : ` ${job.unit}`;
  return job.total > 0 ? `${show(job.done)} of ${show(job.total)}${unit}` : `${show(job.done)}${unit}`;
}

/** The next wait in ms: a second while all is well, longer and longer (to 15 s) while the service does not answer. */
export const nextWait = (failures: number): number => Math.min(15_000, 1000 * 2 ** Math.min(failures, 4));
