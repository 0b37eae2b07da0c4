/**
 * Encryption of journals: AES-256-GCM with a fresh 96-bit nonce each time. The key of a journal is derived from the VM's
 * secret, which only the signed-in user can fetch; it is not extractable, so no script can read it back.
 */

/** What `POST /vms/{id}/journal-key` answers. */
export interface KeyAnswer {
  /** 32 bytes, base64. */
  key: string;
  owner: string;
}

/** What was read is not what was written. */
export class Damaged extends Error {
  override readonly name = "Damaged";
}

const NONCE = 12;
const TAG = 16;
const text = new TextEncoder();

/** The secret of one user's journals of one VM. */
export class JournalKey {
  private constructor(
    readonly owner: string,
    private readonly vm: string,
    /** Stands for the VM where anybody who has the browser could read it. */
    readonly tag: string,
    private readonly base: CryptoKey,
  ) {}

  static async from(answer: KeyAnswer, vm: string): Promise<JournalKey> {
    const raw = Uint8Array.from(atob(answer.key), (character) => character.charCodeAt(0));
    if (raw.length !== 32) throw new Damaged("the key has not its length");
    const base = await crypto.subtle.importKey("raw", raw, "HKDF", false, ["deriveBits", "deriveKey"]);
    raw.fill(0);
    const bits = await crypto.subtle.deriveBits(hkdf("", "vm"), base, 128);
    const tag = Array.from(new Uint8Array(bits), (byte) => byte.toString(16).padStart(2, "0")).join("");
    return new JournalKey(answer.owner, vm, tag, base);
  }

  async sealer(journal: string): Promise<Sealer> {
    const algorithm = { name: "AES-GCM", length: 256 };
    const usages: KeyUsage[] = ["encrypt", "decrypt"];
    const key = await crypto.subtle.deriveKey(hkdf(journal, "seal"), this.base, algorithm, false, usages);
    return new Sealer(key, [this.owner, this.vm, journal].join("|"));
  }
}

/** Seals and opens what belongs to one journal. */
export class Sealer {
  constructor(
    private readonly key: CryptoKey,
    private readonly place: string,
  ) {}

  /** Nonce, ciphertext, tag. It opens only as the same thing (`what`) of the same user, VM and journal. */
  async seal(what: string, plain: Uint8Array): Promise<Uint8Array> {
    const nonce = crypto.getRandomValues(new Uint8Array(NONCE));
    const sealed = await crypto.subtle.encrypt(this.algorithm(what, nonce), this.key, asBuffer(plain));
    const out = new Uint8Array(NONCE + sealed.byteLength);
    out.set(nonce);
    out.set(new Uint8Array(sealed), NONCE);
    return out;
  }

  /** Rejects with `Damaged`. */
  async open(what: string, sealed: Uint8Array): Promise<Uint8Array> {
    if (sealed.length < NONCE + TAG) throw new Damaged("too short");
    const algorithm = this.algorithm(what, asBuffer(sealed.subarray(0, NONCE)));
    try {
      return new Uint8Array(
        await crypto.subtle.decrypt(algorithm, this.key, asBuffer(sealed.subarray(NONCE))),
      );
    } catch {
      throw new Damaged(`${what} does not verify`);
    }
  }

  private algorithm(what: string, iv: Uint8Array<ArrayBuffer>): AesGcmParams {
    return { name: "AES-GCM", iv, additionalData: text.encode(`${this.place}|${what}`) };
  }
}

function hkdf(salt: string, info: string): HkdfParams {
  return {
    name: "HKDF",
    hash: "SHA-256",
    salt: text.encode(salt),
    info: text.encode(`webvm journal ${info}`),
  };
}

/** WebCrypto takes no view of shared memory, and the types say so. */
function asBuffer(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);
}
