"""One instruction and the state it starts from; and what became of it. The memory is the same everywhere:

CODE: two pages of HLT, the instruction among them; DATA: two pages; a page that is not there; FIXED: a
read-only page.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.engine.decoding import table

PAGE = 4096
CODE, CODE_SIZE = 0x400000, 2 * PAGE
DATA, DATA_SIZE = 0x600000, 2 * PAGE
FIXED, FIXED_SIZE = 0x603000, PAGE
IMAGE_SIZE = DATA_SIZE + FIXED_SIZE
"""The image: DATA's bytes, then FIXED's."""
HLT = b"\xf4"

CPU = struct.Struct("<16QQQQQ256s128sHHBBHQQIIQIIQQ")
"""struct Cpu of core/abi.h, as far as instructions see it."""
assert CPU.size == 608
GPR, RIP, FLAGS, FS_BASE, GS_BASE, XMM, ST = 0, 16, 17, 18, 19, 20, 21
CONTROL, STATUS, TAGS, MXCSR = 22, 23, 24, 29


@dataclass(frozen=True)
class Case:
    """`state`: the fields of CPU by index. `patches`: (offset in the image, bytes) in DATA."""

    row: int
    code: bytes
    state: list[Any]
    patches: list[tuple[int, bytes]]

    @property
    def packed(self) -> bytes:
        return CPU.pack(*self.state)

    @property
    def rip(self) -> int:
        return int(self.state[RIP])

    def to_json(self) -> dict[str, Any]:
        row = table()["rows"][self.row]
        return {
            "row": f"{row['mnemonic']} | {row['encoding']}",
            "code": self.code.hex(),
            "state": self.packed.hex(),
            "patches": [[offset, data.hex()] for offset, data in self.patches],
        }


def from_json(data: dict[str, Any]) -> Case:
    rows = [f"{row['mnemonic']} | {row['encoding']}" for row in table()["rows"]]
    return Case(
        rows.index(data["row"]),
        bytes.fromhex(data["code"]),
        list(CPU.unpack(bytes.fromhex(data["state"]))),
        [(offset, bytes.fromhex(patch)) for offset, patch in data["patches"]],
    )


def image_of(case: Case, image: bytes) -> bytes:
    """The memory that the case starts from."""
    if not case.patches:
        return image
    patched = bytearray(image)
    for offset, data in case.patches:
        patched[offset : offset + len(data)] = data
    return bytes(patched)


@dataclass
class Outcome:
    """How an instruction ended: "done" or a fault ("page fault", "general protection", …), and with what.

    `memory`: the image after it, None when nothing has changed. `address`, `access` ("read", "write",
    "execute"): of a page fault, None when it is not known.
    """

    kind: str
    state: list[Any] = field(default_factory=list)
    memory: bytes | None = None
    address: int | None = None
    access: str | None = None


class Runner(ABC):
    """A processor that runs cases."""

    name = "?"

    @abstractmethod
    def run(self, cases: Sequence[Case], image: bytes) -> list[Outcome]:
        """What became of each case, in their order."""


def read_cases(text: str) -> tuple[list[Case], bytes]:
    """Cases kept in a file, and their image."""
    data = json.loads(text)
    image = zlib.decompress(base64.b64decode(data["image"]))
    return [from_json(case) for case in data["cases"]], image


def dump(cases: Sequence[Case], image: bytes) -> str:
    packed = base64.b64encode(zlib.compress(image, 9)).decode()
    return json.dumps({"image": packed, "cases": [case.to_json() for case in cases]}, indent=1) + "\n"
