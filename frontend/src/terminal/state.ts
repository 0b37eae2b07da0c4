/** How a terminal's screen travels inside a snapshot: one line of JSON (version, size), then the escape sequences that draw it. */

const VERSION = 1;

export interface SavedTerminal {
  columns: number;
  rows: number;
  /** What to write into an empty terminal of that size. */
  content: string;
}

export function encodeTerminal(saved: SavedTerminal): Uint8Array {
  const head = JSON.stringify({ version: VERSION, columns: saved.columns, rows: saved.rows });
  return new TextEncoder().encode(`${head}\n${saved.content}`);
}

/** Undefined when the bytes are of another version or not ours: then the terminal starts empty. */
export function decodeTerminal(bytes: Uint8Array): SavedTerminal | undefined {
  const text = new TextDecoder().decode(bytes);
  const end = text.indexOf("\n");
  if (end < 0 || end > 200) return undefined;
  try {
    const head = JSON.parse(text.slice(0, end)) as Record<string, unknown>;
    const { version, columns, rows } = head;
    if (version !== VERSION || !isSize(columns) || !isSize(rows)) return undefined;
    return { columns, rows, content: text.slice(end + 1) };
  } catch {
    return undefined;
  }
}

function isSize(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 2 && value <= 1000;
}
