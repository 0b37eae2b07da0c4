"""A chunk store that misbehaves on purpose."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from storage.errors import StoreUnavailable
from storage.stores import ChunkStore, StoredObject

T = TypeVar("T")
Method = Literal["put", "get", "exists", "delete", "list_spaces", "list_objects"]
Fault = Literal["error", "error_after", "delay", "truncate", "duplicate", "lie"]
"""`error`: `StoreUnavailable`, nothing done. `error_after`: done, but the answer is `StoreUnavailable`.
`delay`: slow. `truncate`: half of the bytes, and success. `duplicate`: done twice. `lie`: success although
nothing was done; a `get` answers other bytes, `exists` the opposite, a listing nothing."""

FAULTS: dict[Method, tuple[Fault, ...]] = {
    "put": ("error", "error_after", "delay", "truncate", "duplicate", "lie"),
    "get": ("error", "error_after", "delay", "truncate", "duplicate", "lie"),
    "exists": ("error", "error_after", "delay", "duplicate", "lie"),
    "delete": ("error", "error_after", "delay", "duplicate", "lie"),
    "list_spaces": ("error", "error_after", "delay", "truncate", "duplicate", "lie"),
    "list_objects": ("error", "error_after", "delay", "truncate", "duplicate", "lie"),
}
"""What can go wrong with each method."""


@dataclass(frozen=True)
class Call:
    """`number`: how many calls of this method came before."""

    method: Method
    key: str
    number: int


@dataclass
class FaultyChunkStore:
    """Asks `plan` about every call what goes wrong with it (None: nothing) and hands it to `inner`."""

    inner: ChunkStore
    plan: Callable[[Call], Fault | None] = lambda call: None
    delay_s: float = 0.1
    calls: list[Call] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    """How often each fault has happened."""

    def put(self, key: str, stored: bytes) -> None:
        fault = self._begin("put", key)
        if fault == "lie":
            return
        for _ in range(2 if fault == "duplicate" else 1):
            self.inner.put(key, stored[: len(stored) // 2] if fault == "truncate" else stored)
        self._end(fault)

    def get(self, key: str) -> bytes:
        fault = self._begin("get", key)
        for _ in range(2 if fault == "duplicate" else 1):
            stored = self.inner.get(key)
        self._end(fault)
        if fault == "truncate":
            return stored[: len(stored) // 2]
        return bytes([*stored[:-1], stored[-1] ^ 1]) if fault == "lie" else stored

    def exists(self, key: str) -> bool:
        fault = self._begin("exists", key)
        for _ in range(2 if fault == "duplicate" else 1):
            found = self.inner.exists(key)
        self._end(fault)
        return found != (fault == "lie")

    def delete(self, key: str) -> None:
        fault = self._begin("delete", key)
        if fault == "lie":
            return
        for _ in range(2 if fault == "duplicate" else 1):
            self.inner.delete(key)
        self._end(fault)

    def list_spaces(self) -> Iterator[str]:
        fault = self._begin("list_spaces", "")
        yield from self._listed(self.inner.list_spaces(), fault)

    def list_objects(self, space: str, prefix: str = "") -> Iterator[StoredObject]:
        fault = self._begin("list_objects", space)
        yield from self._listed(self.inner.list_objects(space, prefix), fault)

    def _listed(self, found: Iterator[T], fault: Fault | None) -> Iterator[T]:
        everything = list(found)
        if fault == "lie":
            return
        yield from everything[: len(everything) // 2] if fault == "truncate" else everything
        if fault == "duplicate":
            yield from everything
        self._end(fault)

    def _begin(self, method: Method, key: str) -> Fault | None:
        call = Call(method, key, sum(each.method == method for each in self.calls))
        self.calls.append(call)
        fault = self.plan(call)
        if fault is not None:
            assert fault in FAULTS[method]
            self.faults[fault] += 1
        if fault == "delay":
            time.sleep(self.delay_s)
        if fault == "error":
            raise StoreUnavailable("The store fails because a test wants it to.")
        return fault

    def _end(self, fault: Fault | None) -> None:
        if fault == "error_after":
            raise StoreUnavailable("The store's answer is lost because a test wants it to be.")


def fault_at(method: Method, fault: Fault, *numbers: int) -> Callable[[Call], Fault | None]:
    """A plan: this fault at these calls of the method, or at all of them."""

    def plan(call: Call) -> Fault | None:
        return fault if call.method == method and (not numbers or call.number in numbers) else None

    return plan


def full_after(puts: int) -> Callable[[Call], Fault | None]:
    """A plan: so many puts fit."""
    return lambda call: "error" if call.method == "put" and call.number >= puts else None
