"""A recipe: what an image is made of, as TOML text checked into frozen dataclasses. The format is in
docs/design/guest.md.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from storage.images.errors import BadRecipe, BadTree
from storage.images.tree import split_path

MAX_RECIPE_BYTES = 1 << 20
# By machine: `pc` is an emulated PC of 32 bits, `linux` our own engine, which runs programs of 64.
ARCHITECTURES = {"pc": "i386", "linux": "amd64"}
# Without tracefs: its files are made at boot, every one with an inode that cannot be dropped, a sixth of
# what a guest at its prompt holds. The mouse is a plain PS/2 one: Linux would else take the emulator for
# VMware's, which wants positions where the page has movements.
BASE_CMDLINE = (
    "console=ttyS0 root=/dev/sda rootfstype=ext4 rw tsc=reliable mitigations=off random.trust_cpu=on nokaslr "
    "init_on_free=1 initcall_blacklist=tracer_init_tracefs psmouse.proto=imps"
)
SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
SUITE = re.compile(r"[a-z][a-z0-9-]{0,40}")
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{0,126}")
HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
OWNER = re.compile(r"\d{1,9}:\d{1,9}")


@dataclass(frozen=True)
class RecipeFile:
    """A file to put on the disk; `mode` is octal permission bits, `uid` and `gid` numbers of the guest."""

    path: str
    content: str
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True)
class Settings:
    memory_mib: int
    disk_mib: int
    hostname: str


@dataclass(frozen=True)
class PcSettings(Settings):
    vga_memory_mib: int
    cmdline: str  # the whole kernel command line


@dataclass(frozen=True)
class LinuxSettings(Settings):
    terminals: int


@dataclass(frozen=True)
class Recipe:
    """One image. Those of a low `position` come first in the catalogue. `exclude` are dpkg path globs (`*`
    matches `/` too) of files that are left out, `include` brings some of them back. `configure` runs in the
    guest once the packages are configured, `settle` right before the warm snapshot, `rehearse` in a copy
    resumed from it, to learn what such commands read; `prompt` is a regular expression (JavaScript and Python
    alike) of the ready shell prompt.
    """

    slug: str
    title: str
    description: str
    position: int
    suite: str
    packages: tuple[str, ...]
    exclude: tuple[str, ...]
    include: tuple[str, ...]
    settings: PcSettings | LinuxSettings
    files: tuple[RecipeFile, ...]
    configure: tuple[str, ...]
    settle: tuple[str, ...]
    rehearse: tuple[str, ...]
    prompt: str
    timeout_s: int

    @property
    def kind(self) -> str:
        """The machine that the image is for."""
        return "linux" if isinstance(self.settings, LinuxSettings) else "pc"

    @property
    def architecture(self) -> str:
        """Debian's name of it."""
        return ARCHITECTURES[self.kind]

    def contents(self) -> Recipe:
        """What the disk is made from: without what only the catalogue shows."""
        return replace(self, title="", description="", position=0)

    def machine(self) -> dict[str, object]:
        """The machine as the open descriptor tells it, but for the firmware."""
        settings = self.settings
        if isinstance(settings, LinuxSettings):
            own: dict[str, object] = {"terminals": settings.terminals}
        else:
            own = {"vga_memory_mib": settings.vga_memory_mib, "cmdline": settings.cmdline}
        return {"kind": self.kind, "memory_mib": settings.memory_mib, **own}

    def commands(self) -> list[str]:
        """What the guest runs, in order, to become ready: the packages' configuration, then the recipe's."""
        return ["/usr/lib/webvm/configure", *self.configure]


class _Reader:
    """Takes checked values out of one TOML table and complains about what is left over."""

    def __init__(self, table: Mapping[str, Any], where: str) -> None:
        self._left = dict(table)
        self._where = where

    def _name(self, key: str) -> str:
        return f"{self._where}{key}"

    def _take(self, key: str, default: object) -> Any:
        if key in self._left:
            return self._left.pop(key)
        if default is None:
            raise BadRecipe(f"The recipe lacks {self._name(key)!r}.", key=self._name(key))
        return default

    def wrong(self, key: str, what: str) -> BadRecipe:
        return BadRecipe(f"In the recipe, {self._name(key)!r} {what}.", key=self._name(key))

    def text(
        self, key: str, default: str | None = None, *, most: int, shape: re.Pattern[str] | None = None
    ) -> str:
        value = self._take(key, default)
        if not isinstance(value, str) or len(value) > most:
            raise self.wrong(key, f"must be a text of at most {most} characters")
        if shape is not None and not shape.fullmatch(value):
            raise self.wrong(key, f"is {value!r}, which is not of the form {shape.pattern}")
        return value

    def number(self, key: str, default: int | None, least: int, most: int) -> int:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(key, f"must be a whole number from {least} to {most}")
        return value

    def texts(
        self, key: str, *, most: int, length: int, shape: re.Pattern[str] | None = None
    ) -> tuple[str, ...]:
        value = self._take(key, [])
        if not isinstance(value, list) or len(value) > most:
            raise self.wrong(key, f"must be a list of at most {most} texts")
        for item in value:
            if not isinstance(item, str) or not 0 < len(item) <= length:
                raise self.wrong(key, f"must hold texts of 1 to {length} characters")
            if shape is not None and not shape.fullmatch(item):
                raise self.wrong(key, f"holds {item!r}, which is not of the form {shape.pattern}")
        return tuple(value)

    def table(self, key: str) -> _Reader:
        value = self._take(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "must be a table")
        return _Reader(value, f"{self._name(key)}.")

    def tables(self, key: str, most: int) -> list[_Reader]:
        value = self._take(key, [])
        if not isinstance(value, list) or len(value) > most or not all(isinstance(v, dict) for v in value):
            raise self.wrong(key, f"must be a list of at most {most} tables")
        return [_Reader(item, f"{self._name(key)}[{number}].") for number, item in enumerate(value)]

    def finish(self) -> None:
        for key in self._left:
            raise self.wrong(key, "is not a key that a recipe may have")


def _read_file(reader: _Reader) -> RecipeFile:
    path = reader.text("path", most=1024)
    try:
        parts = split_path(path)
    except BadTree as error:
        raise reader.wrong("path", f"is {path!r}, which leads out of the image") from error
    if not path.startswith("/") or not parts:
        raise reader.wrong("path", "must be an absolute path of a file")
    mode = reader.text("mode", "0644", most=5, shape=re.compile("[0-7]{3,5}"))
    uid, gid = reader.text("owner", "0:0", most=20, shape=OWNER).split(":")
    file = RecipeFile(
        "/" + "/".join(parts), reader.text("content", most=256 << 10), int(mode, 8), int(uid), int(gid)
    )
    reader.finish()
    return file


def parse_recipe(text: str) -> Recipe:
    """Checks a recipe's TOML text. Raises `BadRecipe` with the key's name in `details["key"]`."""
    if len(text.encode("utf-8", "surrogateescape")) > MAX_RECIPE_BYTES:
        raise BadRecipe(f"The recipe is larger than {MAX_RECIPE_BYTES} bytes.")
    try:
        top = _Reader(tomllib.loads(text), "")
    except tomllib.TOMLDecodeError as error:
        raise BadRecipe(f"The recipe is not valid TOML: {error}.") from error
    kind = top.text("machine", "pc", most=20)
    if kind not in ARCHITECTURES:
        raise top.wrong("machine", f"must be one of {', '.join(ARCHITECTURES)}")
    if top.text("architecture", ARCHITECTURES[kind], most=20) != ARCHITECTURES[kind]:
        raise top.wrong("architecture", f"must be {ARCHITECTURES[kind]!r} for the machine {kind!r}")
    slug = top.text("slug", most=63, shape=SLUG)
    title = top.text("title", most=200, shape=re.compile(r"[^\r\n]*\S[^\r\n]*"))
    description = top.text("description", "", most=4000)
    position = top.number("position", 100, 0, 1000)
    suite = top.text("suite", most=41, shape=SUITE)
    packages = top.texts("packages", most=2000, length=127, shape=PACKAGE)
    exclude = top.texts("exclude", most=500, length=500, shape=re.compile(r"/[^\n]*"))
    include = top.texts("include", most=500, length=500, shape=re.compile(r"/[^\n]*"))
    files = tuple(_read_file(reader) for reader in top.tables("files", 1000))
    settings = _read_settings(top.table("settings"), kind)
    boot = top.table("boot")
    prompt = boot.text("prompt", most=500)
    try:
        re.compile(prompt)
    except re.error as error:
        raise boot.wrong("prompt", f"is not a regular expression: {error}") from error
    configure = boot.texts("configure", most=100, length=64 << 10)
    settle = boot.texts("settle", most=100, length=64 << 10)
    rehearse = boot.texts("rehearse", most=20, length=64 << 10)
    timeout_s = boot.number("timeout_s", 900, 30, 24 * 3600)
    boot.finish()
    top.finish()
    return Recipe(
        slug=slug,
        title=title,
        description=description,
        position=position,
        suite=suite,
        packages=packages,
        exclude=exclude,
        include=include,
        settings=settings,
        files=files,
        configure=configure,
        settle=settle,
        rehearse=rehearse,
        prompt=prompt,
        timeout_s=timeout_s,
    )


def _read_settings(reader: _Reader, kind: str) -> PcSettings | LinuxSettings:
    memory_mib = reader.number("memory_mib", 256, 64, 2048)
    disk_mib = reader.number("disk_mib", 2048, 64, 65536)
    hostname = reader.text("hostname", "webvm", most=63, shape=HOSTNAME)
    settings: PcSettings | LinuxSettings
    if kind == "linux":
        settings = LinuxSettings(memory_mib, disk_mib, hostname, reader.number("terminals", 4, 1, 16))
    else:
        extra = reader.text("cmdline", "", most=1000, shape=re.compile(r"[\x20-\x7e]*"))
        vga_memory_mib = reader.number("vga_memory_mib", 2, 1, 64)
        settings = PcSettings(
            memory_mib, disk_mib, hostname, vga_memory_mib, f"{BASE_CMDLINE} {extra}".strip()
        )
    reader.finish()
    return settings
