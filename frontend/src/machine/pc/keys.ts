/** `KeyboardEvent.code` → set 1 scan code; codes above 0xff carry the 0xe0 prefix. */

const ROWS: [number, string][] = [
  [
    0x01,
    "Escape Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal Backspace",
  ],
  [0x0f, "Tab KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight Enter"],
  [0x1d, "ControlLeft KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote Backquote"],
  [0x2a, "ShiftLeft Backslash KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash ShiftRight"],
  [0x37, "NumpadMultiply AltLeft Space CapsLock F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 NumLock ScrollLock"],
  [0x47, "Numpad7 Numpad8 Numpad9 NumpadSubtract Numpad4 Numpad5 Numpad6 NumpadAdd"],
  [0x4f, "Numpad1 Numpad2 Numpad3 Numpad0 NumpadDecimal"],
  [0x56, "IntlBackslash F11 F12"],
  [0xe01c, "NumpadEnter ControlRight"],
  [0xe035, "NumpadDivide"],
  [0xe038, "AltRight"],
  [0xe047, "Home ArrowUp PageUp"],
  [0xe04b, "ArrowLeft"],
  [0xe04d, "ArrowRight"],
  [0xe04f, "End ArrowDown PageDown Insert Delete"],
  [0xe05b, "MetaLeft MetaRight ContextMenu"],
];

const SCAN_CODES = new Map<string, number>(
  ROWS.flatMap(([first, names]) =>
    names.split(" ").map((name, index): [string, number] => [name, first + index]),
  ),
);

/** The bytes a keyboard sends for the key, or none for a key that a PC keyboard does not have. */
export function scanCodes(code: string, down: boolean): number[] {
  const scan = SCAN_CODES.get(code);
  if (scan === undefined) return [];
  const last = (scan & 0xff) | (down ? 0 : 0x80);
  return scan > 0xff ? [scan >> 8, last] : [last];
}
