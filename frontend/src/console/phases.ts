/** When what happened, in ms since the navigation began; also as `performance.mark` for the browser's own tools. */

export type Phase =
  "script" | "journal" | "descriptor" | "lease" | "started" | "screen_restored" | "first_output" | "usable";

export class Phases {
  private readonly times: Partial<Record<Phase, number>> = {};

  /** Only the first time counts. */
  mark(phase: Phase): void {
    if (this.times[phase] !== undefined) return;
    this.times[phase] = Math.round(performance.now());
    performance.mark(`webvm:${phase}`);
  }

  all(): Partial<Record<Phase, number>> {
    return { ...this.times };
  }
}
