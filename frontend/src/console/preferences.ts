/** What a person likes, kept in this browser. Storage may be refused: then it lasts as long as the page. */

const KEY = "webvm.console";

export interface Preferences {
  fontSize: number;
  screenReader: boolean;
  /** Undefined: shown where there is a touch screen and no mouse. */
  extraKeys: boolean | undefined;
}

export function loadPreferences(
  storage: Pick<Storage, "getItem"> | undefined = globalThis.localStorage,
): Preferences {
  const found: Preferences = { fontSize: 14, screenReader: false, extraKeys: undefined };
  try {
    const saved = JSON.parse(storage?.getItem(KEY) ?? "{}") as Record<string, unknown>;
    const { fontSize, screenReader, extraKeys } = saved;
    if (typeof fontSize === "number" && fontSize >= 8 && fontSize <= 40) found.fontSize = fontSize;
    if (typeof screenReader === "boolean") found.screenReader = screenReader;
    if (typeof extraKeys === "boolean") found.extraKeys = extraKeys;
  } catch {
    // unreadable: the defaults
  }
  return found;
}

export function storePreferences(preferences: Preferences): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(preferences));
  } catch {
    // private mode or a full disk: nothing depends on it
  }
}
