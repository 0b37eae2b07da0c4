/** A small PNG of the VGA screen, where the platform can draw one. */

import type { ScreenUpdate } from "../machine";

/** The longer side of a thumbnail, pixels. */
const SIDE = 320;

/** Base64 PNG, or null where there is no canvas (under Node). */
export async function picturePng(picture: ScreenUpdate): Promise<string | null> {
  if (typeof OffscreenCanvas === "undefined" || picture.width === 0 || picture.height === 0) return null;
  const full = new OffscreenCanvas(picture.width, picture.height);
  const pixels = new Uint8ClampedArray(picture.pixels);
  full.getContext("2d")?.putImageData(new ImageData(pixels, picture.width, picture.height), 0, 0);
  const scale = Math.min(1, SIDE / Math.max(picture.width, picture.height));
  const small = new OffscreenCanvas(Math.ceil(picture.width * scale), Math.ceil(picture.height * scale));
  small.getContext("2d")?.drawImage(full, 0, 0, small.width, small.height);
  const bytes = new Uint8Array(await (await small.convertToBlob({ type: "image/png" })).arrayBuffer());
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
