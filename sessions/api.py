"""`/vms`, `/snapshots` and `/links` of the JSON API."""

from __future__ import annotations

import base64
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Query, Router, Status

from sessions import lists, opening
from sessions.access import get_snapshot, get_vm
from sessions.actions import links, snapshots, vms
from sessions.addresses import link_url
from sessions.models import Snapshot
from sessions.paging import MAX_PAGE_SIZE, PAGE_SIZE, page_of
from sessions.schemas import (
    ExchangeOut,
    ForkIn,
    JournalKey,
    LinkIn,
    LinkOut,
    LinkPage,
    LinkPreview,
    Located,
    LocateIn,
    NewLinkOut,
    OpenDescriptor,
    PackOut,
    ResumeIn,
    SecretIn,
    SnapshotOut,
    SnapshotPage,
    SnapshotPatch,
    VMCreate,
    VMOut,
    VMPage,
    VMPatch,
)
from sessions.thumbnails import picture_type
from storage.cookies import set_chunk_cookies
from webvm.accounts.access import find_tenant, signed_in, tenants_of
from webvm.accounts.auth import OPEN_AUTH
from webvm.accounts.journal import journal_key, journal_owner
from webvm.accounts.limits import limit
from webvm.accounts.models import User
from webvm.accounts.signin import sign_in
from webvm.errors import NotFound

router = Router()
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)]


@router.get("/vms", response=VMPage, tags=["VMs"], summary="List VMs, last used first")
def list_vms(
    request: HttpRequest,
    tenant: UUID | None = None,
    deleted: bool = False,
    running: bool = False,
    cursor: str | None = None,
    limit: Limit = PAGE_SIZE,
) -> Any:
    """Of all your tenants, or of one. `deleted`: those that can still be restored. `running`: those that
    somebody has open.
    """
    user = signed_in(request)
    tenants = [find_tenant(user, tenant)] if tenant else list(tenants_of(user))
    listed = lists.listed_vms(tenants, deleted=deleted)
    listed = lists.only_running(listed) if running else listed
    page = page_of(listed, "last_used_at", cursor, limit)
    return VMPage(items=[VMOut.of(vm) for vm in page.items], next=page.next)


@router.post("/vms", response={201: VMOut}, tags=["VMs"], summary="Create a VM from an image")
def create_vm(request: HttpRequest, payload: VMCreate) -> Any:
    user = signed_in(request)
    tenant = find_tenant(user, payload.tenant) if payload.tenant else None
    vm = vms.create_vm(payload.image, acting_user=user, tenant=tenant, name=payload.name)
    return Status(201, VMOut.of(get_vm(user, vm.pk)))


@router.get("/vms/{uuid:vm_id}", response=VMOut, tags=["VMs"], summary="One VM")
def read_vm(request: HttpRequest, vm_id: UUID) -> Any:
    return VMOut.of(get_vm(signed_in(request), vm_id))


@router.patch("/vms/{uuid:vm_id}", response=VMOut, tags=["VMs"], summary="Rename a VM, set its autosave")
def change_vm(request: HttpRequest, vm_id: UUID, payload: VMPatch) -> Any:
    """Only what is given is changed."""
    user = signed_in(request)
    if payload.autosave_seconds is not None:
        vms.set_autosave(vm_id, payload.autosave_seconds, acting_user=user)
    if payload.name is not None:
        vms.rename_vm(vm_id, payload.name, acting_user=user)
    return VMOut.of(get_vm(user, vm_id))


@router.delete(
    "/vms/{uuid:vm_id}", response={204: None}, tags=["VMs"], summary="Delete a VM (undone by restore)"
)
def delete_vm(request: HttpRequest, vm_id: UUID) -> Any:
    vms.delete_vm(vm_id, acting_user=signed_in(request))
    return Status(204, None)


@router.post(
    "/vms/{uuid:vm_id}/restore", response=VMOut, tags=["VMs"], summary="Undo the deletion, for 30 days"
)
def restore_vm(request: HttpRequest, vm_id: UUID) -> Any:
    return VMOut.of(vms.restore_vm(vm_id, acting_user=signed_in(request)))


@router.get(
    "/vms/{uuid:vm_id}/open",
    url_name="open_vm",
    response=OpenDescriptor,
    tags=["VMs"],
    summary="All a client needs to run it",
)
def open_vm(request: HttpRequest, vm_id: UUID, snapshot: UUID | None = None) -> Any:
    return opening.describe_vm(signed_in(request), vm_id, snapshot)


@router.post(
    "/vms/{uuid:vm_id}/locate",
    response=Located,
    tags=["VMs"],
    summary="Index nodes and chunk URLs",
    url_name="locate_chunks",
)
def locate_chunks(request: HttpRequest, response: HttpResponse, vm_id: UUID, payload: LocateIn) -> Any:
    located, tenants = opening.locate_chunks(
        signed_in(request), vm_id, snapshot_id=payload.snapshot, device=payload.device, leaves=payload.leaves
    )
    set_chunk_cookies(response, tenants)
    return located


@router.post(
    "/vms/{uuid:vm_id}/journal-key",
    url_name="journal_key",
    response=JournalKey,
    tags=["VMs"],
    summary="The key of your journals of unsaved work",
)
def read_journal_key(request: HttpRequest, response: HttpResponse, vm_id: UUID) -> Any:
    """A POST, so that nothing on the way keeps it and no other site can ask."""
    user = signed_in(request)
    vm = get_vm(user, vm_id)
    response.headers["Cache-Control"] = "no-store"
    key = base64.b64encode(journal_key(user, vm.pk)).decode("ascii")
    return JournalKey(key=key, owner=journal_owner(user))


@router.post(
    "/vms/{uuid:vm_id}/resume_from", response=VMOut, tags=["Snapshots"], summary="Move the head of a VM"
)
def resume_from(request: HttpRequest, vm_id: UUID, payload: ResumeIn) -> Any:
    """Refused with `lease_held` while the VM is open somewhere. Nothing is deleted."""
    return VMOut.of(snapshots.resume_from(vm_id, payload.snapshot, acting_user=signed_in(request)))


@router.get(
    "/vms/{uuid:vm_id}/snapshots", response=SnapshotPage, tags=["Snapshots"], summary="History, newest first"
)
def list_snapshots(
    request: HttpRequest,
    vm_id: UUID,
    deleted: bool = False,
    cursor: str | None = None,
    limit: Limit = PAGE_SIZE,
) -> Any:
    vm = get_vm(signed_in(request), vm_id)
    page = page_of(lists.listed_snapshots(vm, deleted=deleted), "created_at", cursor, limit)
    return SnapshotPage(items=[SnapshotOut.of(snapshot) for snapshot in page.items], next=page.next)


@router.get("/snapshots/{uuid:snapshot_id}", response=SnapshotOut, tags=["Snapshots"], summary="One snapshot")
def read_snapshot(request: HttpRequest, snapshot_id: UUID) -> Any:
    return SnapshotOut.of(get_snapshot(signed_in(request), snapshot_id))


@router.patch(
    "/snapshots/{uuid:snapshot_id}", response=SnapshotOut, tags=["Snapshots"], summary="Name a snapshot"
)
def name_snapshot(request: HttpRequest, snapshot_id: UUID, payload: SnapshotPatch) -> Any:
    return SnapshotOut.of(snapshots.name_snapshot(snapshot_id, payload.name, acting_user=signed_in(request)))


@router.delete(
    "/snapshots/{uuid:snapshot_id}", response={204: None}, tags=["Snapshots"], summary="Delete a snapshot"
)
def delete_snapshot(request: HttpRequest, snapshot_id: UUID) -> Any:
    """Undone by restore, for 30 days. The head is refused with `snapshot_is_head`: resume from another one
    first.
    """
    snapshots.delete_snapshot(snapshot_id, acting_user=signed_in(request))
    return Status(204, None)


@router.post(
    "/snapshots/{uuid:snapshot_id}/restore", response=SnapshotOut, tags=["Snapshots"], summary="Undo"
)
def restore_snapshot(request: HttpRequest, snapshot_id: UUID) -> Any:
    return SnapshotOut.of(snapshots.restore_snapshot(snapshot_id, acting_user=signed_in(request)))


@router.post(
    "/snapshots/{uuid:snapshot_id}/fork",
    response={201: VMOut},
    tags=["Snapshots"],
    summary="A new VM from a snapshot",
)
def fork_snapshot(request: HttpRequest, snapshot_id: UUID, payload: ForkIn) -> Any:
    user = signed_in(request)
    tenant = find_tenant(user, payload.tenant) if payload.tenant else None
    vm = snapshots.fork_snapshot(snapshot_id, acting_user=user, tenant=tenant, name=payload.name)
    return Status(201, VMOut.of(get_vm(user, vm.pk)))


@router.get(
    "/snapshots/{uuid:snapshot_id}/thumbnail",
    tags=["Snapshots"],
    summary="The screen's picture",
    url_name="snapshot_thumbnail",
    openapi_extra={"responses": {200: {"content": {"image/png": {}, "image/webp": {}}}}},
)
def read_thumbnail(request: HttpRequest, snapshot_id: UUID) -> HttpResponse:
    snapshot = get_snapshot(signed_in(request), snapshot_id)
    picture = Snapshot.objects.values_list("thumbnail", flat=True).get(pk=snapshot.pk)
    kind = picture_type(bytes(picture)) if picture else None
    if picture is None or kind is None:
        raise NotFound
    response = HttpResponse(bytes(picture), content_type=kind)
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, max-age=86400"  # a snapshot never changes
    return response


@router.get(
    "/vms/{uuid:vm_id}/links", response=LinkPage, tags=["Share links"], summary="A VM's links, newest first"
)
def list_links(request: HttpRequest, vm_id: UUID, cursor: str | None = None, limit: Limit = PAGE_SIZE) -> Any:
    vm = get_vm(signed_in(request), vm_id)
    now = timezone.now()
    page = page_of(lists.listed_links(vm), "created_at", cursor, limit)
    return LinkPage(items=[LinkOut.of(link, now) for link in page.items], next=page.next)


@router.post(
    "/snapshots/{uuid:snapshot_id}/links",
    response={201: NewLinkOut},
    tags=["Share links"],
    summary="Share a snapshot",
)
def make_link(request: HttpRequest, snapshot_id: UUID, payload: LinkIn) -> Any:
    """The answer's `url` is told only now."""
    new = links.make_link(
        snapshot_id,
        acting_user=signed_in(request),
        expires_in=links.lifetime(payload.expires_in),
        max_uses=payload.max_uses,
    )
    return Status(201, NewLinkOut.with_url(new.link, timezone.now(), link_url(request, new.secret)))


@router.delete("/links/{uuid:link_id}", response={204: None}, tags=["Share links"], summary="Revoke a link")
def revoke_link(request: HttpRequest, link_id: UUID) -> Any:
    links.revoke_link(link_id, acting_user=signed_in(request))
    return Status(204, None)


@router.post(
    "/links/preview", response=LinkPreview, auth=OPEN_AUTH, tags=["Share links"], summary="What a link shares"
)
def preview_link(request: HttpRequest, payload: SecretIn) -> Any:
    link = links.look_at_link(payload.secret)
    snapshot = link.snapshot
    picture = bytes(snapshot.thumbnail) if snapshot.thumbnail else b""
    kind = picture_type(picture)
    return LinkPreview(
        name=snapshot.vm.name,
        image=snapshot.vm.image_version.image.title,
        message=snapshot.name or snapshot.message,
        shared_by=str(link.created_by) if link.created_by else None,
        saved_at=snapshot.created_at,
        allow_guests=link.tenant.allow_guests,
        thumbnail=f"data:{kind};base64,{base64.b64encode(picture).decode('ascii')}" if kind else None,
        warm_pack=PackOut.of(snapshot.vm.image_version.warm_pack),
    )


@router.post(
    "/links/exchange", response=ExchangeOut, auth=OPEN_AUTH, tags=["Share links"], summary="Get one's copy"
)
def exchange_link(request: HttpRequest, payload: SecretIn) -> Any:
    """Whoever is not signed in becomes a guest, where the link's tenant allows guests, and is signed in."""
    user = request.user
    if isinstance(user, User):
        vm = links.exchange_link(payload.secret, acting_user=user)
    else:
        limit(request, "guest")
        user, vm = links.exchange_link_as_guest(payload.secret)
        sign_in(request, user)
    return ExchangeOut(vm=VMOut.of(get_vm(user, vm.pk)))
