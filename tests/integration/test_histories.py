"""Any history of saves and forks between tenants reads as a naive model says."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.db.models import Sum
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from storage import nodes
from storage.chunks import find_missing, read_raw
from storage.codec import digest_of
from storage.commits import accept_device
from storage.errors import ChunkNotFound, MissingChunks
from storage.index import (
    Extent,
    encode_node,
    make_leaf,
)
from storage.models import Chunk
from tests.support.machines import block, upload
from tests.support.saved_devices import (
    PLACES,
    change,
    commit,
    new_tenant,
    publish,
    read,
    save,
)

pytestmark = pytest.mark.django_db


changes_strategy = st.dictionaries(
    st.sampled_from(PLACES), st.one_of(st.none(), st.integers(0, 30)), min_size=1, max_size=6
)


class Histories(RuleBasedStateMachine):
    """Tenants save and fork each other's devices in any order; a dictionary of blocks says what is right."""

    def __init__(self) -> None:
        super().__init__()
        nodes.cache.clear()
        self.tenants = [new_tenant() for _ in range(3)]
        self.saved = [publish()]
        self.count = 0

    @rule(who=st.integers(0, 2), of=st.integers(0, 50), changes=changes_strategy)
    def save(self, who: int, of: int, changes: dict[int, int | None]) -> None:
        parent = self.saved[of % len(self.saved)]
        written = {number: None if text is None else block(f"{text}") for number, text in changes.items()}
        self.saved.append(save(self.tenants[who], parent, written))

    @rule(
        who=st.integers(0, 2), of=st.integers(0, 50), place=st.sampled_from(PLACES), pick=st.integers(0, 99)
    )
    def forget_to_upload(self, who: int, of: int, place: int, pick: int) -> None:
        self.count += 1
        tenant, parent = self.tenants[who], self.saved[of % len(self.saved)]
        new, named = change(parent, {place: block(f"never sent {self.count}")})
        missing = find_missing(tenant, [bytes.fromhex(digest) for digest in sorted(named)])
        withheld = missing[pick % len(missing)]
        upload(tenant, [new.device.chunks[digest.hex()] for digest in missing if digest != withheld])
        with pytest.raises(MissingChunks) as refused:
            commit(tenant, new, parent)
        assert refused.value.digests == [withheld]

    @rule(who=st.integers(0, 2), pick=st.integers(0, 99))
    def probe(self, who: int, pick: int) -> None:
        """Naming another tenant's chunk is answered exactly as naming one that does not exist."""
        tenant = self.tenants[who]
        others = Chunk.objects.filter(node_level=None).exclude(tenant=tenant).exclude(tenant=None)
        mine = set(Chunk.objects.filter(tenant=tenant).values_list("digest", flat=True))
        foreign = [digest for digest in others.values_list("digest", flat=True) if digest not in mine]
        guessed = bytes(foreign[pick % len(foreign)]) if foreign else digest_of(b"no such chunk")
        for digest in (guessed, digest_of(b"no such chunk")):
            leaf = encode_node(make_leaf([Extent(0, 1, digest, 0)]))
            upload(tenant, [leaf])
            with pytest.raises(MissingChunks) as refused, transaction.atomic():
                accept_device(
                    tenant, root=digest_of(leaf).hex(), blocks=1000, parent_root="", parent_home=None
                )
            assert refused.value.digests == [digest]
            with pytest.raises(ChunkNotFound):
                read_raw(tenant.pk, digest)

    @invariant()
    def everything_saved_reads_as_the_model_says(self) -> None:
        for saved in self.saved[-4:]:
            assert read(saved) == saved.model

    @invariant()
    def only_own_bytes_are_counted(self) -> None:
        for tenant in self.tenants:
            tenant.refresh_from_db()
            own = (
                Chunk.objects.filter(tenant=tenant, home=tenant).aggregate(sum=Sum("stored_size"))["sum"] or 0
            )
            assert tenant.used_bytes == own


def test_any_history_reads_as_a_naive_model_says() -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
