import { beforeAll, expect, it, vi } from "vitest";
import type { ConsoleTerminal } from "./terminal";

let Terminal: typeof ConsoleTerminal;

beforeAll(async () => {
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => undefined }));
  Terminal = (await import("./terminal")).ConsoleTerminal;
});

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

it("a restored screen comes after all that was written before, shown or not", async () => {
  const terminal = new Terminal({
    ...{ fontSize: 14, screenReader: false, scheme: "light" },
    onInput: () => undefined,
    onResize: () => undefined,
    onFlood: () => undefined,
    onShortcut: () => false,
    onCtrlLatch: () => undefined,
  });
  terminal.write(bytes("of before\r\n"));
  terminal.restore({ columns: 90, rows: 20, content: "saved\r\n" }, true);
  terminal.write(bytes("of after"));
  await terminal.waitForText(/of after/, 5000);
  expect(terminal.screenText()).toBe("saved\nof after");
});
