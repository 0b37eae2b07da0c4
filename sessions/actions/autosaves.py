"""Autosaves fold into one rolling snapshot: the head, when it is one, which the next save replaces
(`commit_snapshot`). What something depends on is kept from that here.
"""

from __future__ import annotations

from sessions.access import lock_vm
from sessions.models import VM, Snapshot, SnapshotKind
from webvm.errors import NotFound


def keep_autosave(vm: VM) -> None:
    """Make an autosaved head of `vm` (locked) one that later saves do not replace."""
    if vm.head_id is not None:
        vm.snapshots.filter(pk=vm.head_id, kind=SnapshotKind.AUTO).update(kind=SnapshotKind.SAVE)


def keep_snapshot(snapshot: Snapshot) -> None:
    """Within a transaction: from here on the snapshot is not replaced. Raises `NotFound` if it just was."""
    vm = lock_vm(snapshot.vm_id)
    if vm.head_id == snapshot.pk:
        keep_autosave(vm)
    elif not vm.snapshots.filter(pk=snapshot.pk).exists():
        raise NotFound
