"""The model's machine, run: see the package."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from storage import nodes
from storage.stores import get_store
from tests.integration.model.isolation import Isolation
from tests.integration.model.sharing import Sharing
from tests.integration.model.world import CLOCK, CRASHER
from tests.support.crashes import CrashingStore
from tests.support.world_model import check_references


class Service(Sharing, Isolation):
    """All rules, in any order."""

    def teardown(self) -> None:
        """Everything acknowledged that can be read or brought back is read."""
        nodes.cache.clear()
        for vm in self.all:
            self.restore(vm)
            for saved in vm.saved:
                if vm.is_there and not saved.purged:
                    self.bring_back(saved)
                    if saved.deleted_at is None:
                        vm.owner.reader(vm.id).holds(str(saved.id), saved.machine)
        check_references(self.snapshots())


@pytest.mark.django_db(transaction=True)
def test_any_order_of_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("django.utils.timezone.now", CLOCK)
    store = CrashingStore(get_store(), CRASHER)
    monkeypatch.setattr("storage.stores._local_store", lambda *_: store)
    # As many steps as a large tenant's collection has, with few rows.
    for name, rows in (("ROOTS", 1), ("WALK", 2), ("CONDEMN", 4)):
        monkeypatch.setattr(f"storage.gc.mark.{name}_STEP", rows)
    number = int(os.environ.get("WEBVM_MODEL_SEED") or random.randrange(2**32))  # noqa: S311 - not a secret
    with capsys.disabled():
        print(f"\nmodel test: WEBVM_MODEL_SEED={number}")  # noqa: T201 - to be found in the log of a failure
    limits = settings(
        max_examples=int(os.environ.get("WEBVM_MODEL_EXAMPLES", "15")),
        stateful_step_count=30,
        deadline=None,
        database=None,
        phases=[Phase.generate, *([Phase.shrink] if "WEBVM_MODEL_SEED" in os.environ else [])],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(number)(Service), settings=limits)
