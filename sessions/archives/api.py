"""Downloads of a snapshot (its disk, the whole machine), and imports."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any
from uuid import UUID

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.http import content_disposition_header
from ninja import Router, Status

from sessions.access import get_snapshot
from sessions.archives.downloads import Download, asked_range
from sessions.archives.errors import RangeNotSatisfiable
from sessions.archives.export import SUFFIX, archive_parts, file_name
from sessions.archives.imports import SIZE_KEY, begin_import, cancel_import, find_import, latest_imports
from sessions.archives.schemas import ImportList, ImportOut
from sessions.devices import device_of
from sessions.models import Snapshot
from storage.codec import BLOCK
from storage.devices import read_bytes
from webvm.accounts.access import find_tenant, signed_in
from webvm.accounts.limits import limit
from webvm.accounts.models import User

router = Router(tags=["Archives"])
_BINARY: dict[str, Any] = {"type": "string", "format": "binary"}


def _binary(kind: str) -> dict[str, Any]:
    return {"responses": {200: {"content": {kind: {"schema": _BINARY}}}}}


@router.api_operation(
    ["GET", "HEAD"],
    "/snapshots/{uuid:snapshot_id}/disk.raw",
    summary="The disk as a raw image",
    url_name="snapshot_disk",
    openapi_extra=_binary("application/octet-stream"),
)
def read_disk(request: HttpRequest, snapshot_id: UUID) -> HttpResponse | Download:
    """An ext4 file system without a partition table. One `Range` is answered, so that a download that broke
    off can go on.
    """
    user, snapshot = _wanted(request, snapshot_id)
    disk = device_of(snapshot.vm, snapshot, "disk")
    size, etag = disk.blocks * BLOCK, f'"{disk.root or "0" * 64}-{disk.blocks}"'
    name = file_name(snapshot, ".raw")
    try:
        part = asked_range(request.headers.get("Range"), request.headers.get("If-Range"), etag, size)
    except RangeNotSatisfiable as error:
        content_range = {"Content-Range": f"bytes */{size}"}
        return JsonResponse({"error": error.as_json()}, status=416, headers=content_range)
    start, end = part or (0, size)
    headers = {"Content-Length": str(end - start), "Accept-Ranges": "bytes", "ETag": etag}
    kind = "application/octet-stream"
    if part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    if request.method == "HEAD":
        headers["Content-Disposition"] = content_disposition_header(True, name) or ""
        return HttpResponse(content_type=kind, headers=headers)
    return Download(
        _begun(read_bytes(disk.root, disk.home, disk.blocks, start, end)),
        user=user,
        tenant=snapshot.vm.tenant,
        name=name,
        kind=kind,
        status=206 if part else 200,
        headers=headers,
    )


@router.get(
    "/snapshots/{uuid:snapshot_id}/export",
    summary="The whole machine as one file",
    url_name="snapshot_export",
    openapi_extra=_binary("application/zstd"),
)
def export_snapshot(request: HttpRequest, snapshot_id: UUID) -> Download:
    """Disk, memory and what they are of, as a tar in zstd frames (docs/design/archive.md)."""
    user, snapshot = _wanted(request, snapshot_id)
    snapshot.refresh_from_db(fields=["thumbnail"])
    return Download(
        _begun(archive_parts(snapshot)),
        user=user,
        tenant=snapshot.vm.tenant,
        name=file_name(snapshot, SUFFIX),
        kind="application/zstd",
    )


def _wanted(request: HttpRequest, snapshot_id: UUID) -> tuple[User, Snapshot]:
    user = signed_in(request)
    snapshot = get_snapshot(user, snapshot_id)
    limit(request, "download")
    return user, snapshot


def _begun(parts: Iterator[bytes]) -> Generator[bytes]:
    """The same parts; what goes wrong with the first one is an answer of its own, not a broken download."""
    first = next(parts, b"")

    def all_parts() -> Generator[bytes]:
        yield first
        yield from parts

    return all_parts()


@router.post("/vms/import", response={202: ImportOut}, summary="Import a machine", url_name="import_vm")
def import_vm(
    request: HttpRequest, tenant: UUID | None = None, name: str = "", key: UUID | None = None
) -> Any:
    """The body is the archive, at most the tenant's quota and the site's limit. `key`: a UUID of yours; the
    same one again answers the same import. Follow it with `GET /imports/{id}`: it is done when it has a `vm`.
    """
    user = signed_in(request)
    limit(request, "import")
    job = begin_import(
        acting_user=user,
        tenant=find_tenant(user, tenant) if tenant else None,
        name=name,
        key=key,
        size=request.scope.get(SIZE_KEY) if isinstance(request, ASGIRequest) else None,
    )
    return Status(202, ImportOut.of(job))


@router.get("/imports", response=ImportList, summary="Your latest imports", url_name="list_imports")
def list_imports(request: HttpRequest) -> Any:
    return ImportList(items=[ImportOut.of(job) for job in latest_imports(signed_in(request))])


@router.get("/imports/{uuid:job_id}", response=ImportOut, summary="How far an import is", url_name="import")
def read_import(request: HttpRequest, job_id: UUID) -> Any:
    return ImportOut.of(find_import(signed_in(request), job_id))


@router.delete("/imports/{uuid:job_id}", response=ImportOut, summary="Cancel an import")
def cancel(request: HttpRequest, job_id: UUID) -> Any:
    return ImportOut.of(cancel_import(job_id, acting_user=signed_in(request)))
