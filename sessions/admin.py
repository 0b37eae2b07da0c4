"""The Django admin of VMs, snapshots and links: for looking and cleaning up. Everyday changes go through the
actions, so what only they may write (leases, roots, secrets) is read-only here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from sessions.models import VM, ImportJob, LinkUse, ShareLink, Snapshot

LEASE = ("epoch", "lease_session", "lease_user", "lease_since", "lease_expires_at")
DEVICES = ("disk_root", "disk_home", "memory_root", "memory_home")


class Rows(admin.ModelAdmin):  # type: ignore[type-arg] # Django's class takes none at run time
    """Rows that only the actions make."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Kept(Rows):
    """Rows that keep chunks alive: one is deleted by giving it a time in `deleted_at`. It can then be brought
    back for a while, and is purged as the collector must see it."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(VM)
class VMAdmin(Kept):
    list_display = (
        "name",
        "tenant",
        "image_version",
        "created_by",
        "last_used_at",
        "stored_bytes",
        "deleted_at",
    )
    list_filter = ("image_version__image", ("deleted_at", admin.EmptyFieldListFilter), "last_used_at")
    list_select_related = ("tenant", "image_version__image", "created_by")
    search_fields = ("id", "name", "tenant__name", "created_by__email")
    autocomplete_fields = ("created_by",)
    readonly_fields = (
        "id",
        "tenant",
        "image_version",
        "head",
        "created_at",
        "stored_bytes",
        "pending_bytes",
        *LEASE,
    )
    date_hierarchy = "created_at"


@admin.register(Snapshot)
class SnapshotAdmin(Kept):
    list_display = ("title", "vm", "tenant", "kind", "author", "created_at", "stored_bytes", "deleted_at")
    list_filter = ("kind", ("deleted_at", admin.EmptyFieldListFilter), "created_at")
    list_select_related = ("vm", "tenant", "author")
    search_fields = ("id", "name", "message", "vm__id", "vm__name", "author__email")
    autocomplete_fields = ("author",)
    readonly_fields = (
        *(
            "id",
            "vm",
            "tenant",
            "parent",
            "kind",
            "created_at",
            "stored_bytes",
            "has_thumbnail",
            "idempotency_key",
        ),
        *DEVICES,
    )
    date_hierarchy = "created_at"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Snapshot]:
        return super().get_queryset(request).defer("thumbnail")


class LinkUseInline(admin.TabularInline):  # type: ignore[type-arg] # as above
    model = LinkUse
    extra = 0
    can_delete = False
    readonly_fields = ("user", "vm", "created_at")

    def has_add_permission(self, request: HttpRequest, obj: ShareLink | None = None) -> bool:
        return False


@admin.register(ShareLink)
class ShareLinkAdmin(Rows):
    list_display = (
        "id",
        "tenant",
        "snapshot",
        "mode",
        "created_by",
        "created_at",
        "expires_at",
        "uses",
        "revoked_at",
    )
    list_filter = ("mode", ("revoked_at", admin.EmptyFieldListFilter), "created_at")
    list_select_related = ("tenant", "snapshot", "created_by")
    search_fields = ("id", "snapshot__id", "snapshot__vm__name", "created_by__email")
    readonly_fields = ("id", "tenant", "snapshot", "mode", "created_by", "created_at", "uses")
    exclude = ("secret_hash",)
    inlines = (LinkUseInline,)


@admin.register(LinkUse)
class LinkUseAdmin(Rows):
    list_display = ("link", "user", "vm", "created_at")
    list_select_related = ("link", "user", "vm")
    search_fields = ("link__id", "user__email", "vm__id")
    readonly_fields = ("link", "user", "vm", "created_at")


@admin.register(ImportJob)
class ImportJobAdmin(Rows):
    list_display = ("id", "tenant", "created_by", "state", "step", "error", "created_at", "finished_at")
    list_filter = ("state", "created_at")
    list_select_related = ("tenant", "created_by")
    search_fields = ("id", "tenant__name", "created_by__email")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
