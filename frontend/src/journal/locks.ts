/** Web Locks: each tab run holds one for its journal, so that nobody takes a living tab's journal for left over. */

export interface Locks {
  /** Resolves with what gives it back; undefined when somebody has it and still has it after `waitMs`. */
  hold(name: string, waitMs?: number): Promise<(() => void) | undefined>;
  /** The names that are held now, by whichever tab. */
  held(): Promise<Set<string>>;
}

export function lockName(journal: string): string {
  return `webvm.journal.${journal}`;
}

export class WebLocks implements Locks {
  constructor(private readonly manager: LockManager) {}

  hold(name: string, waitMs = 0): Promise<(() => void) | undefined> {
    return new Promise((resolve, reject) => {
      const options: LockOptions =
        waitMs > 0 ? { signal: AbortSignal.timeout(waitMs) } : { ifAvailable: true };
      this.manager
        .request(name, options, (lock) => {
          if (!lock) {
            resolve(undefined);
            return undefined;
          }
          return new Promise<void>((release) => resolve(release));
        })
        .catch((error: unknown) => {
          if (error instanceof DOMException && error.name === "TimeoutError") resolve(undefined);
          else reject(error as Error);
        });
    });
  }

  async held(): Promise<Set<string>> {
    const { held } = await this.manager.query();
    return new Set(held?.map((lock) => lock.name ?? ""));
  }
}
