"""The Django admin of chunks, images and publish jobs: to look things up. Changes go through the actions."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from storage.images.publish import cancel_publish
from storage.models import (
    Chunk,
    Collection,
    Image,
    ImageVersion,
    PublicCollection,
    PublishJob,
    PublishLogLine,
    StagedUpload,
)
from storage.versions import offer_version_again, retire_version
from webvm.accounts.access import signed_in
from webvm.errors import WebVMError


class LookOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that only the service writes."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Chunk)
class ChunkAdmin(LookOnly):
    list_display = (
        *("digest_hex", "tenant", "home", "state", "raw_size", "stored_size"),
        *("node_level", "is_damaged", "created_at"),
    )
    list_filter = ("state", "is_damaged", ("tenant", admin.EmptyFieldListFilter), "node_level", "created_at")
    list_select_related = ("tenant", "home")
    fields = list_display
    search_fields = ("tenant__name",)
    search_help_text = "A digest (64 hex digits) or a tenant's name"
    # Counting a million rows for the page's foot would cost more than the page.
    show_full_result_count = False

    @admin.display(description="digest")
    def digest_hex(self, chunk: Chunk) -> str:
        return bytes(chunk.digest).hex()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Chunk], search_term: str
    ) -> tuple[QuerySet[Chunk], bool]:
        if re.fullmatch("[0-9a-fA-F]{64}", search_term.strip()):
            return queryset.filter(digest=bytes.fromhex(search_term.strip())), False
        return super().get_search_results(request, queryset, search_term)


class VersionInline(admin.TabularInline):  # type: ignore[type-arg]
    model = ImageVersion
    fields = ("number", "disk_root", "is_withdrawn", "published_at")
    readonly_fields = fields
    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Image)
class ImageAdmin(LookOnly):
    list_display = ("title", "slug", "created_at")
    search_fields = ("title", "slug", "description")
    inlines = (VersionInline,)


@admin.register(ImageVersion)
class ImageVersionAdmin(LookOnly):
    list_display = (
        "__str__",
        "published_at",
        "is_withdrawn",
        "freed_at",
        "disk_root",
        "warm_pack_bytes",
        "boot_pack_bytes",
    )
    list_filter = ("is_withdrawn", "image", "published_at")
    list_select_related = ("image",)
    search_fields = ("image__slug", "image__title", "disk_root", "memory_root")
    actions = ("withdraw", "restore")

    @admin.action(description="Withdraw the selected versions")
    def withdraw(self, request: HttpRequest, queryset: QuerySet[ImageVersion]) -> None:
        for version in queryset:
            retire_version(version, acting_user=signed_in(request))

    @admin.action(description="Offer the selected versions again")
    def restore(self, request: HttpRequest, queryset: QuerySet[ImageVersion]) -> None:
        for version in queryset:
            offer_version_again(version, acting_user=signed_in(request))


@admin.register(PublishJob)
class PublishJobAdmin(LookOnly):
    list_display = ("slug", "state", "step", "created_by", "created_at", "heartbeat_at", "finished_at")
    list_filter = ("state", "created_at")
    list_select_related = ("created_by",)
    search_fields = ("slug", "error", "created_by__email")
    actions = ("cancel",)

    @admin.action(description="Cancel the selected jobs")
    def cancel(self, request: HttpRequest, queryset: QuerySet[PublishJob]) -> None:
        for job in queryset:
            try:
                cancel_publish(job, acting_user=signed_in(request))
            except WebVMError as error:
                self.message_user(request, f"{job}: {error.text}", messages.ERROR)


@admin.register(PublishLogLine)
class PublishLogLineAdmin(LookOnly):
    list_display = ("job", "seq", "text", "created_at")
    list_filter = ("created_at",)
    list_select_related = ("job",)
    search_fields = ("text", "job__slug")
    show_full_result_count = False


@admin.register(Collection)
class CollectionAdmin(LookOnly):
    list_display = ("tenant", "phase", "garbage_since", "started_at", "heartbeat_at", "finished_at", "error")
    list_filter = ("phase", ("error", admin.EmptyFieldListFilter))
    list_select_related = ("tenant",)
    search_fields = ("tenant__name",)


@admin.register(PublicCollection)
class PublicCollectionAdmin(LookOnly):
    list_display = (*CollectionAdmin.list_display[1:], "has_borrowed")


@admin.register(StagedUpload)
class StagedUploadAdmin(LookOnly):
    list_display = ("name", "tenant", "size", "placed_at")
    list_select_related = ("tenant",)
    search_fields = ("tenant__name", "name")
