/**
 * A guest of 200 bytes: a BIOS that talks on the serial port and to the disk. It lets tests run the real emulator without a
 * Linux. For each byte it gets it sends the byte and a counter that it keeps in RAM, except for
 *
 *     'r', sector            sends the sector's first byte
 *     'w', sector, byte      fills the sector with the byte, sends the byte
 *
 * Source (as --32, .code16): wait for 3fd bit 0; in 3f8; `r`/`w`: LBA PIO read/write of one sector through 1f0-1f7 to 0x9000;
 * else incb 0x8000, out both to 3f8; loop.
 */

const CODE =
  "fa31c08ed88ec08ed0bc0070fcbafd03eca80174fbbaf803ec3c72740f3c777427fe060080eea00080eeebe1e84d00e85700b020eee86900baf001bf" +
  "0090b90001f36da00090eb2ee8310050e82d00bf0090b90002f3aa88c358e82c00b030eee83e00baf001be0090b90001f36fbaf701e82d0088d8baf8" +
  "03eeeb91bafd03eca80174fbbaf803ecc388c4baf201b001ee4288e0ee4230c0ee42ee42b0e0ee42c3baf701eca88075fbc3";

const ROM_BYTES = 64 * 1024;

export function echoBios(): Uint8Array {
  const rom = new Uint8Array(ROM_BYTES);
  rom.set(Buffer.from(CODE, "hex"));
  // The processor starts 16 bytes before the end: jump to f000:0000.
  rom.set([0xea, 0x00, 0x00, 0x00, 0xf0], ROM_BYTES - 16);
  return rom;
}

export function echoVgaBios(): Uint8Array {
  return new Uint8Array(32 * 1024);
}
