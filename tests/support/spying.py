"""Somebody who tries every door of what is not theirs, and looks at how it is shut."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from sessions.actions.leases import take_lease
from tests.support.world_model import Person
from webvm.errors import NotFound

LITERAL = re.compile(r"'[^']*'|\b[0-9a-f]{32}\b|\b\d+\b")
Door = Callable[..., Any]


def http(method: str, path: str, body: Any = None) -> Door:
    """Ask for a path with `{vm}`, `{snapshot}`, `{link}` in it."""

    def door(spy: Person, vm: uuid.UUID, snapshot: uuid.UUID, link: uuid.UUID) -> Any:
        url = f"/api/v1{path.format(vm=vm, snapshot=snapshot, link=link)}"
        answer = spy.api.client.request(method, url, json=body)
        assert answer.status_code == 404
        return answer.status_code, answer.text

    return door


def take_over(spy: Person, vm: uuid.UUID, *_: uuid.UUID) -> Any:
    with pytest.raises(NotFound) as refused:
        take_lease(vm, uuid.uuid4(), take_over=True, acting_user=spy.user)
    return refused.value.as_json()


DOORS: list[Door] = [
    take_over,
    http("GET", "/vms/{vm}"),
    http("PATCH", "/vms/{vm}", {"name": "mine"}),
    http("DELETE", "/vms/{vm}"),
    http("POST", "/vms/{vm}/restore"),
    http("GET", "/vms/{vm}/open"),
    http("GET", "/vms/{vm}/snapshots"),
    http("GET", "/vms/{vm}/links"),
    http("POST", "/vms/{vm}/locate", {"snapshot": None, "device": "disk", "leaves": [0]}),
    http("POST", "/vms/{vm}/resume_from", {"snapshot": None}),
    http("GET", "/snapshots/{snapshot}"),
    http("PATCH", "/snapshots/{snapshot}", {"name": "mine"}),
    http("DELETE", "/snapshots/{snapshot}"),
    http("POST", "/snapshots/{snapshot}/restore"),
    http("POST", "/snapshots/{snapshot}/fork", {}),
    http("POST", "/snapshots/{snapshot}/links", {"mode": "fork"}),
    http("GET", "/snapshots/{snapshot}/thumbnail"),
    http("DELETE", "/links/{link}"),
]


def observe(act: Callable[[], Any]) -> tuple[Any, list[str]]:
    """The answer, and the statements it took, without their values."""
    with CaptureQueriesContext(connection) as captured:
        answer = act()
    return answer, [LITERAL.sub("?", query["sql"]) for query in captured]


def compare(theirs: Callable[[], Any], nothing: Callable[[], Any]) -> None:
    """Assert that both answer the same by the same statements."""
    answer, statements = observe(theirs)
    other_answer, other_statements = observe(nothing)
    assert answer == other_answer
    for statement, other in zip_longest(statements, other_statements):
        assert statement == other, f"{statement}\n{other}"
