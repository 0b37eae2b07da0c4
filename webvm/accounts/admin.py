"""The Django admin of accounts, for site admins."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse

from webvm.accounts.access import signed_in
from webvm.accounts.actions import create_sign_in_link, delete_account
from webvm.accounts.models import ApiToken, AuditEntry, Invitation, Membership, SignInLink, Tenant, User


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that only the service writes."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class NewUserForm(AdminUserCreationForm):  # type: ignore[type-arg]
    class Meta:
        model = User
        fields = ("email", "name")
        field_classes = {"email": forms.EmailField}


class ChangeUserForm(UserChangeForm):  # type: ignore[type-arg]
    class Meta:
        model = User
        fields = "__all__"
        field_classes = {"email": forms.EmailField}


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Membership
    extra = 0
    autocomplete_fields = ("tenant", "user")


@admin.register(User)
class UserAdmin(DjangoUserAdmin):  # type: ignore[type-arg]
    form = ChangeUserForm
    add_form = NewUserForm
    ordering = ("-date_joined",)
    list_display = ("email", "name", "is_staff", "is_guest", "is_active", "date_joined", "last_login")
    list_filter = ("is_staff", "is_guest", "is_active", "date_joined")
    search_fields = ("email", "name")
    readonly_fields = ("date_joined", "last_login")
    fieldsets = (
        (None, {"fields": ("email", "name", "password")}),
        ("May", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Guest", {"fields": ("is_guest", "guest_expires_at")}),
        ("Dates", {"fields": ("date_joined", "last_login")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "name", "usable_password", "password1", "password2")}),)
    inlines = (MembershipInline,)
    actions = ("make_sign_in_link",)

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """As the settings page does it: tenants that nobody else is in go with their user."""
        delete_account(obj, acting_user=signed_in(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            self.delete_model(request, user)

    @admin.action(description="Make a one-time sign-in link")
    def make_sign_in_link(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        if not isinstance(request.user, User) or not request.user.is_superuser:
            self.message_user(request, "Only superusers make sign-in links.", messages.ERROR)
            return
        for user in queryset[:10]:
            secret = create_sign_in_link(user, acting_user=request.user)
            link = f"{request.build_absolute_uri(reverse('sign_in_link'))}#{secret}"
            self.message_user(request, f"{user.email}, once within 24 hours: {link}")


@admin.register(Tenant)
class TenantAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = (
        "name",
        "is_personal",
        "used_bytes",
        "quota_bytes",
        "max_vms",
        "max_sessions",
        "allow_guests",
        "created_at",
        "deleted_at",
    )
    list_filter = ("is_personal", "allow_guests", "created_at", ("deleted_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "id", "memberships__user__email")
    readonly_fields = ("id", "used_bytes", "condemned_bytes", "created_at", "deleted_at")
    inlines = (MembershipInline,)

    def has_delete_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        return False  # forks in other tenants may read its chunks; owners delete from the settings page


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("tenant", "user", "role", "created_at")
    list_filter = ("role", "created_at")
    list_select_related = ("tenant", "user")
    search_fields = ("tenant__name", "user__email", "user__name")
    autocomplete_fields = ("tenant", "user")


@admin.register(Invitation)
class InvitationAdmin(ReadOnly):
    list_display = ("tenant", "role", "email", "created_by", "expires_at", "accepted_by", "accepted_at")
    list_filter = ("role", ("accepted_at", admin.EmptyFieldListFilter))
    list_select_related = ("tenant", "created_by", "accepted_by")
    search_fields = ("tenant__name", "email", "accepted_by__email")
    exclude = ("secret_hash",)


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnly):
    list_display = ("name", "prefix", "user", "created_at", "last_used_at", "expires_at")
    list_filter = ("created_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("name", "prefix", "user__email")
    exclude = ("token_hash",)


@admin.register(SignInLink)
class SignInLinkAdmin(ReadOnly):
    list_display = ("user", "created_at", "expires_at", "used_at")
    list_filter = (("used_at", admin.EmptyFieldListFilter),)
    list_select_related = ("user",)
    search_fields = ("user__email",)
    exclude = ("token_hash",)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly):
    list_display = ("created_at", "action", "acting_user", "tenant", "target_type", "target_id")
    list_filter = ("action", "target_type", "created_at")
    list_select_related = ("acting_user", "tenant")
    search_fields = ("action", "target_id", "acting_user__email", "tenant__name")
    date_hierarchy = "created_at"

    def has_delete_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        return False


admin.site.site_header = "WebVM administration"
admin.site.site_title = "WebVM"
admin.site.index_title = "All data of the service"
