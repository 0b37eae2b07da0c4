"""The peer: v86 as its own examples use it, cold-booting the same disk over HTTP range requests."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext

V86 = Path(__file__).resolve().parents[2] / "frontend" / "node_modules" / "v86" / "build"

PAGE = """<!doctype html><title>plain v86</title><script type="module">
import { V86 } from "/libv86.mjs";
const began = performance.now();
const config = CONFIG;
const emulator = new V86({
  wasm_path: "/v86.wasm",
  memory_size: config.memory_mib * 1024 * 1024,
  vga_memory_size: config.vga_memory_mib * 1024 * 1024,
  bios: { url: "/bios" }, vga_bios: { url: "/vga_bios" },
  bzimage: { url: "/kernel" }, initrd: { url: "/initrd" },
  cmdline: config.cmdline,
  hda: { url: "/disk.img", async: true, size: config.disk_bytes },
  uart1: true, autostart: true, disable_speaker: true,
});
let seen = "";
emulator.add_listener("serial0-output-byte", (byte) => {
  seen += String.fromCharCode(byte);
  if (window.promptAfter === undefined && /[#$] (\\x1b\\[[?0-9;]*[a-zA-Z])*$/.test(seen)) {
    window.promptAfter = performance.now() - began;
  }
  if (seen.length > 100000) seen = seen.slice(-50000);
});
window.seen = () => seen.slice(-2000);
</script>"""


class Files(http.server.BaseHTTPRequestHandler):
    """Serves the machine's files with `Range`, as v86 asks for them."""

    protocol_version = "HTTP/1.1"
    folder: Path
    page: bytes
    requests = 0
    sent = 0

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.path == "/":
            return self.answer(200, self.page, "text/html")
        name = self.path.lstrip("/")
        path = (V86 if name in {"libv86.mjs", "v86.wasm"} else self.folder) / name
        if not path.is_file():
            return self.answer(404, b"", "text/plain")
        kind = {".mjs": "text/javascript", ".wasm": "application/wasm"}.get(
            path.suffix, "application/octet-stream"
        )
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None:
            return self.answer(200, path.read_bytes(), kind)
        first, last = int(asked[1]), int(asked[2])
        with path.open("rb") as file:
            file.seek(first)
            body = file.read(last - first + 1)
        size = path.stat().st_size
        return self.answer(
            206, body, kind, {"Content-Range": f"bytes {first}-{first + len(body) - 1}/{size}"}
        )

    def answer(self, status: int, body: bytes, kind: str, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            **(extra or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            Files.requests += 1
            Files.sent += len(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def cold_boot(context: BrowserContext, folder: Path, descriptor: dict[str, Any]) -> dict[str, float]:
    """Seconds from opening the page to the first prompt, and the bytes and requests of it."""
    machine = descriptor["machine"]
    config = {
        **{key: machine[key] for key in ("memory_mib", "vga_memory_mib", "cmdline")},
        "disk_bytes": descriptor["disk"]["blocks"] * 4096,
    }
    Files.folder, Files.page = folder, PAGE.replace("CONFIG", json.dumps(config)).encode()
    Files.requests = Files.sent = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        page = context.new_page()
        began = time.perf_counter()
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        page.wait_for_function("() => window.promptAfter !== undefined", timeout=300_000)
        seconds = time.perf_counter() - began
        page.close()
    finally:
        server.shutdown()
        server.server_close()
    return {"seconds": seconds, "requests": Files.requests, "bytes": Files.sent}
