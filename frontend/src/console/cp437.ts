/** The characters of a PC's text screen, and how the line-drawing ones are drawn so that they join. */

const LOW = "\u00a0☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
const HIGH =
  "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";

/** Code page 437: the character of each byte. */
export const CP437: readonly string[] = Array.from({ length: 256 }, (_, code) => {
  if (code < 32) return LOW[code] as string;
  if (code < 127) return String.fromCharCode(code);
  return code === 127 ? "⌂" : (HIGH[code - 128] as string);
});

/** The 16 colours of VGA text. */
export const VGA_COLOURS = [
  "#000000",
  "#0000aa",
  "#00aa00",
  "#00aaaa",
  "#aa0000",
  "#aa00aa",
  "#aa5500",
  "#aaaaaa",
  "#555555",
  "#5555ff",
  "#55ff55",
  "#55ffff",
  "#ff5555",
  "#ff55ff",
  "#ffff55",
  "#ffffff",
] as const;

/**
 * The arms of the box-drawing characters 0xB3..0xDA: left, up, right, down; 0 none, 1 single, 2 double line.
 */
const BOXES =
  "0101 1101 2101 1202 1002 2001 2202 0202 2002 2200 1200 2100 1001 0110 1110 1011 0111 1010 1111 0121 0212 0220 0022 2220 2022 0222 2020 2222 2120 1210 2021 1012 0210 0120 0021 0012 1212 2121 1100 0011".split(
    " ",
  );

/** Arms of a box-drawing character, undefined for all others. */
export function boxArms(code: number): { left: number; up: number; right: number; down: number } | undefined {
  const arms = BOXES[code - 0xb3];
  if (arms === undefined) return undefined;
  const [left, up, right, down] = Array.from(arms, Number) as [number, number, number, number];
  return { left, up, right, down };
}

/** Part of the cell that a block character fills, as fractions x, y, width, height; the shades have an opacity. */
export function blockFill(code: number): readonly [number, number, number, number, number] | undefined {
  switch (code) {
    case 0xb0:
      return [0, 0, 1, 1, 0.25];
    case 0xb1:
      return [0, 0, 1, 1, 0.5];
    case 0xb2:
      return [0, 0, 1, 1, 0.75];
    case 0xdb:
      return [0, 0, 1, 1, 1];
    case 0xdc:
      return [0, 0.5, 1, 0.5, 1];
    case 0xdd:
      return [0, 0, 0.5, 1, 1];
    case 0xde:
      return [0.5, 0, 0.5, 1, 1];
    case 0xdf:
      return [0, 0, 1, 0.5, 1];
    default:
      return undefined;
  }
}
