/** Three kinds of failure, never mixed: cancelled (say nothing), expected (tell the person), bug (everything else). */

/** The person, or the page going away, stopped the work: nothing to report. */
export class Cancelled extends Error {
  override readonly name = "Cancelled";
  constructor(message = "cancelled") {
    super(message);
  }
}

/** A foreseen failure: `code` is the server's or ours, `message` a sentence for the person, `details` the answer's other fields. */
export class Expected extends Error {
  override readonly name: string = "Expected";
  constructor(
    readonly code: string,
    message: string,
    readonly details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
  }
}

/** The connection went away before the answer came. Whether the request was carried out is not known. */
export class ConnectionLost extends Expected {
  override readonly name = "ConnectionLost";
  constructor(reason: string) {
    super("connection_lost", `The connection to the service was lost (${reason}).`);
  }
}

/** What cannot happen when both sides keep to the protocol. */
export class Bug extends Error {
  override readonly name = "Bug";
}

/** Turns whatever was thrown into one sentence for a person. Errors with a `code` (ours, the machine's) are such sentences already. */
export function describe(error: unknown): string {
  if (error instanceof Error && "code" in error && typeof error.code === "string") return error.message;
  return `Something went wrong that should not: ${error instanceof Error ? error.message : String(error)}`;
}
