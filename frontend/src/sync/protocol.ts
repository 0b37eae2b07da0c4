/** The messages of docs/design/protocol.md, as the client sees them. */

import { Bug, Expected } from "./errors";

/** The most digests in one `negotiate`. */
export const NEGOTIATE_BATCH = 4096;
/** The most frames in one `place` or `uploaded`; half of what the service takes, so that batches overlap well. */
export const PLACE_BATCH = 16;
export const CHUNK_FRAME = 1;

export const CLOSE = {
  badFrame: 4400,
  signedOut: 4401,
  notFound: 4404,
  takenOver: 4409,
  tooFast: 4429,
} as const;

export interface LeaseAnswer {
  epoch: number;
  /** Seconds. */
  expires_in: number;
  /** The VM's head snapshot, null for a fresh VM. */
  head: string | null;
  /** Chunk frames that may be under way at once. */
  credit: number;
}

/** A snapshot as the API and the commit's answer give it; more fields may follow. */
export interface SnapshotInfo {
  id: string;
  message: string;
  created_at: string;
}

export interface RemoteError {
  code: string;
  message: string;
  [detail: string]: unknown;
}

/** Who has the VM, as the service says it. */
export interface Holder {
  holder: string;
  /** ISO time. */
  since: string;
  /** It is the same user: in another tab, browser or device. */
  yours: boolean;
}

/** What the service tells the holder of a lease without being asked. */
export type Notice =
  /** Somebody wants to take over: save and give the lease back. */
  | { notice: "asked"; by: string; at: string }
  /** Somebody has taken over; the connection is closed next. */
  | { notice: "taken_over"; by: Holder }
  /** Somebody watches. Repeated every few seconds; `fresh`: they need a whole screen. */
  | { notice: "watched"; fresh: boolean };

export type ServerMessage =
  | { kind: "answer"; id: number; ok: true; body: Record<string, unknown> }
  | { kind: "answer"; id: number; ok: false; error: RemoteError }
  | { kind: "stored"; digest: string }
  | { kind: "refused"; digest: string; error: RemoteError }
  | { kind: "hint"; seq: number; hint: string }
  | { kind: "notice"; notice: Notice };

/** Reads one text frame. Throws `Bug` on anything that is not in the protocol. */
export function parseMessage(text: string): ServerMessage {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Bug("the service sent a frame that is not JSON");
  }
  if (!isRecord(value)) throw new Bug("the service sent a frame that is not an object");
  if (typeof value["id"] === "number") {
    if (value["ok"] === true) return { kind: "answer", id: value["id"], ok: true, body: value };
    return { kind: "answer", id: value["id"], ok: false, error: parseError(value["error"]) };
  }
  switch (value["type"]) {
    case "stored":
      return { kind: "stored", digest: String(value["digest"]) };
    case "refused":
      return { kind: "refused", digest: String(value["digest"]), error: parseError(value["error"]) };
    case "hint":
      return { kind: "hint", seq: Number(value["seq"]), hint: String(value["kind"]) };
    case "asked":
      return {
        kind: "notice",
        notice: { notice: "asked", by: String(value["by"]), at: String(value["at"]) },
      };
    case "taken_over":
      return { kind: "notice", notice: { notice: "taken_over", by: holderIn(value) } };
    case "watched":
      return { kind: "notice", notice: { notice: "watched", fresh: value["fresh"] === true } };
    default:
      throw new Bug(`the service sent a message of an unknown type: ${String(value["type"])}`);
  }
}

/** A chunk upload: `u8 1`, the raw digest, the zstd frame. */
export function chunkFrame(digest: string, frame: Uint8Array): Uint8Array<ArrayBuffer> {
  if (!/^[0-9a-f]{64}$/.test(digest)) throw new Bug(`not a digest: ${digest}`);
  const out = new Uint8Array(33 + frame.length);
  out[0] = CHUNK_FRAME;
  for (let i = 0; i < 32; i++) out[1 + i] = parseInt(digest.slice(2 * i, 2 * i + 2), 16);
  out.set(frame, 33);
  return out;
}

/** What the service has refused, as an error for the person. */
export function refusal(error: RemoteError): Expected {
  const { code, message, ...details } = error;
  return new Expected(code, message, details);
}

/** Reads `holder`, `since` and `yours` out of an answer; what is missing is "Somebody", at no time we know of. */
export function holderIn(fields: Readonly<Record<string, unknown>>): Holder {
  return {
    holder: typeof fields["holder"] === "string" ? fields["holder"] : "Somebody",
    since: typeof fields["since"] === "string" ? fields["since"] : "",
    yours: fields["yours"] === true,
  };
}

function parseError(value: unknown): RemoteError {
  if (isRecord(value) && typeof value["code"] === "string") {
    const message = typeof value["message"] === "string" ? value["message"] : value["code"];
    return { ...value, code: value["code"], message };
  }
  return { code: "error", message: "The service refused without saying why." };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
