/** What a machine that is being saved gives, and what a restored one is made from. */

/** A block's number, and its 1024 words from `words[at]` on: valid until the machine runs again. */
export interface StateBlock {
  number: number;
  words: Int32Array;
  at: number;
}

/** Why a machine cannot be saved or restored. */
export class StateError extends Error {
  override readonly name = "StateError";
  readonly code: "bad_state" | "state_version" | "memory_size";

  constructor(code: StateError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The content of block `number` (4096 bytes); undefined: zeros. */
export type ReadBlock = (number: number) => Uint8Array | undefined;
