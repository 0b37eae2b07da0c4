/** What can go wrong with a disk. Each has a stable `code`; the message is for the person and says what to do. */

/** An index node that is not in the canonical form of docs/design/formats.md. */
export class BadIndex extends Error {
  override readonly name = "BadIndex";
  readonly code = "bad_index";
}

/** A piece of the disk or memory that could not be had, after all retries. Reading it again may work later. */
export class DiskError extends Error {
  override readonly name = "DiskError";
  readonly code = "disk_error";
  constructor(
    /** The chunk, node or pack that is missing. */
    readonly digest: string,
    reason: string,
    options?: ErrorOptions,
  ) {
    super(
      `A piece of this machine (chunk ${digest.slice(0, 12)}…) could not be read: ${reason}. ` +
        "Check the connection and try again; if it stays so, resume an earlier snapshot.",
      options,
    );
  }
}
