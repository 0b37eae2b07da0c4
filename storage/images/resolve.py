"""Which packages an image needs: dependencies of the wanted ones and of a normal minimal Debian, without
recommendations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property

from storage.images.errors import PackagesUnresolved

CLAUSE = re.compile(
    r"\s*(?P<name>[a-z0-9][a-z0-9+.-]*)(?::(?P<arch>[a-z0-9-]+))?"
    r"\s*(?:\(\s*(?P<relation><<|<=|=|>=|>>)\s*(?P<version>[^)\s]+)\s*\))?\s*"
)


@dataclass(frozen=True, eq=False)
class Package:
    """One stanza of a Packages index. `uri` is its archive's address, "" for a package of our own."""

    stanza: str
    uri: str = ""

    @cached_property
    def fields(self) -> dict[str, str]:
        """Fields by lower-case name; continuation lines keep their line ends."""
        fields: dict[str, str] = {}
        key = ""
        for line in self.stanza.splitlines():
            if line[:1] in (" ", "\t"):
                fields[key] += "\n" + line
            else:
                name, _, value = line.partition(":")
                key = name.lower()
                fields[key] = value.strip()
        return fields

    @property
    def name(self) -> str:
        return self.fields["package"]

    @property
    def version(self) -> str:
        return self.fields["version"]

    @property
    def architecture(self) -> str:
        return self.fields.get("architecture", "all")

    @property
    def is_base(self) -> bool:
        """Part of every Debian system."""
        return self.fields.get("essential") == "yes" or self.fields.get("priority") == "required"

    def provides(self) -> Iterator[tuple[str, str | None]]:
        for clause in self.fields.get("provides", "").split(","):
            match = CLAUSE.fullmatch(clause)
            if match:
                yield match["name"], match["version"]


@dataclass(frozen=True)
class Alternative:
    """One way to satisfy a dependency."""

    name: str
    relation: str
    version: str

    def accepts(self, version: str | None) -> bool:
        if not self.relation:
            return True
        if version is None:
            return False
        order = compare_versions(version, self.version)
        return {"<<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">>": order > 0}[
            self.relation
        ]


@cache
def parse_dependencies(field: str) -> tuple[tuple[Alternative, ...], ...]:
    """A dependency field: all of the outer, any of the inner."""
    groups: list[tuple[Alternative, ...]] = []
    for group in field.replace("\n", " ").split(","):
        if not group.strip():
            continue
        alternatives: list[Alternative] = []
        for clause in group.split("|"):
            match = CLAUSE.fullmatch(clause)
            if match is None:
                raise PackagesUnresolved(f"The dependency {clause.strip()!r} cannot be read.")
            alternatives.append(Alternative(match["name"], match["relation"] or "", match["version"] or ""))
        groups.append(tuple(alternatives))
    return tuple(groups)


def _order(character: str) -> int:
    if character == "~":
        return -1
    if character.isalpha():
        return ord(character)
    return ord(character) + 256


def _compare_part(left: str, right: str) -> int:
    """Compares an upstream version or a revision as deb-version(7) says."""
    while left or right:
        split_left, split_right = re.match(r"\D*", left), re.match(r"\D*", right)
        text_left, text_right = (split_left or [""])[0], (split_right or [""])[0]
        for index in range(max(len(text_left), len(text_right))):
            a = _order(text_left[index]) if index < len(text_left) else 0
            b = _order(text_right[index]) if index < len(text_right) else 0
            if a != b:
                return -1 if a < b else 1
        left, right = left[len(text_left) :], right[len(text_right) :]
        digits_left, digits_right = (re.match(r"\d*", part) for part in (left, right))
        run_left, run_right = (digits_left or [""])[0], (digits_right or [""])[0]
        if int(run_left or 0) != int(run_right or 0):
            return -1 if int(run_left or 0) < int(run_right or 0) else 1
        left, right = left[len(run_left) :], right[len(run_right) :]
    return 0


def compare_versions(left: str, right: str) -> int:
    """-1, 0 or 1, in Debian's order of versions."""

    def split(version: str) -> tuple[int, str, str]:
        epoch, colon, rest = version.partition(":")
        if not colon or not epoch.isdigit():
            epoch, rest = "0", version
        upstream, dash, revision = rest.rpartition("-")
        return (int(epoch), upstream, revision) if dash else (int(epoch), rest, "0")

    epoch_left, upstream_left, revision_left = split(left)
    epoch_right, upstream_right, revision_right = split(right)
    if epoch_left != epoch_right:
        return -1 if epoch_left < epoch_right else 1
    return _compare_part(upstream_left, upstream_right) or _compare_part(revision_left, revision_right)


class Catalogue:
    """The newest version of every package of some indexes, and who provides what."""

    def __init__(self, packages: Iterable[Package]) -> None:
        self.packages: dict[str, Package] = {}
        for package in packages:
            known = self.packages.get(package.name)
            if known is None or compare_versions(package.version, known.version) > 0:
                self.packages[package.name] = package
        self.providers: dict[str, list[tuple[Package, str | None]]] = {}
        for package in self.packages.values():
            if "\nProvides:" in package.stanza:
                for name, version in package.provides():
                    self.providers.setdefault(name, []).append((package, version))

    def get(self, name: str) -> Package:
        """The package of that name, or the first that provides it. Raises `PackagesUnresolved`."""
        found = self.candidates(Alternative(name, "", ""))
        if not found:
            raise PackagesUnresolved(f"There is no package {name!r} in the suite.", package=name)
        return found[0]

    def candidates(self, alternative: Alternative) -> list[Package]:
        """Packages that satisfy it: the one of that name first, then providers, the common ones before the
        rare.
        """
        real = self.packages.get(alternative.name)
        found = [real] if real is not None and alternative.accepts(real.version) else []
        providers = [
            package
            for package, version in self.providers.get(alternative.name, [])
            if alternative.accepts(version) and package is not real
        ]
        ranks = ["required", "important", "standard", "optional", "extra"]
        providers.sort(key=lambda p: (ranks.index(p.fields.get("priority", "extra")), p.name))
        return found + providers


def resolve(catalogue: Catalogue, wanted: Iterable[str]) -> list[Package]:
    """The wanted packages, the base system and all they depend on, by name. Raises `PackagesUnresolved`."""
    chosen: dict[str, Package] = {}
    queue: list[Package] = []

    def choose(package: Package) -> None:
        if package.name not in chosen:
            chosen[package.name] = package
            queue.append(package)

    for name in wanted:
        choose(catalogue.get(name))
    for package in catalogue.packages.values():
        if package.is_base:
            choose(package)
    while queue:
        package = queue.pop(0)
        for field in ("pre-depends", "depends"):
            for group in parse_dependencies(package.fields.get(field, "")):
                candidates = [one for alternative in group for one in catalogue.candidates(alternative)]
                if not candidates:
                    needed = " | ".join(alternative.name for alternative in group)
                    raise PackagesUnresolved(
                        f"The package {package.name} needs {needed}, which is not in the suite.",
                        package=package.name,
                    )
                if not any(candidate.name in chosen for candidate in candidates):
                    choose(candidates[0])
    _check_conflicts(chosen, catalogue)
    return [chosen[name] for name in sorted(chosen)]


def _check_conflicts(chosen: dict[str, Package], catalogue: Catalogue) -> None:
    for package in chosen.values():
        for field in ("conflicts", "breaks"):
            for group in parse_dependencies(package.fields.get(field, "")):
                for other in catalogue.candidates(group[0]):
                    # A package that provides and conflicts with one name means: no other provider.
                    if other is not package and chosen.get(other.name) is other:
                        raise PackagesUnresolved(
                            f"The packages {package.name} and {other.name} cannot be installed together.",
                            package=package.name,
                        )
