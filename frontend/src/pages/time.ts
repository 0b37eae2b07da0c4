/** `<time data-relative>`: "3 minutes ago", kept up to date; the exact time stays as its tooltip. */

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 365 * 86400],
  ["month", 30 * 86400],
  ["week", 7 * 86400],
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
];
const EVERY_MS = 30_000;

/** Words for a moment seen from `now` (both in ms since 1970), past or future. */
export function relativeTime(moment: number, now: number, locale = "en"): string {
  const seconds = (moment - now) / 1000;
  const words = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  for (const [unit, size] of STEPS) {
    if (Math.abs(seconds) < size) continue;
    // An end in 6.99 days is in 7 days; what was 1.9 hours ago is 1 hour ago.
    return words.format(seconds > 0 ? Math.round(seconds / size) : Math.trunc(seconds / size), unit);
  }
  return seconds > 0 ? "in less than a minute" : "just now";
}

export function installTimes(document: Document): void {
  const update = (): void => {
    for (const element of document.querySelectorAll<HTMLTimeElement>("time[data-relative]")) {
      const moment = Date.parse(element.dateTime);
      if (Number.isNaN(moment)) continue;
      const text = relativeTime(moment, Date.now());
      if (element.textContent !== text) element.textContent = text;
      element.title ||= new Date(moment).toLocaleString();
    }
  };
  update();
  setInterval(update, EVERY_MS);
}
