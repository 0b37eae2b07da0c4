/**
 * How the terminals' screens travel inside a snapshot: one line of JSON (version, sizes), then the escape sequences that draw
 * them. Version 1 is one terminal, all that a `pc` has; version 2 several, one after the other.
 */

const ONE = 1;
const SEVERAL = 2;
/** More than the first line of as many terminals as a machine may have. */
const MOST_HEAD = 8192;

export interface SavedTerminal {
  columns: number;
  rows: number;
  /** What to write into an empty terminal of that size. */
  content: string;
}

export interface SavedScreens {
  /** The number of the terminal that was shown. */
  shown: number;
  /** By number. */
  screens: ReadonlyMap<number, SavedTerminal>;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function encodeTerminal(saved: SavedTerminal): Uint8Array {
  const head = JSON.stringify({ version: ONE, columns: saved.columns, rows: saved.rows });
  return encoder.encode(`${head}\n${saved.content}`);
}

/** As many as fit into `mostBytes`: the shown one first, then in their order. */
export function encodeScreens({ shown, screens }: SavedScreens, mostBytes: number): Uint8Array {
  const order = [...screens].sort(([a], [b]) => Number(b === shown) - Number(a === shown) || a - b);
  const terminals: object[] = [];
  let head = headOf(shown, terminals);
  let contents: Uint8Array[] = [];
  let size = 0;
  for (const [terminal, { columns, rows, content }] of order) {
    const bytes = encoder.encode(content);
    const longer = headOf(shown, [...terminals, { terminal, columns, rows, bytes: bytes.length }]);
    if (longer.length + size + bytes.length > mostBytes) continue;
    terminals.push({ terminal, columns, rows, bytes: bytes.length });
    head = longer;
    contents = [...contents, bytes];
    size += bytes.length;
  }
  const all = new Uint8Array(head.length + size);
  all.set(head);
  let at = head.length;
  for (const bytes of contents) {
    all.set(bytes, at);
    at += bytes.length;
  }
  return all;
}

function headOf(shown: number, terminals: object[]): Uint8Array {
  return encoder.encode(`${JSON.stringify({ version: SEVERAL, shown, terminals })}\n`);
}

/** Undefined when the bytes are of another version or not ours: then the terminals start empty. */
export function decodeScreens(bytes: Uint8Array): SavedScreens | undefined {
  const end = bytes.subarray(0, MOST_HEAD).indexOf(10);
  if (end < 0) return undefined;
  try {
    const head = JSON.parse(decoder.decode(bytes.subarray(0, end))) as Record<string, unknown>;
    const contents = bytes.subarray(end + 1);
    if (head["version"] === ONE) {
      const screen = screenOf(head, contents);
      return screen && { shown: 0, screens: new Map([[0, screen]]) };
    }
    return head["version"] === SEVERAL ? several(head, contents) : undefined;
  } catch {
    return undefined;
  }
}

function several(
  { shown, terminals }: Record<string, unknown>,
  contents: Uint8Array,
): SavedScreens | undefined {
  if (!isNumber(shown, 0) || !Array.isArray(terminals)) return undefined;
  const screens = new Map<number, SavedTerminal>();
  let at = 0;
  for (const each of terminals as Record<string, unknown>[]) {
    const { terminal, bytes } = each;
    if (!isNumber(terminal, 0) || !isNumber(bytes, 0, contents.length - at)) return undefined;
    const screen = screenOf(each, contents.subarray(at, at + bytes));
    if (!screen || screens.has(terminal)) return undefined;
    screens.set(terminal, screen);
    at += bytes;
  }
  return at === contents.length ? { shown, screens } : undefined;
}

function screenOf(
  { columns, rows }: Record<string, unknown>,
  content: Uint8Array,
): SavedTerminal | undefined {
  if (!isNumber(columns, 2) || !isNumber(rows, 2)) return undefined;
  return { columns, rows, content: decoder.decode(content) };
}

function isNumber(value: unknown, least: number, most = 1000): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= least && value <= most;
}
