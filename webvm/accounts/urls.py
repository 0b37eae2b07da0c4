"""Pages of accounts and tenants."""

from allauth.account import views as allauth_views
from django.urls import path

from webvm.accounts.views import doors, profile, tenants

urlpatterns = [
    # Guests have no address or password to change: they sign up first. (Before allauth's own patterns.)
    path("accounts/email/", doors.not_for_guests(allauth_views.email)),
    path("accounts/password/change/", doors.not_for_guests(allauth_views.password_change)),
    path("accounts/password/set/", doors.not_for_guests(allauth_views.password_set)),
    path("sign-in-link/", doors.sign_in_link, name="sign_in_link"),
    path("join/", doors.join, name="join"),
    path("keep/", doors.keep, name="keep_guest"),
    path("settings/", profile.profile, name="settings"),
    path("settings/tokens/", profile.tokens, name="tokens"),
    path("settings/tokens/<int:token_id>/revoke/", profile.revoke, name="revoke_token"),
    path("settings/delete-account/", profile.delete, name="delete_account"),
    path("settings/tenants/", tenants.tenants, name="tenants"),
    path("settings/tenants/<uuid:tenant_id>/", tenants.tenant, name="tenant"),
    path("settings/tenants/<uuid:tenant_id>/switch/", tenants.switch, name="switch_tenant"),
    path("settings/tenants/<uuid:tenant_id>/delete/", tenants.delete, name="delete_tenant"),
    path("settings/tenants/<uuid:tenant_id>/audit/", tenants.audit, name="tenant_audit"),
    path("settings/tenants/<uuid:tenant_id>/members/", tenants.add_member, name="add_member"),
    path(
        "settings/tenants/<uuid:tenant_id>/members/<int:member_id>/role/",
        tenants.change_role,
        name="change_role",
    ),
    path(
        "settings/tenants/<uuid:tenant_id>/members/<int:member_id>/remove/",
        tenants.remove_member,
        name="remove_member",
    ),
    path(
        "settings/tenants/<uuid:tenant_id>/invitations/", tenants.create_invitation, name="create_invitation"
    ),
    path(
        "settings/tenants/<uuid:tenant_id>/invitations/<int:invitation_id>/revoke/",
        tenants.revoke_invitation,
        name="revoke_invitation",
    ),
]
