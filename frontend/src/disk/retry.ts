/** Fetching with time-outs, retries with exponential back-off and jitter, and a bound on what runs at once. */

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** Tries for what may pass (network, 5xx, 429): about six seconds of waiting in all. */
export const MAX_ATTEMPTS = 5;
/** Tries for what hardly will (404 and other refusals). */
export const REFUSED_ATTEMPTS = 3;
const FIRST_DELAY = 250;
const MAX_DELAY = 4_000;

/** Without a sign of life for so long a request is given up, ms. */
export const TIMEOUT = 15_000;

/** An answer that is not the bytes asked for. */
export class FetchFailure extends Error {
  override readonly name = "FetchFailure";
  constructor(
    message: string,
    /** HTTP status; 0 when there was no answer. */
    readonly status: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** How often such an answer is worth asking for. */
  get attempts(): number {
    const passing = this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
    return passing ? MAX_ATTEMPTS : REFUSED_ATTEMPTS;
  }
}

/** One request; `timeout` ms until the answer begins, and again between its pieces. */
export async function request(
  fetch: Fetch,
  url: string,
  init: RequestInit,
  timeout: number,
): Promise<{ response: Response; touch: () => void; done: () => void }> {
  const abort = new AbortController();
  let timer = setTimeout(() => abort.abort(), timeout);
  const done = (): void => clearTimeout(timer);
  const touch = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(), timeout);
  };
  try {
    const response = await fetch(url, { ...init, signal: abort.signal });
    if (!response.ok) {
      void response.body?.cancel().catch(() => undefined);
      throw new FetchFailure(`the server answered ${response.status}`, response.status);
    }
    touch();
    return { response, touch, done };
  } catch (error) {
    done();
    if (error instanceof FetchFailure) throw error;
    const reason = abort.signal.aborted
      ? `no answer within ${timeout / 1000} s`
      : "the server could not be reached";
    throw new FetchFailure(reason, 0, { cause: error });
  }
}

export interface Clock {
  sleep(milliseconds: number): Promise<void>;
  /** In [0, 1). */
  random(): number;
}

export const realClock: Clock = {
  sleep: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
  random: Math.random,
};

/** Runs `attempt` until it succeeds or its failure is not worth another try; rejects with the last failure. */
export async function withRetries<T>(attempt: (number: number) => Promise<T>, clock: Clock): Promise<T> {
  for (let number = 0; ; number++) {
    try {
      return await attempt(number);
    } catch (error) {
      const attempts = error instanceof FetchFailure ? error.attempts : 1;
      if (number + 1 >= attempts) throw error;
      // Full jitter: clients that failed together do not come back together.
      const ceiling = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** number);
      await clock.sleep(ceiling * (0.5 + clock.random() / 2));
    }
  }
}

/** At most `limit` tasks at once; the others wait in order. */
export class Gate {
  private running = 0;
  private readonly queue: (() => void)[] = [];

  constructor(private readonly limit: number) {}

  get waiting(): number {
    return this.queue.length;
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.running >= this.limit) await new Promise<void>((resolve) => this.queue.push(resolve));
    else this.running++;
    try {
      return await task();
    } finally {
      const next = this.queue.shift();
      if (next) next();
      else this.running--;
    }
  }
}
